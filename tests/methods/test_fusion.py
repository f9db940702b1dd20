"""Layer fusion, held to the plain loops of ``tests.oracles.fusion``."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import draws
from tests.oracles import fusion as oracles

from whycam.methods import fuse


@st.composite
def layers(draw: st.DrawFn) -> list[torch.Tensor]:
    """Draw maps [B, *grid] of one to four layers; one of them is at least as fine on every axis."""
    finest = draw(draws.grids())
    coarser = st.tuples(*[st.integers(1, cells) for cells in finest])
    grids = draw(st.permutations([finest, *draw(st.lists(coarser, max_size=3))]))
    batch = draw(st.integers(1, 3))
    return [draw(draws.arrays((batch, 1, *grid))).squeeze(1) for grid in grids]


@given(maps=layers())
@draws.check
def test_fused_map_agrees_with_the_loops(maps):
    fused = fuse(maps)
    assert fused.dtype == torch.float64
    assert fused.min() >= 0.0
    assert fused.max() <= 1.0
    for b, got in enumerate(fused):
        expected = oracles.fuse([layer[b].numpy() for layer in maps])
        assert draws.disagreement(got, expected, scale=1.0) < 1e-9


@given(maps=layers())
@draws.check
def test_an_images_fused_map_does_not_depend_on_the_rest_of_the_batch(maps):
    fused = fuse(maps)
    for b in range(len(fused)):
        alone = fuse([layer[b : b + 1] for layer in maps])
        assert draws.disagreement(fused[b : b + 1], alone.numpy(), scale=1.0) < 1e-12


def test_float32_maps_fuse_to_float32():
    fused = fuse([torch.rand(2, 4, 4), torch.rand(2, 2, 2)])
    assert fused.dtype == torch.float32
    assert fused.shape == (2, 4, 4)


def test_the_order_of_depth_decides_which_maps_are_scaled():
    shallow, deep = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(fuse([shallow, deep]), torch.tensor([[math.tanh(2), 1.0]]))
    torch.testing.assert_close(fuse([deep, shallow]), torch.tensor([[1.0, math.tanh(2)]]))


@pytest.mark.parametrize("value", [0.0, -1.0, 0.1])
def test_constant_maps_fuse_to_a_constant(value):
    fused = fuse([torch.full((2, 4, 4), value), torch.full((2, 2, 2), value)])
    expected = 1.0 if value > 0 else 0.0
    torch.testing.assert_close(fused, torch.full((2, 4, 4), expected))


def test_layers_of_very_different_strength_count_alike():
    weak, strong = 1e-8 * torch.tensor([[1.0, 0.0]]), 1e8 * torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(fuse([weak, strong]), torch.tensor([[math.tanh(2), 1.0]]))
