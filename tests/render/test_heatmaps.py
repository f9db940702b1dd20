import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whycam.errors import UsageError
from whycam.render import normalise, rectify, resize, to_heatmaps

GRIDS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def linear_by_loops(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate cell centres axis by axis, written out place by place."""
    for axis, length in enumerate(size):
        cells = values.shape[axis]
        slices = []
        for place in range(length):
            at = min(max((place + 0.5) * cells / length - 0.5, 0), cells - 1)
            low = math.floor(at)
            high = min(low + 1, cells - 1)
            slices.append(values.take(low, axis) * (1 - (at - low)) + values.take(high, axis) * (at - low))
        values = np.stack(slices, axis)
    return values


def test_resize_gives_the_bilinear_values_worked_out_by_hand():
    maps = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    # Centres of 4 places on 2 cells: -0.25 (held at 0), 0.25, 0.75, 1.25 (held at 1).
    expected = torch.tensor(
        [[0.0, 1.0, 3.0, 4.0], [2.0, 3.0, 5.0, 6.0], [6.0, 7.0, 9.0, 10.0], [8.0, 9.0, 11.0, 12.0]]
    )
    assert torch.equal(resize(maps, (4, 4))[0], expected)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), grid=GRIDS, seed=st.integers(0, 99))
def test_resize_matches_loops_on_one_to_three_axes(data, grid, seed):
    size = tuple(data.draw(st.integers(1, 9)) for _ in grid)
    maps = torch.randn(2, *grid, generator=torch.Generator().manual_seed(seed))
    result = resize(maps, size)
    assert result.shape == (2, *size)
    for image in range(2):
        expected = linear_by_loops(maps[image].double().numpy(), size)
        np.testing.assert_allclose(result[image].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_resize_works_in_float32_whatever_comes_in(dtype):
    result = resize(torch.ones(1, 3, 3, dtype=dtype), (7, 5))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.ones(1, 7, 5))


def test_resize_of_no_images_gives_no_heatmaps():
    assert to_heatmaps(torch.zeros(0, 7, 7), (224, 224)).shape == (0, 224, 224)
    assert normalise(torch.zeros(0, 4, 4), "shared").shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 3, 3), (5,)), ((1, 3, 3), (5, 0)), ((4,), ()), ((1, 2, 2, 2, 2), (3, 3, 3, 3))]
)
def test_resize_refuses_a_size_that_does_not_fit_the_maps(shape, size):
    with pytest.raises(UsageError, match="cannot be resized"):
        resize(torch.zeros(shape), size)


def test_rectify_keeps_only_finite_positive_evidence():
    maps = torch.tensor([[-1.0, 2.0, float("nan"), float("inf"), -float("inf")]])
    assert torch.equal(rectify(maps), torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0]]))


def test_zero_stays_no_evidence_when_the_lowest_value_is_above_it():
    heatmaps = normalise(torch.tensor([[2.0, 3.0, 4.0]]))
    assert torch.equal(heatmaps, torch.tensor([[0.5, 0.75, 1.0]]))


def test_a_negative_value_is_no_evidence_and_does_not_shift_the_others():
    assert torch.equal(normalise(torch.tensor([[-4.0, 1.0, 2.0]])), torch.tensor([[0.0, 0.5, 1.0]]))


def test_each_image_has_its_own_maximum_unless_it_is_shared():
    maps = torch.tensor([[[0.0, 1.0]], [[0.0, 4.0]]])
    assert torch.equal(normalise(maps), torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]]))
    assert torch.equal(normalise(maps, "shared"), torch.tensor([[[0.0, 0.25]], [[0.0, 1.0]]]))


@pytest.mark.parametrize("how", ["image", "shared"])
@pytest.mark.parametrize(("value", "drawn"), [(0.0, 0.0), (0.1, 0.1), (1.0, 1.0), (7.0, 1.0)])
def test_a_constant_map_is_only_clipped(how, value, drawn):
    heatmaps = normalise(torch.full((2, 4, 5), value), how)
    torch.testing.assert_close(heatmaps, torch.full((2, 4, 5), drawn))


def test_a_constant_image_among_others_is_scaled_with_them_when_shared():
    maps = torch.stack([torch.full((2, 2), 0.1), torch.tensor([[0.0, 2.0], [0.0, 0.0]])])
    torch.testing.assert_close(normalise(maps, "shared")[0], torch.full((2, 2), 0.05))
    torch.testing.assert_close(normalise(maps)[0], torch.full((2, 2), 0.1))


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(1e-3, 0.9),
    grid=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
def test_a_constant_map_stays_constant_through_interpolation(value, grid, size, dtype):
    maps = torch.full((1, *grid), value, dtype=dtype)
    heatmap = to_heatmaps(maps, size)
    torch.testing.assert_close(heatmap, torch.full((1, *size), maps.flatten()[0].item()), rtol=1e-4, atol=0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-30, 1e-8, 1.0, 1e30]), grid=GRIDS)
def test_heatmaps_reach_one_lie_in_the_unit_interval_and_ignore_the_scale(seed, scale, grid):
    maps = torch.randn(3, *grid, generator=torch.Generator().manual_seed(seed))
    maps.view(3, -1)[:, 0] = 2.0  # every image has some evidence
    heatmaps = normalise(maps * scale)
    assert heatmaps.min() >= 0
    assert heatmaps.max() <= 1
    if maps[0].numel() > 1:
        assert torch.equal(heatmaps.flatten(1).amax(1), torch.ones(3))
        torch.testing.assert_close(heatmaps, normalise(maps))


def test_one_bad_cell_does_not_spoil_the_rest_of_the_heatmap():
    maps = torch.tensor([[[0.0, 0.0, 0.0, 1.0], [float("nan"), 0.0, 0.0, float("inf")]]])
    clean = torch.tensor([[[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    assert torch.equal(to_heatmaps(maps, (8, 16)), to_heatmaps(clean, (8, 16)))


def test_the_maps_themselves_are_left_as_they_are():
    maps = torch.tensor([[[-1.0, 2.0], [float("nan"), 0.5]]])
    before = maps.clone()
    to_heatmaps(maps, (4, 4))
    torch.testing.assert_close(maps, before, equal_nan=True, rtol=0, atol=0)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(UsageError, match=r"'minmax' is unknown; expected 'image' or 'shared'"):
        inspect.unwrap(normalise)(torch.zeros(1, 2, 2), "minmax")  # without the tests' type checks


def test_nothing_waits_for_the_device():
    """On the meta device there are no values: anything that asks for one fails."""
    assert to_heatmaps(torch.empty(2, 7, 7, device="meta"), (32, 48)).shape == (2, 32, 48)
    assert to_heatmaps(torch.empty(2, 7, device="meta"), (32,), "shared").device.type == "meta"
