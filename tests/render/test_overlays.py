import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from whycam.errors import UsageError
from whycam.render import (
    ConstantOpacity,
    MagnitudeOpacity,
    colorise,
    contour,
    heatmap_picture,
    native_grid,
    overlay,
)
from whycam.render import overlays as overlays_module
from whycam.types import CropGeometry

OPAQUE = ConstantOpacity(1.0)
HOTTEST = colorise(np.ones((1, 1)))[0, 0]
DRAWINGS = [overlay, native_grid, contour]


def plain(height: int, width: int, colour: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def whole(picture: Image.Image) -> CropGeometry:
    return CropGeometry(
        (picture.height, picture.width), (0.0, 0.0, float(picture.height), float(picture.width))
    )


def bilinear(heatmap: np.ndarray, y: float, x: float) -> float:
    """The value at (y, x), in cells, between the four cell centres around it."""
    rows, columns = heatmap.shape
    y, x = min(max(y - 0.5, 0), rows - 1), min(max(x - 0.5, 0), columns - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = heatmap[top, left] * (1 - x + left) + heatmap[top, right] * (x - left)
    lower = heatmap[bottom, left] * (1 - x + left) + heatmap[bottom, right] * (x - left)
    return float(upper * (1 - y + top) + lower * (y - top))


# ---- blending


def test_the_hottest_pixel_has_the_hot_colour():
    heatmap = np.zeros((9, 9))
    heatmap[4, 4] = 1
    drawn = np.asarray(overlay(plain(9, 9, (30, 90, 200)), heatmap, opacity=OPAQUE))
    assert drawn[4, 4].tolist() == HOTTEST.tolist()
    drawn = np.asarray(overlay(plain(9, 9, (30, 90, 200)), heatmap, opacity=MagnitudeOpacity(0.5)))
    assert drawn[4, 4].tolist() == np.rint((HOTTEST + np.array([30, 90, 200])) / 2).tolist()


@pytest.mark.parametrize("opacity", [ConstantOpacity(0.0), ConstantOpacity(0.3), MagnitudeOpacity(0.9)])
def test_every_pixel_is_the_mixture_that_the_opacity_says(opacity):
    picture = noise(13, 17)
    heatmap = np.random.default_rng(1).random((13, 17))
    share = 0.9 * heatmap if isinstance(opacity, MagnitudeOpacity) else np.full((13, 17), opacity.alpha)
    expected = np.asarray(picture) * (1 - share[..., None]) + colorise(heatmap) * share[..., None]
    drawn = np.asarray(overlay(picture, heatmap, opacity=opacity)).astype(float)
    assert np.abs(drawn - expected).max() <= 0.51


def test_a_white_picture_under_a_hot_map_does_not_overflow():
    drawn = np.asarray(overlay(plain(4, 4, (255, 255, 255)), np.ones((4, 4)), opacity=ConstantOpacity(0.5)))
    assert (drawn >= HOTTEST).all()


def test_no_evidence_leaves_the_picture_untouched_by_default():
    picture = noise(11, 7)
    assert np.array_equal(np.asarray(overlay(picture, np.zeros((3, 3)))), np.asarray(picture))


def test_a_constant_map_is_one_flat_colour():
    drawn = np.asarray(overlay(plain(20, 30), np.full((3, 4), 0.1), opacity=OPAQUE))
    assert (drawn == colorise(np.full((1, 1), 0.1))).all()


def test_tensors_and_arrays_are_drawn_alike():
    values = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    picture = noise(10, 12)
    assert np.array_equal(np.asarray(overlay(picture, values)), np.asarray(overlay(picture, values.numpy())))


def test_a_picture_drawn_in_bands_is_the_same_as_in_one(monkeypatch):
    picture, heatmap = noise(41, 23), np.random.default_rng(0).random((7, 5))
    geometry = CropGeometry((41, 23), (5.3, 2.2, 35.9, 20.1))
    at_once = np.asarray(native_grid(picture, heatmap, geometry=geometry))
    monkeypatch.setattr(overlays_module, "BAND_PIXELS", 50)
    assert np.array_equal(np.asarray(native_grid(picture, heatmap, geometry=geometry)), at_once)


def test_the_picture_passed_in_is_left_as_it_is():
    picture = noise(16, 16)
    before = np.asarray(picture).copy()
    for draw in DRAWINGS:
        draw(picture, np.eye(4))
    assert np.array_equal(np.asarray(picture), before)


def test_the_heatmap_alone_is_its_colours():
    heatmap = np.random.default_rng(0).random((5, 9))
    assert np.array_equal(np.asarray(heatmap_picture(heatmap, colormap="turbo")), colorise(heatmap, "turbo"))


# ---- placement


@st.composite
def placements(draw, finest: float = 40.0):
    """A picture's size, a box that may reach outside it, and a grid no finer than the pixels."""
    height, width = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    top, left = draw(st.floats(-10, height - 0.5)), draw(st.floats(-10, width - 0.5))
    tall, wide = draw(st.floats(1, 60)), draw(st.floats(1, 60))
    grid = draw(st.integers(1, max(1, int(tall)))), draw(st.integers(1, max(1, int(wide))))
    assume(top + tall > 0 and left + wide > 0)
    return CropGeometry((height, width), (top, left, top + tall, left + wide)), grid


@settings(max_examples=60, deadline=None)
@given(placement=placements(), seed=st.integers(0, 99))
def test_each_pixel_shows_the_heatmap_at_its_own_place_in_the_box(placement, seed):
    geometry, grid = placement
    top, left, bottom, right = geometry.box
    heatmap = np.random.default_rng(seed).random(grid)
    picture = plain(*geometry.original)
    drawn = np.asarray(overlay(picture, heatmap, geometry=geometry, opacity=OPAQUE, colormap="gray"))
    for y in range(math.ceil(max(top, 0)), math.floor(min(bottom, picture.height))):
        for x in range(math.ceil(max(left, 0)), math.floor(min(right, picture.width))):
            at_y = (y + 0.5 - top) / (bottom - top) * grid[0]
            at_x = (x + 0.5 - left) / (right - left) * grid[1]
            assert abs(drawn[y, x, 0] / 255 - bilinear(heatmap, at_y, at_x)) < 0.01


@settings(max_examples=60, deadline=None)
@given(
    grid=st.tuples(st.integers(3, 15), st.integers(3, 15)),
    pitch=st.tuples(st.floats(1.5, 9), st.floats(1.5, 9)),
    corner=st.tuples(st.floats(0, 20), st.floats(0, 20)),
    data=st.data(),
)
def test_a_single_bright_cell_lands_where_the_geometry_says(grid, pitch, corner, data):
    row, column = data.draw(st.integers(1, grid[0] - 2)), data.draw(st.integers(1, grid[1] - 2))
    heatmap = np.zeros(grid)
    heatmap[row, column] = 1
    (top, left), (tall, wide) = corner, (grid[0] * pitch[0], grid[1] * pitch[1])
    size = math.ceil(top + tall) + 3, math.ceil(left + wide) + 2
    geometry = CropGeometry(size, (top, left, top + tall, left + wide))
    drawn = np.asarray(overlay(plain(*size), heatmap, geometry=geometry, opacity=OPAQUE, colormap="gray"))
    light = drawn[..., 0].astype(float)
    inside = slice(math.ceil(top), math.floor(top + tall)), slice(math.ceil(left), math.floor(left + wide))
    light[: inside[0].start] = light[inside[0].stop :] = 0
    light[:, : inside[1].start] = light[:, inside[1].stop :] = 0
    centre_y = (light.sum(1) * (np.arange(size[0]) + 0.5)).sum() / light.sum()
    centre_x = (light.sum(0) * (np.arange(size[1]) + 0.5)).sum() / light.sum()
    # Only the sampling of a 1.5-pixel triangle on whole pixels moves it: by a fifth of a pixel at most.
    assert abs(centre_y - (top + (row + 0.5) * pitch[0])) < 0.2
    assert abs(centre_x - (left + (column + 0.5) * pitch[1])) < 0.2


@settings(max_examples=30, deadline=None)
@given(row=st.integers(0, 63), column=st.integers(0, 63), size=st.integers(16, 63))
def test_a_heatmap_finer_than_the_picture_still_shows_every_pixel_of_it(row, column, size):
    heatmap = np.zeros((64, 64))
    heatmap[row, column] = 1
    drawn = np.asarray(overlay(plain(size, size), heatmap, opacity=OPAQUE, colormap="gray"))[..., 0]
    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    assert drawn.max() > 0
    assert abs(y + 0.5 - (row + 0.5) * size / 64) <= 0.75
    assert abs(x + 0.5 - (column + 0.5) * size / 64) <= 0.75


@pytest.mark.parametrize("draw", DRAWINGS)
def test_what_the_model_did_not_see_is_gray_dim_and_uncoloured(draw):
    picture = noise(40, 60)
    geometry = CropGeometry((40, 60), (0.0, 10.0, 40.0, 50.0))
    drawn = np.asarray(draw(picture, np.ones((4, 4)), geometry=geometry)).astype(int)
    unseen = drawn[:, list(range(8)) + list(range(52, 60))]
    original = np.asarray(picture)[:, list(range(8)) + list(range(52, 60))]
    assert (unseen.max(-1) == unseen.min(-1)).all()
    assert (unseen[..., 0] <= 0.6 * original.max(-1) + 1).all()


def test_a_half_covered_pixel_is_half_coloured_and_half_frame():
    geometry = CropGeometry((4, 4), (0.0, 0.0, 4.0, 1.5))
    hot = np.ones((1, 1))
    drawn = np.asarray(overlay(plain(4, 4), hot, geometry=geometry, opacity=OPAQUE, colormap="gray"))
    assert drawn[0, 0].tolist() == [255, 255, 255]
    # Half of it is the hot white over black, the other half the frame, which is half a pixel wide here.
    assert abs(drawn[0, 1, 0] - (127.5 + 127.5 * overlays_module.LINE_ALPHA * 0.5)) <= 1
    assert drawn[0, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_box_around_the_whole_picture_is_the_same_as_none(draw):
    picture, heatmap = noise(30, 20), np.random.default_rng(0).random((5, 5))
    assert np.array_equal(
        np.asarray(draw(picture, heatmap, geometry=whole(picture))), np.asarray(draw(picture, heatmap))
    )


def test_a_padded_box_shows_only_the_part_of_the_heatmap_inside_the_picture():
    heatmap = np.array([[0.0, 0.0, 1.0, 1.0]])
    geometry = CropGeometry((8, 8), (0.0, -8.0, 8.0, 8.0))
    drawn = np.asarray(native_grid(plain(8, 8), heatmap, geometry=geometry, opacity=OPAQUE, colormap="gray"))
    assert (drawn == 255).all()


def test_the_box_follows_a_picture_that_was_shrunk_as_a_whole():
    geometry = CropGeometry((400, 601), (0.0, 100.0, 400.0, 500.0))
    heatmap = np.random.default_rng(0).random((7, 7))
    half = overlay(plain(200, 300), heatmap, geometry=geometry, opacity=OPAQUE)
    expected = CropGeometry((200, 300), (0.0, 100 * 300 / 601, 200.0, 500 * 300 / 601))
    same = overlay(plain(200, 300), heatmap, geometry=expected, opacity=OPAQUE)
    assert np.array_equal(np.asarray(half), np.asarray(same))


@pytest.mark.parametrize("draw", DRAWINGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (7, 1), (50, 50)])
def test_pictures_and_maps_of_any_size_are_drawn(draw, size, grid):
    drawn = draw(noise(*size), np.random.default_rng(0).random(grid))
    assert drawn.mode == "RGB"
    assert (drawn.height, drawn.width) == size


# ---- native grid


def test_native_cells_are_flat_squares_with_lines_between():
    cells = np.array([[0.0, 1.0], [0.5, 0.25]])
    drawn = np.asarray(native_grid(plain(40, 40), cells, opacity=OPAQUE, colormap="gray"))[..., 0].astype(int)
    for row in range(2):
        for column in range(2):
            inner = drawn[row * 20 + 2 : row * 20 + 18, column * 20 + 2 : column * 20 + 18]
            assert (inner == np.rint(cells[row, column] * 255)).all()
    assert (drawn[5, 19:21] > drawn[5, 15]).any()
    assert drawn[19:21, 5].mean() > drawn[10, 5]


def test_native_cells_too_small_for_lines_have_none():
    drawn = np.asarray(native_grid(plain(40, 40), np.zeros((20, 20)), opacity=OPAQUE))
    assert (drawn == colorise(np.zeros((1, 1)))).all()


# ---- contour


def test_a_ramps_iso_line_stands_where_the_level_is_and_nowhere_else():
    ramp = np.tile((np.arange(10) + 0.5) / 10, (10, 1))
    drawn = np.asarray(contour(plain(100, 200, (90, 90, 90)), ramp, levels=(0.7,))).astype(int)
    changed = np.abs(drawn - 90).sum(-1).max(0) > 30
    assert changed[140]
    assert np.flatnonzero(changed).min() >= 136
    assert np.flatnonzero(changed).max() <= 143
    assert drawn[:, 138:142].std(0).max() < 1  # straight, to the very edges of the picture


def test_an_iso_line_is_not_upside_down():
    ramp = np.tile(((np.arange(10) + 0.5) / 10)[:, None], (1, 10))
    drawn = np.asarray(contour(plain(200, 100), ramp, levels=(0.7,))).astype(int)
    assert drawn.sum((1, 2)).argmax() in (139, 140)


def test_an_iso_line_has_its_levels_colour():
    ramp = np.tile((np.arange(10) + 0.5) / 10, (10, 1))
    drawn = np.asarray(contour(plain(400, 800), ramp, levels=(0.5,), colormap="viridis")).astype(int)
    assert np.abs(drawn[200, 400] - colorise(np.full((1, 1), 0.5), "viridis")[0, 0]).max() <= 2


def test_iso_lines_follow_the_box():
    ramp = np.tile((np.arange(10) + 0.5) / 10, (10, 1))
    geometry = CropGeometry((100, 200), (0.0, 50.0, 100.0, 150.0))
    drawn = np.asarray(contour(plain(100, 200), ramp, levels=(0.7,), geometry=geometry)).astype(int)
    columns = drawn[:, 60:140].sum((0, 2))
    assert 60 + columns.argmax() in (119, 120)


def test_a_constant_map_has_no_iso_lines():
    picture = noise(30, 30)
    assert np.array_equal(np.asarray(contour(picture, np.full((5, 5), 0.6))), np.asarray(picture))


@pytest.mark.parametrize("levels", [(0.0,), (1.0,), (0.5, 0.5), (0.8, 0.5), (float("nan"),)])
def test_levels_must_rise_between_0_and_1(levels):
    with pytest.raises(UsageError, match="expected rising numbers between 0 and 1"):
        contour(plain(9, 9), np.eye(3), levels=levels)


# ---- refusals


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_picture_of_another_shape_than_the_geometrys_is_refused(draw):
    with pytest.raises(UsageError, match=r"picture is 30x40 .*geometry is of one of 40x30.*EXIF"):
        draw(plain(30, 40), np.eye(3), geometry=CropGeometry((40, 30), (0.0, 0.0, 40.0, 30.0)))


@pytest.mark.parametrize("box", [(5.0, 0.0, 5.0, 9.0), (0.0, 9.0, 9.0, 2.0), (0.0, 0.0, float("nan"), 9.0)])
def test_an_empty_box_is_refused(box):
    with pytest.raises(UsageError, match="is empty"):
        overlay(plain(9, 9), np.eye(3), geometry=CropGeometry((9, 9), box))


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "I;16", "F"])
def test_a_mode_that_would_lose_something_is_refused(mode):
    with pytest.raises(UsageError, match=f"mode '{mode}'; expected RGB"):
        overlay(Image.new(mode, (4, 4)), np.eye(4))


def test_a_gray_picture_is_drawn_on_as_rgb():
    drawn = overlay(Image.new("L", (4, 4), 77), np.zeros((2, 2)))
    assert (np.asarray(drawn) == 77).all()
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_opacity_outside_the_unit_interval_is_refused(share):
    with pytest.raises(UsageError, match="opacity alpha"):
        ConstantOpacity(share)
    with pytest.raises(UsageError, match="opacity maximum"):
        MagnitudeOpacity(share)
