"""Boxes and polygons -> pixels: a pixel is inside where its centre is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whycam.data.masks.source import Mask

Coordinates: TypeAlias = npt.NDArray[np.float64]

FARTHEST = 1e9
"""The largest coordinate, in pixels, that is taken for one."""


@dataclass(frozen=True)
class Box:
    """A box with its borders in pixels from the picture's top left corner; a border may lie in a pixel."""

    top: float
    left: float
    bottom: float
    right: float

    def has_area(self) -> bool:
        """Say whether the borders are sensible numbers and in order."""
        borders = (self.top, self.left, self.bottom, self.right)
        near = all(math.isfinite(border) and abs(border) <= FARTHEST for border in borders)
        return near and self.top < self.bottom and self.left < self.right

    def meets(self, high: int, wide: int) -> bool:
        """Say whether any of the box lies in a picture."""
        return self.bottom > 0 and self.right > 0 and self.top < high and self.left < wide


def fill_box(mask: Mask, box: Box) -> None:
    """Add the pixels of a box that meets the picture to a mask [H, W].

    Along an axis on which it holds no pixel's centre, the pixel in the middle of its visible part is taken.
    """
    rows = _centres(box.top, box.bottom, mask.shape[0])
    columns = _centres(box.left, box.right, mask.shape[1])
    mask[rows, columns] = True


def fill_polygon(mask: Mask, xy: Sequence[float]) -> None:
    """Add a closed polygon's pixels, x and y in turn, to a mask [H, W]; what it encloses twice is outside.

    A polygon that holds no pixel's centre has the pixels in which its corners are.
    """
    x, y = np.asarray(xy[0::2], dtype=np.float64), np.asarray(xy[1::2], dtype=np.float64)
    bounds = Box(float(y.min()), float(x.min()), float(y.max()), float(x.max()))
    if not bounds.meets(*mask.shape):
        return
    top, bottom = (int(np.clip(edge, 0, mask.shape[0])) for edge in (y.min() - 1, y.max() + 1))
    left, right = (int(np.clip(edge, 0, mask.shape[1])) for edge in (x.min() - 1, x.max() + 1))
    inside = _inside(x - left, y - top, bottom - top, right - left)
    if inside.any():
        mask[top:bottom, left:right] |= inside
    else:
        in_picture = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
        mask[y[in_picture].astype(np.int64), x[in_picture].astype(np.int64)] = True


def _inside(x: Coordinates, y: Coordinates, high: int, wide: int) -> Mask:
    """Count for each pixel's centre the edges to its left: an odd number is inside."""
    crossed = np.zeros((high, wide + 1), dtype=np.bool_)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        first, last = (int(np.clip(math.ceil(end - 0.5), 0, high)) for end in sorted((y0, y1)))
        if first == last:
            continue
        rows = np.arange(first, last)
        at = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        crossed[rows, np.clip(np.ceil(at - 0.5), 0, wide).astype(np.int64)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :wide]


def _centres(low: float, high: float, count: int) -> slice:
    """Return the pixels of ``count`` whose centre is in [low, high); the middle one where there is none."""
    low, high = max(low, 0.0), min(high, float(count))
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if first == last:
        first = math.floor((low + high) / 2)
    return slice(first, max(last, first + 1))
