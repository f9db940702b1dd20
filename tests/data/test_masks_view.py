import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whycam.data.masks import mask_view
from whycam.data.masks.outlines import Box, fill_box, fill_polygon
from whycam.data.masks.source import Mask
from whycam.data.masks.view import brought_to
from whycam.errors import UsageError
from whycam.types import CropGeometry

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
BORDERS = st.floats(-12, 24, allow_nan=False)


def _whole(mask: Mask) -> CropGeometry:
    high, wide = mask.shape
    return CropGeometry((high, wide), (0.0, 0.0, float(high), float(wide)))


def _overlap(low: float, high: float, pixel: int) -> float:
    return max(0.0, min(high, pixel + 1) - max(low, pixel))


def _exact_shares(mask: Mask, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Of each pixel of the view the share of its area on the object, pixel by pixel of the picture."""
    top, left, bottom, right = box
    down, across = (bottom - top) / size[0], (right - left) / size[1]
    shares = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = top + row * down, left + column * across
            for i, j in np.argwhere(mask):
                shares[row, column] += _overlap(y, y + down, int(i)) * _overlap(x, x + across, int(j))
    return shares / (down * across)


@st.composite
def _masks(draw: st.DrawFn) -> Mask:
    high, wide = draw(SIZES)
    bits = draw(st.lists(st.booleans(), min_size=high * wide, max_size=high * wide))
    return np.array(bits, dtype=np.bool_).reshape(high, wide)


@st.composite
def _crops(draw: st.DrawFn) -> tuple[float, float, float, float]:
    top, left = draw(BORDERS), draw(BORDERS)
    return top, left, top + draw(st.floats(0.2, 20)), left + draw(st.floats(0.2, 20))


@settings(max_examples=80)
@given(_masks(), _crops(), SIZES)
def test_a_pixel_of_the_view_is_the_objects_where_half_of_its_area_is(
    mask: Mask, box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    view = mask_view(mask, CropGeometry(mask.shape, box), size).numpy()
    shares = _exact_shares(mask, box, size)
    wanted = min(0.5, shares.max())
    sure = abs(shares - wanted) > 1e-6
    assert view.shape == size
    if shares.max() > 1e-6:
        assert (view[sure] == (shares > wanted)[sure]).all()
        assert view.any()
    elif shares.max() == 0:
        assert not view.any()


@settings(max_examples=40)
@given(_masks())
def test_a_model_that_sees_the_whole_picture_sees_the_mask_itself(mask: Mask) -> None:
    view = mask_view(mask, _whole(mask), mask.shape)
    assert view.dtype == torch.bool
    assert (view.numpy() == mask).all()


@settings(max_examples=60)
@given(SIZES, st.tuples(BORDERS, BORDERS), st.tuples(st.floats(0.1, 20), st.floats(0.1, 20)))
def test_a_box_has_the_pixels_whose_centres_it_holds(
    size: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    box = Box(*corner, corner[0] + extent[0], corner[1] + extent[1])
    mask = np.zeros(size, dtype=np.bool_)
    if not box.meets(*size):
        return
    fill_box(mask, box)
    centres = [
        (i, j)
        for i in range(size[0])
        for j in range(size[1])
        if box.top <= i + 0.5 < box.bottom and box.left <= j + 0.5 < box.right
    ]
    if centres:
        assert [tuple(place) for place in np.argwhere(mask)] == centres
    else:  # too thin for a centre: it never vanishes, and what is taken meets it
        assert mask.any()
        for i, j in np.argwhere(mask):
            assert _overlap(box.top, box.bottom, int(i)) > 0
            assert _overlap(box.left, box.right, int(j)) > 0


def test_a_box_between_two_centres_has_the_pixel_that_it_is_in() -> None:
    mask = np.zeros((6, 6), dtype=np.bool_)
    fill_box(mask, Box(2.6, 0.0, 2.9, 2.0))
    assert np.argwhere(mask).tolist() == [[2, 0], [2, 1]]


def _is_inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Even-odd, by a ray to the left."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            inside = not inside
    return inside


@settings(max_examples=80)
@given(SIZES, st.lists(st.tuples(st.floats(-4, 14), st.floats(-4, 14)), min_size=3, max_size=7))
def test_a_polygon_has_the_pixels_whose_centres_it_encloses(
    size: tuple[int, int], corners: list[tuple[float, float]]
) -> None:
    corners = [(round(x, 3) + 0.0001, round(y, 3) + 0.0001) for x, y in corners]  # no centre on an edge
    mask = np.zeros(size, dtype=np.bool_)
    fill_polygon(mask, [value for corner in corners for value in corner])
    enclosed = [
        (i, j) for i in range(size[0]) for j in range(size[1]) if _is_inside(j + 0.5, i + 0.5, corners)
    ]
    in_picture = {(math.floor(y), math.floor(x)) for x, y in corners if 0 <= y < size[0] and 0 <= x < size[1]}
    assert [tuple(place) for place in np.argwhere(mask)] == (enclosed or sorted(in_picture))


def test_a_box_of_whole_pixels_keeps_its_share_of_the_area_in_the_view() -> None:
    mask = np.zeros((60, 80), dtype=np.bool_)
    fill_box(mask, Box(10.0, 20.0, 40.0, 50.0))
    view = mask_view(mask, CropGeometry((60, 80), (0.0, 10.0, 60.0, 70.0)), (30, 30))
    expected = torch.zeros(30, 30, dtype=torch.bool)
    expected[5:20, 5:20] = True
    assert torch.equal(view, expected)


def test_a_small_object_never_vanishes_and_one_outside_of_the_crop_does() -> None:
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[41, 73] = True
    whole = mask_view(mask, _whole(mask), (4, 4))
    assert whole.nonzero().tolist() == [[1, 2]]
    cut = mask_view(mask, CropGeometry((100, 100), (0.0, 0.0, 100.0, 73.0)), (4, 4))
    assert not cut.any()


def test_a_crop_that_reaches_outside_of_the_picture_finds_no_object_there() -> None:
    view = mask_view(np.ones((4, 4), dtype=np.bool_), CropGeometry((4, 4), (-4.0, -2.0, 8.0, 6.0)), (6, 4))
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[2:4, 1:3] = True
    assert torch.equal(view, expected)


@pytest.mark.parametrize(
    ("original", "box", "size", "found"),
    [
        ((4, 5), (0.0, 0.0, 4.0, 5.0), (2, 2), r"\[4, 4\] for a picture of \[4, 5\]"),
        ((4, 4), (0.0, 0.0, 0.0, 4.0), (2, 2), "crop box"),
        ((4, 4), (0.0, math.nan, 4.0, 4.0), (2, 2), "crop box"),
        ((4, 4), (0.0, 0.0, 4.0, 4.0), (2, 2, 2), "view size"),
        ((4, 4), (0.0, 0.0, 4.0, 4.0), (2, 0), "view size"),
    ],
)
def test_what_is_no_view_is_refused(
    original: tuple[int, int], box: tuple[float, float, float, float], size: tuple[int, ...], found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        mask_view(np.ones((4, 4), dtype=np.bool_), CropGeometry(original, box), size)


def test_a_mask_of_the_same_aspect_is_enlarged_pixel_by_pixel() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1]], dtype=np.bool_)
    enlarged = brought_to(mask, (8, 12))
    assert enlarged is not None
    assert (enlarged == mask.repeat(4, axis=0).repeat(4, axis=1)).all()


def test_an_aspect_may_differ_by_a_pixel_of_rounding_and_no_more() -> None:
    mask = np.ones((75, 100), dtype=np.bool_)
    assert brought_to(mask, (301, 400)) is not None
    assert brought_to(mask, (310, 400)) is None
    assert brought_to(mask, (100, 75)) is None
