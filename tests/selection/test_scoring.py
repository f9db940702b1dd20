"""Figures are those of scikit-learn in float64, and do not depend on how images are cut into batches."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor, nn

from whycam.errors import EngineError, UsageError
from whycam.models import LoadedModel, Preprocessing, Provenance
from whycam.selection.scoring import evaluate, macro_f1, output_count

CLASSES, IMAGES = 5, 101


class Readout(nn.Module):
    """Takes its class scores from the pixels themselves, so that a batch changes nothing in them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        self.seen.append((len(images), last, torch.is_inference_mode_enabled()))
        scores = images[:, 0, 0, :].clone()
        images.zero_()  # as a model that normalises in place: nobody else may see it
        return scores


def model_of(module: nn.Module, **more: Any) -> LoadedModel:
    prep = Preprocessing.for_size((2, CLASSES), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    place = torch.device("cpu")
    return LoadedModel(module, prep, None, "test", Provenance("random"), place, **more)


@pytest.fixture
def images() -> Tensor:
    drawn = torch.randn(IMAGES, 3, 2, CLASSES, generator=torch.Generator().manual_seed(5)) * 3
    return drawn.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, CLASSES - 1, (IMAGES,), generator=torch.Generator().manual_seed(6))


def test_accuracy_loss_and_macro_f1_are_scikit_learns(images: Tensor, labels: Tensor) -> None:
    score = evaluate(model_of(Readout()), images, labels, 16)
    logits = images[:, 0, 0, :].double().numpy()
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    predicted = logits.argmax(1)
    assert score.images == IMAGES
    assert score.accuracy == accuracy_score(labels.numpy(), predicted)
    assert score.loss == pytest.approx(log_loss(labels.numpy(), shares, labels=range(CLASSES)), rel=1e-12)
    assert score.macro_f1 == pytest.approx(f1_score(labels.numpy(), predicted, average="macro"), rel=1e-12)
    assert 0 < score.seconds_an_image < 1


def test_a_class_that_is_neither_label_nor_prediction_is_no_zero_in_macro_f1() -> None:
    labels, predictions = torch.tensor([0, 0, 7]), torch.tensor([0, 7, 7])
    expected = f1_score(labels.numpy(), predictions.numpy(), average="macro")
    assert macro_f1(predictions, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_how_images_are_cut_into_batches_changes_no_bit(
    images: Tensor, labels: Tensor, batch_size: int
) -> None:
    one, other = (evaluate(model_of(Readout()), images, labels, size) for size in (16, batch_size))
    assert (one.correct, one.loss, one.macro_f1) == (other.correct, other.loss, other.macro_f1)


def test_a_pass_runs_in_inference_mode_channels_last_on_a_copy(images: Tensor, labels: Tensor) -> None:
    before, network = images.clone(), Readout()
    evaluate(model_of(network), images, labels, 50)
    assert network.seen == [(50, True, True), (50, True, True), (1, False, True)]
    assert torch.equal(images, before)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_a_model_that_wants_the_usual_order_in_memory_gets_it(
    images: Tensor, labels: Tensor, batch_size: int
) -> None:
    class Viewing(Readout):
        def forward(self, images: Tensor) -> Tensor:
            return images.view(len(images), -1)[:, :CLASSES]

    score, expected = (
        evaluate(model_of(module), images, labels, batch_size) for module in (Viewing(), Readout())
    )
    assert (score.correct, score.loss) == (expected.correct, expected.loss)


def test_the_time_is_the_median_of_whole_batches(
    images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0, 22.0, 30.0, 34.0, 40.0, 45.0, 50.0, 59.0, 60.0, 99.0])
    monkeypatch.setattr("whycam.selection.scoring.time.perf_counter", lambda: next(clock))
    assert evaluate(model_of(Readout()), images, labels, 20).seconds_an_image == 5.0 / 20


def test_outputs_that_are_no_numbers_and_failing_models_are_one_line(images: Tensor, labels: Tensor) -> None:
    images[3, 0, 0, 1] = torch.inf
    with pytest.raises(EngineError, match="for 1 of 16 images hold NaN or infinity"):
        evaluate(model_of(Readout()), images, labels, 16)
    with pytest.raises(EngineError, match="the model failed on 16 images of 3 x 2 x 5: RuntimeError"):
        evaluate(model_of(nn.Conv2d(4, 4, 1)), images, labels, 16)


def test_a_batch_that_does_not_fit_says_which_option_helps(images: Tensor, labels: Tensor) -> None:
    class Full(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("no memory")

    with pytest.raises(UsageError, match=r"16 images at once do not fit .*; give a smaller --batch-size"):
        evaluate(model_of(Full()), images, labels, 16)


def test_outputs_are_counted_in_a_forward() -> None:
    assert output_count(model_of(Readout())) == CLASSES
