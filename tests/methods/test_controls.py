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


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_map_has_the_activations_shape_and_dtype_and_repeats_with_its_seed(grid, dtype):
    activations = torch.zeros(2, 3, *grid, dtype=dtype)
    state = torch.get_rng_state()
    maps = methods.random_map(activations, seed=3)
    assert maps.shape == (2, *grid)
    assert maps.dtype == dtype
    assert maps.device == activations.device
    assert torch.equal(maps, methods.random_map(activations, seed=3))
    assert not torch.equal(maps, methods.random_map(activations, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


def test_random_map_is_uniform_between_0_and_1():
    maps = methods.random_map(torch.zeros(2, 3, 100, 100))
    assert maps.min() >= 0.0
    assert maps.max() < 1.0
    counts = torch.histc(maps, bins=10, min=0.0, max=1.0) / maps.numel()
    assert (counts - 0.1).abs().max() < 0.01  # 20,000 draws: the standard error is 0.002
    assert not torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("function", [methods.centre, methods.edges, methods.random_map])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_controls_keep_the_dtype(function, dtype):
    maps = function(torch.arange(96, dtype=dtype).reshape(2, 3, 4, 4))
    assert maps.dtype == dtype
    assert maps.isfinite().all()


def test_controls_maps_can_be_written_to_one_image_at_a_time():
    maps = methods.centre(torch.zeros(2, 3, 4, 4))
    maps[0] = 0.0
    assert maps[1].any()
