"""The controls, held to the plain loops of ``tests.oracles.controls``."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import controls as oracles
from tests.oracles import draws

from whycam.methods import controls as methods

GRIDS = [(1,), (7,), (1, 1), (3, 5), (2, 3, 4)]


@given(grid=draws.grids(largest=7), batch=st.integers(1, 3), channels=st.integers(1, 4))
@draws.check
def test_centre_is_the_gaussian_by_loops(grid, batch, channels):
    maps = methods.centre(torch.zeros(batch, channels, *grid, dtype=torch.float64))
    assert maps.shape == (batch, *grid)
    for got in maps:
        assert draws.disagreement(got, oracles.centre(grid)) < 1e-12


@given(data=st.data(), grid=draws.grids(), batch=st.integers(1, 3), channels=st.integers(1, 4))
@draws.check
def test_edges_are_the_gradient_magnitude_by_loops(data, grid, batch, channels):
    images = data.draw(draws.arrays((batch, channels, *grid)))
    maps = methods.edges(images)
    assert maps.shape == (batch, *grid)
    for got, image in zip(maps, images, strict=True):
        scale = float(image.abs().max())  # where the differences cancel, their terms are the measure
        assert draws.disagreement(got, oracles.edges(image.numpy()), scale) < 1e-9


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3.0])
def test_a_constant_image_has_no_edges(grid, value):
    maps = methods.edges(torch.full((2, 3, *grid), value))
    assert maps.shape == (2, *grid)
    assert not maps.any()


@given(
    data=st.data(),
    grid=draws.grids(),
    size=draws.grids(),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**63),
)
@draws.brief_check
def test_random_map_is_the_noise_by_loops(data, grid, size, batch, seed):
    seed = min(seed, 2**63 - 1)
    images = data.draw(draws.arrays((batch, 2, *size)))
    maps = methods.random_map(images, torch.zeros(batch, 4, *grid, dtype=torch.float64), seed=seed)
    for got, image in zip(maps, images, strict=True):
        assert draws.disagreement(got, oracles.random(image.numpy(), grid, seed)) == 0.0


def photographs(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("rows", [[0], [3, 4], [4, 2, 0, 3, 1]])
def test_an_images_random_map_is_the_same_in_any_batch_at_any_place(rows):
    images, activations = photographs(5), torch.zeros(5, 2, 3, 3)
    whole = methods.random_map(images, activations)
    assert torch.equal(methods.random_map(images[rows], activations[rows]), whole[rows])
    laid_out = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(methods.random_map(laid_out, activations), whole)


def test_no_two_images_share_their_random_map_however_little_they_differ():
    images = photographs(1).repeat(400, 1, 1, 1)
    images.view(400, -1)[1:193].diagonal().mul_(1 + 2**-20)  # a value each
    images[193:] = photographs(208)[1:]
    maps = methods.random_map(images, torch.zeros(400, 2, 7, 7)).flatten(1)
    assert len(maps.unique(dim=0)) == 400
    apart = torch.corrcoef(maps) - torch.eye(400)
    assert apart.abs().max() < 0.75  # of 79,800 pairs of 49 draws; the standard error is 0.14


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_map_has_the_activations_shape_and_dtype_and_repeats_with_its_seed(grid, dtype):
    images, activations = photographs(2), torch.zeros(2, 3, *grid, dtype=dtype)
    state = torch.get_rng_state()
    maps = methods.random_map(images, activations, seed=3)
    assert maps.shape == (2, *grid)
    assert maps.dtype == dtype
    assert maps.device == activations.device
    assert torch.equal(maps, methods.random_map(images, activations, seed=3))
    assert not torch.equal(maps, methods.random_map(images, activations, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("keys", [torch.arange(2), torch.arange(0, 20_000)])
def test_noise_is_uniform_between_0_and_1_over_places_and_over_keys(keys):
    drawn = methods.uniform(keys, (20_000 // len(keys),))
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    counts = torch.histc(drawn, bins=10, min=0.0, max=1.0) / drawn.numel()
    assert (counts - 0.1).abs().max() < 0.01  # 20,000 draws: the standard error is 0.002
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("function", [methods.centre, methods.edges])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_controls_keep_the_dtype(function, dtype):
    maps = function(torch.arange(96, dtype=dtype).reshape(2, 3, 4, 4))
    assert maps.dtype == dtype
    assert maps.isfinite().all()


def test_controls_maps_can_be_written_to_one_image_at_a_time():
    maps = methods.centre(torch.zeros(2, 3, 4, 4))
    maps[0] = 0.0
    assert maps[1].any()
