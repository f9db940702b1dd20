"""A mask on another grid of pixels: the picture's own, or what the model sees of it."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from whycam.data.masks.source import Extent, Mask, in_pixels
from whycam.errors import UsageError
from whycam.types import CropGeometry

Shares: TypeAlias = npt.NDArray[np.float64]
_Span: TypeAlias = tuple[float, float]

_HALF = 0.5
_ROUNDING = 1e-9
"""Of a pixel: a border that a crop's real numbers miss by less is met."""


def mask_view(mask: Mask, geometry: CropGeometry, size: Sequence[int]) -> Bool[Tensor, "height width"]:
    """Return the mask as the model sees it: [*size], true on the object, on the CPU.

    ``mask`` is [H, W] as the original picture, ``geometry`` the part of it that the model saw at ``size``.
    A pixel of the view is the object's where at least half of its area is; outside of the picture there is
    no object. Where none reaches half, those with the largest share are taken, so that an object that can
    be seen at all never vanishes. An object outside of the crop gives an empty view.

    Raises UsageError where the mask isn't the original's size, the box has no area or the size not two axes.
    """
    if mask.shape != geometry.original:
        raise UsageError(
            f"found a mask of {list(mask.shape)} for a picture of {list(geometry.original)} (height, width); "
            "expected the same; read it with MaskSource.of and the picture's size"
        )
    if len(size) != 2 or min(size) < 1:
        raise UsageError(f"found the view size {list(size)}; expected height and width; give two numbers")
    top, left, bottom, right = geometry.box
    if not (all(map(math.isfinite, geometry.box)) and top < bottom and left < right):
        raise UsageError(
            f"found the crop box {geometry.box}; expected top < bottom and left < right; "
            "give the geometry that the preprocessing returned"
        )
    return torch.from_numpy(_seen(mask, (top, bottom), (left, right), (size[0], size[1])))


def brought_to(mask: Mask, size: Extent) -> Mask | None:
    """Return the mask at a picture's size, by the rule of `mask_view`; None where the aspect differs.

    The same aspect is one that differs by a pixel at most, as rounding makes it.
    """
    (high, wide), (height, width) = mask.shape, size
    if (high, wide) == size:
        return mask
    if abs(wide * height - high * width) > max(height, width, high, wide):
        return None
    return _seen(mask, (0.0, float(high)), (0.0, float(wide)), size)


def misfit(found: Extent, size: Extent) -> tuple[str, str]:
    """Return what is expected of a mask that doesn't fit its picture, and the mend."""
    mend = "export the mask at the picture's size"
    if found == size[::-1] and found != size:
        mend = "turn the mask as the picture's EXIF orientation turns the picture"
    return f"the picture's {in_pixels(size)} or the same aspect", mend


def _seen(mask: Mask, rows: _Span, columns: _Span, size: Extent) -> Mask:
    shares = _shares(_shares(mask, rows, size[0]).T, columns, size[1]).T
    largest = float(shares.max())
    if largest <= _ROUNDING:
        return np.zeros(size, dtype=np.bool_)
    return np.ascontiguousarray(shares >= min(_HALF, largest) - _ROUNDING)


def _shares(values: npt.NDArray[np.generic], span: _Span, count: int) -> Shares:
    """Cut ``span`` of the first axis, in pixels, into ``count`` equal parts; return each one's mean.

    What lies outside of the array is 0.
    """
    start, stop = span
    step = (stop - start) / count
    shares = np.zeros((count, values.shape[1]), dtype=np.float64)
    for part in range(count):  # a part at a time: the whole array as real numbers may not fit into memory
        low, high = start + part * step, start + (part + 1) * step
        first, last = max(0, math.floor(low)), min(len(values), math.ceil(high))
        if first < last:
            edges = np.arange(first, last, dtype=np.float64)
            weights = np.minimum(edges + 1, high) - np.maximum(edges, low)
            shares[part] = weights @ values[first:last] / step
    return shares
