"""Methods along paths against their oracles, and their sums against the rise in score that they stand for."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.methods.networks import Small, gradient_of, seen_by
from tests.oracles import paths as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain
from whycam.engine import variants
from whycam.errors import MethodError
from whycam.methods import METHODS, paths

LABELS = (2, 0, 1)
SIZES = [(7,), (5, 6), (3, 4, 5)]
EVERY = ["integrated", "expected", "blurig", "guidedig"]


def drawn(*size: int, count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    random = torch.Generator().manual_seed(sum(size))
    return torch.randn(count, 2, *size, generator=random, dtype=dtype)


def built(axes: int, *activations: nn.Module) -> nn.Module:
    return Small(axes, *activations).double().eval()


def score(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)[torch.arange(len(images)), list(LABELS[: len(images)])]


def given(name: str, **options: Any) -> partial[Tensor]:
    return partial(METHODS[name].function, **options)


@pytest.mark.parametrize("size", SIZES)
def test_integrated_is_what_its_paper_says(size, seed):
    model, images = built(len(size)), drawn(*size)
    baseline = torch.tensor([0.3, -0.5]).view(2, *[1] * len(size))
    maps = explain(model, images, method=given("integrated", baseline=baseline, steps=9), target=list(LABELS))
    start = baseline.double().expand(images[0].shape).numpy()
    for image, label, found in zip(images, LABELS, maps.maps, strict=True):
        expected = oracle.integrated(image.numpy(), gradient_of(model, label), start, 9)
        assert disagreement(found, expected) < 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_blurig_is_what_its_paper_says(size, seed):
    model, images = built(len(size)), drawn(*size)
    maps = explain(model, images, method=given("blurig", blur=0.4, steps=5), target=list(LABELS)).maps
    for image, label, found in zip(images, LABELS, maps, strict=True):
        expected = oracle.blurig(image.numpy(), gradient_of(model, label), 5, 0.4)
        assert disagreement(found, expected) < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fraction", [0.1, 0.3, 1.0])
def test_guidedig_is_what_its_paper_says(size, fraction, seed):
    model, images = built(len(size)), drawn(*size)
    images[:, :, 0] = 0.25  # as the baseline: never to be moved
    options = {"steps": 12, "fraction": fraction, "distance": 0.1, "baseline": 0.25}
    maps = explain(model, images, method=given("guidedig", **options), target=list(LABELS)).maps
    for image, label, found in zip(images, LABELS, maps, strict=True):
        expected = oracle.guidedig(
            image.numpy(), gradient_of(model, label), np.full(image.shape, 0.25), 12, fraction, 0.1
        )
        assert disagreement(found, expected) < 1e-9


def draws_in(points: Tensor, image: Tensor, references: Tensor) -> list[tuple[np.ndarray, float]]:
    """Return each point's reference and place, from the line between a reference and the image it lies on."""
    found = []
    for point in points:
        fits = []
        for reference in references:
            line = image - reference
            place = float(((point - reference) * line).sum() / line.square().sum())
            fits.append((float((reference + place * line - point).abs().max()), reference.numpy(), place))
        off, reference, place = min(fits, key=lambda fit: fit[0])
        assert off < 1e-9
        found.append((reference, place))
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False], ids=["references", "own colours"])
def test_expected_is_what_its_paper_says_of_the_draws_that_the_model_saw(size, known, seed):
    model, images = built(len(size)), drawn(*size)
    for image, label in zip(images, LABELS, strict=True):
        colours = image.flatten(1).T.reshape(-1, 2, *[1] * len(size)).expand(-1, *image.shape)
        references = drawn(*size, count=4) + 1.0 if known else colours
        seen = seen_by(model)
        method = given("expected", samples=15, references=references if known else None)
        (found,) = explain(model, image[None], method=method, target=label).maps
        draws = draws_in(torch.cat(seen[1:]), image, references)
        assert [int(15 * place) for _, place in draws] == list(range(15))
        assert len({reference.tobytes() for reference, _ in draws}) > 1
        assert disagreement(found, oracle.expected(image.numpy(), gradient_of(model, label), draws)) < 1e-9


@pytest.mark.parametrize("name", EVERY)
def test_a_map_depends_neither_on_the_batch_nor_on_what_goes_through_at_once(name, seed, monkeypatch):
    model, images = built(2, nn.ReLU(), nn.ReLU()), drawn(5, 6)
    options = {"samples": 11} if name == "expected" else {"steps": 11}
    give = partial(explain, model, method=given(name, **options), target=list(LABELS))
    whole = give(images).maps
    assert torch.allclose(give(images, batch_size=1).maps, whole, rtol=1e-10, atol=1e-13)
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 7 * 60 / variants.SLOPES_SHARE)
    assert torch.allclose(give(images).maps, whole, rtol=1e-10, atol=1e-13)


def rises(model: nn.Module, images: Tensor, baseline: Tensor) -> Tensor:
    return score(model, images) - score(model, baseline.expand_as(images))


