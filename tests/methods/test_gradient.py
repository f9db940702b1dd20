"""The methods of activations and gradients, held to the plain loops of ``tests.oracles.gradient``."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.oracles import draws
from tests.oracles import gradient as oracles
from torch import nn

from whycam.errors import MethodError
from whycam.methods import gradient as methods

NAMES = (
    "gradcam",
    "gradcam_plus_plus",
    "xgradcam",
    "hirescam",
    "gradcam_elementwise",
    "layercam",
)
every_method = pytest.mark.parametrize("name", NAMES)


def well_conditioned(activations: np.ndarray, gradients: np.ndarray, share: float) -> bool:
    """Tell whether every denominator is exactly 0 or keeps at least this share of its terms."""
    for k in range(len(activations)):
        total = oracles.channel_sum(activations, k)
        if total != 0.0 and abs(total) < share * np.abs(activations[k]).sum():
            return False
        for g in gradients[k].ravel():
            denominator = 2.0 + total * g
            if denominator != 0.0 and abs(denominator) < share * (2.0 + abs(total * g)):
                return False
    return True


def scale_of(oracle, activations: np.ndarray, gradients: np.ndarray) -> float:
    """Give the map's maximum, or where its channels cancel to nothing the sum of their maxima."""
    peak = np.abs(oracle(activations, gradients)).max()
    alone = [oracle(activations[k : k + 1], gradients[k : k + 1]) for k in range(len(activations))]
    magnitude = sum(np.abs(contribution).max() for contribution in alone)
    return float(peak if peak > 1e-6 * magnitude else magnitude)


@every_method
@given(draw=draws.draws())
@draws.check
def test_map_agrees_with_the_papers_formula_by_loops(name, draw):
    oracle = getattr(oracles, name)
    assume(all(well_conditioned(a, g, share=1e-6) for a, g in draw.images))
    maps = getattr(methods, name)(draw.activations, draw.gradients)
    assert maps.dtype == torch.float64
    for got, (activations, gradients) in zip(maps, draw.images, strict=True):
        scale = scale_of(oracle, activations, gradients)
        assert draws.disagreement(got, oracle(activations, gradients), scale) < 1e-9


@every_method
@given(draw=draws.draws())
@draws.check
def test_float32_stays_float32_and_agrees_to_its_precision(name, draw):
    oracle = getattr(oracles, name)
    single = draws.Draw(draw.activations.float().double(), draw.gradients.float().double())
    assume(all(well_conditioned(a, g, share=1e-2) for a, g in single.images))
    maps = getattr(methods, name)(draw.activations.float(), draw.gradients.float())
    assert maps.dtype == torch.float32
    for got, (activations, gradients) in zip(maps, single.images, strict=True):
        alone = [oracle(activations[k : k + 1], gradients[k : k + 1]) for k in range(len(activations))]
        magnitude = float(sum(np.abs(contribution).max() for contribution in alone))
        assert draws.disagreement(got, oracle(activations, gradients), magnitude) < 1e-4


@every_method
@given(draw=draws.draws())
@draws.check
def test_an_images_map_does_not_depend_on_the_rest_of_the_batch(name, draw):
    method, oracle = getattr(methods, name), getattr(oracles, name)
    assume(all(well_conditioned(a, g, share=1e-4) for a, g in draw.images))
    together = method(draw.activations, draw.gradients)
    for b, (activations, gradients) in enumerate(draw.images):
        alone = method(draw.activations[b : b + 1], draw.gradients[b : b + 1])
        scale = scale_of(oracle, activations, gradients)
        assert draws.disagreement(together[b : b + 1], alone.numpy(), scale) < 1e-9


