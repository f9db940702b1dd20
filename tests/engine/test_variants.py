"""Scores of changed images and activations: right for each image, in any chunks, under any target."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from whycam import Contrast, explain, explain_targets
from whycam.engine import Inputs, address_of, capture, explaining, variants
from whycam.engine.activations import scores_of_activations
from whycam.engine.suffix import Suffix
from whycam.targets import as_target
from whycam.targets.base import CustomTarget

IMAGES = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture
def model(seed: int) -> nn.Sequential:
    layers = (nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(240, 4)).double().eval()


def darkened(images: Tensor, scores_of: Any) -> Tensor:
    """Take from the score what is left of it at three brightnesses: a method of one cell an image."""
    rows = torch.arange(len(images)).repeat_interleave(3)
    factors = torch.tensor([0.0, 0.5, 2.0], dtype=images.dtype).repeat(len(images))

    def make(which: Tensor) -> Tensor:
        return images[rows[which]] * factors[which].view(-1, 1, 1, 1)

    return scores_of(rows, make, known_as="darkened").view(-1, 1, 3)


@pytest.mark.parametrize("values", [60, 120, 10**9])
def test_each_variant_is_scored_as_its_own_image_under_its_own_target(model, values, monkeypatch):
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", values)
    targets: list[Any] = [2, Contrast(0, 3), CustomTarget(lambda outputs: outputs[:, 1] ** 2)]
    found = explain(model, IMAGES, method=darkened, target=targets).maps
    with torch.no_grad():
        for image, target, row in zip(IMAGES, targets, found, strict=True):
            logits = torch.cat([model(image[None] * factor) for factor in (0.0, 0.5, 2.0)])
            if target == 2:
                expected = logits[:, 2]
            elif isinstance(target, CustomTarget):
                expected = logits[:, 1] ** 2
            else:
                expected = logits[:, 0] - logits[:, 3]
            assert torch.allclose(row[0], expected, rtol=1e-12)


def test_several_targets_share_the_forwards_of_named_variants(model):
    calls = []
    model.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    alone = [explain(model, IMAGES, method=darkened, target=target).maps for target in (0, 1, 2)]
    assert calls == [3, 9] * 3
    calls.clear()
    together = explain_targets(model, IMAGES, [0, 1, 2], method=darkened)
    assert calls == [3, 9]
    for one, shared in zip(alone, together, strict=True):
        assert torch.equal(one, shared.maps)


def test_a_penalty_is_in_the_gradients_and_not_in_the_scores(model):
    rows, points = torch.tensor([1, 0]), torch.tensor([[0.5], [2.0]], dtype=torch.float64)

    def into(leaf: Tensor, which: Tensor) -> Tensor:
        return IMAGES[rows[which]] * leaf[:, :, None, None]

    with explaining(model) as live:
        inputs = Inputs.of(IMAGES)
        given = (live, inputs, as_target(1, 3), rows, points.__getitem__, into)
        ((which, scores, plain),) = variants.slopes_of_images(*given)
        ((_, same, less),) = variants.slopes_of_images(*given, lambda leaf, which: 3 * leaf[:, 0] ** 2)
    assert which.tolist() == [0, 1]
    assert torch.equal(scores, same)
    assert torch.allclose(plain - less, 6 * points, rtol=1e-9)


def test_many_changed_images_have_their_channels_last_unless_the_model_fails_on_them(seed):
    seen = []

    class Viewing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.is_contiguous())
            return images.view(len(images), -1)[:, :2]

    images, rows = torch.randn(2, 3, 4, 4), torch.arange(20) % 2
    with explaining(Viewing()) as live:
        for _ in range(2):
            inputs = Inputs.of(images)
            found = variants.scores_of_images(
                live, inputs, [as_target(0, 2)], rows, lambda which: images[rows[which]]
            )
    assert seen == [False, True, True]
    assert torch.equal(found[0], images[rows, 0, 0, 0])


def test_changed_activations_are_scored_with_what_follows_the_layer(model):
    rows = torch.tensor([2, 0, 2, 1])
    with explaining(model) as live:
        found = capture(live, IMAGES, [address_of(live, "0")])
        layer = found.layers[0]
        clean = layer.activations()
        scored = scores_of_activations(
            Suffix(live, Inputs.of(IMAGES), layer, found.outputs),
            [as_target(1, 3)],
            rows,
            lambda which: clean[rows[which]] * which.view(-1, 1, 1, 1),
        )
    with torch.no_grad():
        expected = model[1:](clean[rows] * torch.arange(4).view(-1, 1, 1, 1))[:, 1]
    assert torch.allclose(scored[0], expected, rtol=1e-12)


def test_a_chunk_that_does_not_fit_is_halved_and_nothing_is_lost():
    asked = []

    def run(which: Tensor) -> Tensor:
        asked.append(len(which))
        if len(which) > 3:
            raise torch.OutOfMemoryError("no memory")
        return which * 10

    found = list(variants.in_chunks(10, 8, run, torch.device("cpu")))
    assert torch.cat([values for _, values in found]).tolist() == [10 * i for i in range(10)]
    assert asked == [8, 4, 2, 2, 2, 2, 2]


def test_an_image_that_does_not_fit_alone_is_an_error():
    def run(which: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(variants.in_chunks(10, 8, run, torch.device("cpu")))
    with pytest.raises(RuntimeError, match="another"):
        list(variants.in_chunks(10, 8, lambda which: _fail(), torch.device("cpu")))


def _fail() -> Tensor:
    raise RuntimeError("another")