@pytest.mark.parametrize("size", SIZES)
def test_on_a_smooth_model_integrated_sums_to_the_rise_in_score_to_rounding(size, seed):
    model, images = built(len(size)), drawn(*size)
    rise = rises(model, images, torch.zeros_like(images))
    errors = []
    for steps in (2, 5, 50):
        maps = explain(model, images, method=given("integrated", steps=steps), target=list(LABELS)).maps
        errors.append(float((maps.flatten(1).sum(1) - rise).abs().max()))
    assert errors[0] > 100 * errors[1]
    assert errors[2] < 1e-12


def test_on_a_relu_model_integrated_nears_the_rise_in_score_as_steps_grow(seed):
    model, images = built(2, nn.ReLU(), nn.ReLU()), drawn(12, 13)
    rise = rises(model, images, torch.zeros_like(images))
    errors = []
    for steps in (3, 30, 300):
        maps = explain(model, images, method=given("integrated", steps=steps), target=list(LABELS)).maps
        errors.append(float((maps.flatten(1).sum(1) - rise).abs().max() / rise.abs().max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_blurig_sums_to_the_rise_in_score_from_the_mean_colour(size, seed):
    model, images = built(len(size)), drawn(*size)
    mean = images.mean(tuple(range(2, images.ndim)), keepdim=True)
    maps = explain(model, images, method=given("blurig", blur=4.0), target=list(LABELS)).maps
    rise = rises(model, images, mean)
    assert float((maps.flatten(1).sum(1) - rise).abs().max() / rise.abs().max()) < 1e-6


def test_blurring_keeps_each_bands_mean_and_never_goes_beyond_its_values(seed):
    model, images = built(2), drawn(6, 9, count=1)
    seen = seen_by(model)
    explain(model, images, method="blurig", target=0)
    blurred = torch.cat(seen[1:])
    assert torch.allclose(blurred.mean((2, 3)), images.mean((2, 3)).expand(50, 2), atol=1e-12)
    largest, spread = blurred.amax((2, 3)), blurred.std((2, 3))
    assert (largest <= images.amax((2, 3)) + 1e-12).all()
    assert (spread[1:] - spread[:-1] < 1e-12).all()  # the places come in the order of their sigmas


def test_guidedig_nears_the_rise_in_score_as_steps_grow(seed):
    model, images = built(2), drawn(5, 6)
    rise = rises(model, images, torch.zeros_like(images))
    errors = []
    for steps in (4, 60):
        maps = explain(model, images, method=given("guidedig", steps=steps), target=list(LABELS)).maps
        errors.append(float((maps.flatten(1).sum(1) - rise).abs().max() / rise.abs().max()))
    assert errors[0] > 10 * errors[1]
    assert errors[1] < 1e-3


def test_guidedig_tied_to_the_straight_line_is_integrated(seed):
    model, images = built(2), drawn(5, 6)
    tied = explain(model, images, method=given("guidedig", steps=60, distance=0.0), target=0).maps
    straight = explain(model, images, method="integrated", target=0).maps
    assert disagreement(tied, straight.numpy()) < 1e-4


def test_expected_sums_to_the_score_less_the_mean_score_of_the_references(seed):
    model, images = built(2), drawn(5, 6)
    references = drawn(5, 6, count=5) + 2.0
    maps = explain(
        model, images, method=given("expected", references=references, samples=3000), target=list(LABELS)
    ).maps
    with torch.no_grad():
        expected = score(model, images) - model(references).mean(0)[list(LABELS)]
        deviation = float(model(references).std(0).max())
    # a mean of 3,000 draws: 5 standard errors
    assert float((maps.flatten(1).sum(1) - expected).abs().max()) < 5 * deviation / 3000**0.5


@pytest.mark.parametrize("name", EVERY)
def test_an_image_that_is_its_own_baseline_has_a_map_of_zeros(name, seed):
    model, images = built(2), torch.zeros(2, 2, 5, 6, dtype=torch.float64)
    method = given("guidedig", steps=5) if name == "guidedig" else name
    explanation = explain(model, images, method=method, target=0)
    assert not explanation.maps.any()
    assert explanation.blank.all()


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (given("integrated", steps=0), "steps is 0;"),
        (given("integrated", baseline=torch.zeros(3, 2, 5, 6)), r"baseline is \[3, 2, 5, 6\]; expected"),
        (given("guidedig", baseline=torch.zeros(7)), r"baseline is \[7\]; expected"),
        (given("guidedig", fraction=0.0), r"fraction=0\.0"),
        (given("guidedig", steps=0), "steps=0"),
        (given("blurig", blur=0.0), "blur is 0"),
        (given("expected", samples=0), "samples is 0;"),
        (given("expected", references=torch.zeros(2, 2, 5, 5)), r"references are \[2, 2, 5, 5\]; expected"),
    ],
)
def test_options_that_make_no_sense_are_refused(method, complaint, seed):
    with pytest.raises(MethodError, match=complaint) as caught:
        explain(built(2), drawn(5, 6), method=method, target=0)
    assert "\n" not in str(caught.value)


def test_quadrature_is_exact_for_polynomials_of_twice_its_degree():
    places, weights = paths._quadrature(6, drawn(3))
    for power in range(12):
        assert abs(float((weights * places**power).sum()) - 1 / (power + 1)) < 1e-14