@every_method
@pytest.mark.parametrize("grid", [(1,), (7,), (1, 1), (3, 3), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_and_zero_inputs_give_finite_maps(name, grid, dtype):
    for activation, gradient in [(0, 0), (0, 1), (1, 0), (0.1, 0.1), (-0.1, 0.1), (1, -2), (-1, 2)]:
        activations = torch.full((2, 3, *grid), activation, dtype=dtype)
        gradients = torch.full((2, 3, *grid), gradient, dtype=dtype)
        maps = getattr(methods, name)(activations, gradients)
        assert maps.shape == (2, *grid)
        assert maps.isfinite().all()
        if activation == 0 or gradient == 0:
            assert not maps.any()


@every_method
def test_inputs_are_left_as_they_were(name):
    random = torch.Generator().manual_seed(2)
    activations = torch.randn(2, 3, 4, 4, generator=random)
    gradients = torch.randn(2, 3, 4, 4, generator=random)
    before = activations.clone(), gradients.clone()
    getattr(methods, name)(activations, gradients)
    assert torch.equal(activations, before[0])
    assert torch.equal(gradients, before[1])


@every_method
@given(draw=draws.draws())
@draws.check
def test_weights_times_activations_add_up_to_the_map(name, draw):
    method, oracle = getattr(methods, name), getattr(oracles, name)
    assume(all(well_conditioned(a, g, share=1e-4) for a, g in draw.images))
    maps = method(draw.activations, draw.gradients)
    contributions = (method.weights(draw.activations, draw.gradients) * draw.activations).sum(1)
    for got, whole, (activations, gradients) in zip(contributions, maps, draw.images, strict=True):
        scale = scale_of(oracle, activations, gradients)
        assert draws.disagreement(got, whole.numpy(), scale) < 1e-9


# --- Grad-CAM++ with small gradients: eq. 19 has no epsilon


@pytest.mark.parametrize(
    ("dtype", "size", "tolerance"),
    [
        (torch.float64, 1e-8, 1e-12),
        (torch.float64, 1e-60, 1e-12),
        (torch.float32, 1e-8, 1e-5),
        (torch.float32, 1e-25, 1e-5),  # g^2 is below float32's smallest number; alpha is still 1/2
    ],
)
def test_gradcam_plus_plus_matches_eq_19_where_gradients_are_tiny(dtype, size, tolerance):
    random = torch.Generator().manual_seed(9)
    activations = torch.randn(2, 4, 3, 3, generator=random, dtype=dtype).relu()
    gradients = size * torch.randn(2, 4, 3, 3, generator=random, dtype=dtype)
    maps = methods.gradcam_plus_plus(activations, gradients)
    for b, got in enumerate(maps):
        image = activations[b].double().numpy(), gradients[b].double().numpy()
        assert draws.disagreement(got, oracles.gradcam_plus_plus(*image)) < tolerance
        # and eq. 19's limit: alpha is 1/2, so a channel weighs half the sum of its positive gradients
        halves = [np.maximum(g, 0.0).sum() / 2 for g in image[1]]
        assert draws.disagreement(got, oracles.weighted_sum(image[0], halves)) < max(tolerance, 100 * size)


def test_gradcam_plus_plus_gives_no_weight_where_the_denominator_is_zero():
    activations = torch.tensor([[[-1.0, -1.0]]], dtype=torch.float64)  # sums to -2
    gradients = torch.tensor([[[1.0, 0.5]]], dtype=torch.float64)  # 2 - 2 = 0, and 1 / (2 - 1)
    maps = methods.gradcam_plus_plus(activations, gradients)
    assert maps.tolist() == [[-0.5, -0.5]]


def test_xgradcam_gives_no_weight_to_a_channel_that_sums_to_zero():
    activations = torch.tensor([[[1.0, -1.0], [1.0, 3.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[5.0, 1.0], [2.0, 2.0]]], dtype=torch.float64)
    assert methods.xgradcam(activations, gradients).tolist() == [[2.0, 6.0]]


# --- Smooth Grad-CAM++: the derivatives are averaged, the activations are the clean image's


class RecordedGradients:
    """Gradients at a layer of a small net, with the images that they were asked for."""

    def __init__(self, axes: int, size: float = 1.0) -> None:
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(axes)
            self.features = nn.Sequential(convolution(2, 4, 2, stride=2), nn.Softplus()).double()
            self.head = nn.Sequential(nn.Flatten(1), nn.LazyLinear(3), nn.Tanh(), nn.Linear(3, 1)).double()
            self.head(self.features(torch.zeros(1, 2, *[4] * axes, dtype=torch.float64)))
        self.size = size
        self.images: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []

    def activations(self, images):
        return self.features(images).detach()

    def __call__(self, images):
        activations = self.activations(images).requires_grad_()
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(self.head(activations).sum() * self.size, activations)
        self.images.append(images.clone())
        self.gradients.append(gradients)
        return gradients


def pictures(axes: int, batch: int = 2, size: float = 1.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(axes)
    return size * torch.randn(batch, 2, *[4] * axes, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("size", [1.0, 1e-8, 1e8])
def test_smooth_gradcam_plus_plus_averages_the_derivatives_by_loops(axes, samples, size):
    images, recorder = pictures(axes), RecordedGradients(axes, size)
    activations = recorder.activations(images)
    maps = methods.smooth_gradcam_plus_plus(images, activations, recorder, samples=samples, sigma=0.3, seed=4)
    noisy = torch.cat(recorder.gradients).reshape(samples, *activations.shape)
    for b, got in enumerate(maps):
        expected = oracles.smooth_gradcam_plus_plus(
            activations[b].numpy(), [gradients[b].numpy() for gradients in noisy]
        )
        assert draws.disagreement(got, expected) < 1e-9


def smooth_magnitude(activations: np.ndarray, noisy: list[np.ndarray]) -> float | None:
    """Add up what the map is made of without letting signs cancel; None where a denominator nearly does."""
    magnitude = 0.0
    for k in range(len(activations)):
        total, largest = oracles.channel_sum(activations, k), np.abs(activations[k]).max()
        if total != 0.0 and abs(total) < 1e-6 * np.abs(activations[k]).sum():
            return None
        for p in oracles.positions(activations):
            values = [float(gradients[k][p]) for gradients in noisy]
            second, third = (math.fsum(g**n for g in values) for n in (2, 3))
            denominator = 2 * second + total * third
            size = 2 * second + abs(total) * math.fsum(abs(g) ** 3 for g in values)
            if abs(denominator) < 1e-6 * size:
                return None
            if size > 0.0:
                average = math.fsum(abs(g) for g in values) / len(values)
                magnitude += second / abs(denominator) * average * largest
    return magnitude


@given(
    axes=st.sampled_from((1, 2, 3)),
    samples=st.integers(1, 4),
    power=st.sampled_from((-27, 0, 27)),
    data=st.data(),
)
@draws.check
def test_smooth_gradcam_plus_plus_agrees_for_any_gradients(axes, samples, power, data):
    shape = (2, 3, *data.draw(draws.grids((axes,), 3)))
    activations = data.draw(draws.arrays(shape))
    noisy = [data.draw(draws.arrays(shape)) * 2.0**power for _ in range(samples)]
    waiting = iter(noisy)
    images = torch.zeros(2, 1, *shape[2:], dtype=torch.float64)
    maps = methods.smooth_gradcam_plus_plus(images, activations, lambda _: next(waiting), samples=samples)
    for b, got in enumerate(maps):
        image, gradients = activations[b].numpy(), [sample[b].numpy() for sample in noisy]
        magnitude = smooth_magnitude(image, gradients)
        assume(magnitude is not None)
        expected = oracles.smooth_gradcam_plus_plus(image, gradients)
        assert draws.disagreement(got, expected, magnitude) < 1e-9


@pytest.mark.parametrize("sizes", [(1e-20, 1.0), (1.0, 1e-20), (0.0, 1e-20), (1e-20, 1e-20)])
def test_smooth_gradcam_plus_plus_keeps_float32_in_range_whatever_sample_comes_first(sizes):
    random = torch.Generator().manual_seed(6)
    activations = torch.rand(2, 3, 2, 2, generator=random)
    noisy = [size * torch.randn(2, 3, 2, 2, generator=random) for size in sizes]
    waiting = iter(noisy)
    maps = methods.smooth_gradcam_plus_plus(
        torch.zeros(2, 1, 2, 2), activations, lambda _: next(waiting), samples=len(sizes)
    )
    assert maps.dtype == torch.float32
    for b, got in enumerate(maps):
        expected = oracles.smooth_gradcam_plus_plus(
            activations[b].double().numpy(), [gradients[b].double().numpy() for gradients in noisy]
        )
        assert draws.disagreement(got, expected) < 1e-4


def test_smooth_gradcam_plus_plus_without_noise_is_gradcam_plus_plus():
    images, recorder = pictures(2), RecordedGradients(2)
    activations = recorder.activations(images)
    plain = methods.gradcam_plus_plus(activations, recorder(images))
    smooth = methods.smooth_gradcam_plus_plus(images, activations, recorder, samples=3, sigma=0.0)
    assert draws.disagreement(smooth, plain.numpy()) < 1e-12


def test_smooth_gradcam_plus_plus_draws_noise_in_proportion_to_each_images_range():
    images = pictures(2) * torch.tensor([1.0, 100.0], dtype=torch.float64).view(2, 1, 1, 1)
    recorder = RecordedGradients(2)
    methods.smooth_gradcam_plus_plus(images, recorder.activations(images), recorder, samples=400, sigma=0.2)
    noise = torch.cat(recorder.images).reshape(400, *images.shape) - images
    for b in range(2):
        unit = noise[:, b] / (0.2 * (images[b].max() - images[b].min()))
        assert abs(float(unit.mean())) < 0.03  # 12,800 draws: the standard error is 0.009
        assert abs(float(unit.std()) - 1.0) < 0.03
    assert not torch.equal(noise[0], noise[1])


def test_smooth_gradcam_plus_plus_repeats_with_its_seed_and_leaves_the_global_generator_alone():
    images, recorder = pictures(2), RecordedGradients(2)
    activations = recorder.activations(images)
    state = torch.get_rng_state()
    maps = [
        methods.smooth_gradcam_plus_plus(images, activations, recorder, samples=2, seed=seed)
        for seed in (5, 5, 6)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_smooth_gradcam_plus_plus_refuses_no_samples():
    images, recorder = pictures(2), RecordedGradients(2)
    with pytest.raises(MethodError, match="samples is 0"):
        methods.smooth_gradcam_plus_plus(images, recorder.activations(images), recorder, samples=0)
