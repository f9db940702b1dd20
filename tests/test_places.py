"""From a picture to the network's view and back: what is seen at a place comes from there, to the pixel."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from whycam.models import Preprocessing
from whycam.models.preprocessing import Interpolation, Resize
from whycam.render import ConstantOpacity, overlay
from whycam.types import CropGeometry


def brightness(view: torch.Tensor) -> torch.Tensor:
    """The light [H, W] in a view whose mean is 0; what a sharpening filter takes below 0 is cut."""
    return view.mean(0).clamp(min=0).double()


def weighted_place(light: torch.Tensor) -> tuple[float, float]:
    """The centre of gravity (row, column) of a picture's light, in its pixels."""
    rows, columns = (torch.arange(length, dtype=torch.float64) + 0.5 for length in light.shape)
    total = light.sum()
    return float((light.sum(1) * rows).sum() / total), float((light.sum(0) * columns).sum() / total)


def back_in_the_original(
    place: tuple[float, float], geometry: CropGeometry, size: tuple[int, int]
) -> tuple[float, float]:
    top, left, bottom, right = geometry.box
    return top + place[0] / size[0] * (bottom - top), left + place[1] / size[1] * (right - left)


# the view's size, resize, share of the crop, interpolation, and the picture's size: odd ones among them
SCENES = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(17, 70), st.integers(17, 70)),
        "resize": st.sampled_from(get_args(Resize)),
        "crop_pct": st.sampled_from((0.7, 0.875, 0.95, 1.0, 1.15)),
        "interpolation": st.sampled_from(get_args(Interpolation)),
        "picture": st.tuples(st.integers(24, 141), st.integers(24, 141)),
    }
)
# the bright pixel's place, as shares of the picture without a rim of 3 pixels
PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1))


@dataclass(frozen=True)
class Seen:
    """One bright pixel's view: where it is in the picture, and what became of it."""

    place: tuple[float, float]
    picture: tuple[int, int]
    light: torch.Tensor
    geometry: CropGeometry

    @property
    def bounds(self) -> tuple[float, float]:
        """Half a pixel of the view, in the original's pixels; or of the picture where those are larger."""
        top, left, bottom, right = self.geometry.box
        down, across = (bottom - top) / self.light.shape[0], (right - left) / self.light.shape[1]
        return max(down, 1) / 2, max(across, 1) / 2


def seen(scene: dict[str, Any], share: tuple[float, float]) -> Seen:
    """Put one bright pixel through a preprocessing; passes over spots that the view has not whole."""
    settings_of = {name: scene[name] for name in ("resize", "crop_pct", "interpolation")}
    if scene["resize"] == "bounded":
        settings_of["crop_pct"] = 1.0  # nothing is cropped, and the view has the picture's own shape
    preprocessing = Preprocessing.for_size(scene["size"], (0.0,) * 3, (1.0,) * 3, **settings_of)
    height, width = scene["picture"]
    y, x = 3 + int(share[0] * (height - 7)), 3 + int(share[1] * (width - 7))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y, x] = 255
    view, geometry = preprocessing.apply(Image.fromarray(pixels))
    light = brightness(view)
    top, left, bottom, right = geometry.box
    down, across = (bottom - top) / light.shape[0], (right - left) / light.shape[1]
    # of a spot outside the crop, Lanczos' rings may be inside
    assume(
        top + 3 * down <= y + 0.5 <= bottom - 3 * down and left + 3 * across <= x + 0.5 <= right - 3 * across
    )
    assume(light.max() > 0)  # stepped over by "nearest"
    rim = light.clone()
    rim[2:-2, 2:-2] = 0
    assume(rim.max() == 0)
    return Seen((y + 0.5, x + 0.5), (height, width), light, geometry)


@settings(max_examples=200)
@given(SCENES, PLACES)
def test_a_bright_pixel_is_found_again_within_half_a_pixel_of_the_view(
    scene: dict[str, Any], share: tuple[float, float]
) -> None:
    spot = seen(scene, share)
    found = back_in_the_original(weighted_place(spot.light), spot.geometry, tuple(spot.light.shape))
    assert abs(found[0] - spot.place[0]) <= spot.bounds[0] + 1e-6
    assert abs(found[1] - spot.place[1]) <= spot.bounds[1] + 1e-6


@settings(max_examples=60)
@given(SCENES, PLACES)
def test_a_hot_spot_of_the_view_is_drawn_on_the_pixel_it_came_from(
    scene: dict[str, Any], share: tuple[float, float]
) -> None:
    spot = seen(scene, share)
    black = Image.new("RGB", spot.picture[::-1])
    heatmap = (spot.light / spot.light.max()).float()
    lit, unlit = (
        overlay(black, heat, geometry=spot.geometry, opacity=ConstantOpacity(1.0), colormap="gray")
        for heat in (heatmap, torch.zeros_like(heatmap))  # the frame around what was seen is on both
    )
    found = weighted_place(torch.from_numpy(np.array(lit) - np.array(unlit)).double().mean(2))
    assert abs(found[0] - spot.place[0]) <= spot.bounds[0] + 0.5
    assert abs(found[1] - spot.place[1]) <= spot.bounds[1] + 0.5
