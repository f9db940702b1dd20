"""Raw map -> heatmap: rectify, resize, normalise, in that order, on the map's own device.

Nothing here waits for the device or leaves it, so heatmaps can be computed for thousands of images
before a pixel is drawn. Cells that are NaN or infinite carry no evidence that could be drawn: they
become 0 here, and only here; the raw map that is stored keeps them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional as F

from whycam.errors import UsageError
from whycam.types import Heatmaps, Map

Normalisation = Literal["image", "shared"]

INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Interpolation by number of spatial axes; pixel centres are aligned, not corners."""

# Interpolating a constant leaves differences of a few float32 roundings (1e-7) per axis, and a map
# computed in half precision and cast up carries none more; real evidence varies far above this.
CONSTANT_TOLERANCE = 1e-5


def rectify(maps: Map) -> Map:
    """Keep the evidence for the target: negative and non-finite values become 0. Returns [B, *grid]."""
    return torch.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)


def resize(maps: Map, size: Sequence[int]) -> Heatmaps:
    """Interpolate maps [B, *grid] to ``size``, align_corners=False, without antialiasing.

    Returns float32 [B, *size] on the maps' device; linear, bilinear or trilinear by number of axes.
    Raises UsageError when the number of axes differs from the maps', is not 1 to 3, or a length is 0.
    """
    axes = maps.ndim - 1
    if axes not in INTERPOLATION or len(size) != axes or min(size) < 1:
        raise UsageError(
            f"maps of shape {list(maps.shape)} cannot be resized to {tuple(size)}; expected [B, *grid] with "
            "1 to 3 spatial axes and one positive length for each"
        )
    maps = maps.float()
    if maps.shape[0] == 0:  # interpolate refuses an empty batch
        return maps.new_zeros((0, *size))
    return F.interpolate(maps[:, None], size=tuple(size), mode=INTERPOLATION[axes], align_corners=False)[:, 0]


def normalise(heatmaps: Heatmaps, how: Normalisation = "image") -> Heatmaps:
    """Divide by the maximum, so that 0 stays "no evidence". Returns [B, *size] in [0, 1].

    ``image`` divides by each image's own maximum; ``shared`` by the batch's, so that colours can be
    compared between its images. What is constant (an image's map, or with ``shared`` all of them
    together) has no strongest place: it is only clipped to [0, 1], so a uniform 0.1 stays 0.1.
    Values that are negative or not finite become 0. Raises UsageError for another ``how``.
    """
    _check_normalisation(how)
    return _scaled(rectify(heatmaps), how)


def _check_normalisation(how: str) -> None:
    if how not in ("image", "shared"):
        raise UsageError(f"normalisation {how!r} is unknown; expected 'image' or 'shared'")


def _scaled(rectified: Heatmaps, how: Normalisation) -> Heatmaps:
    """Divide what is already rectified by the maximum; gives a new tensor."""
    if rectified.numel() == 0:
        return rectified
    axes = tuple(range(1 if how == "image" else 0, rectified.ndim))
    highest = rectified.amax(dim=axes, keepdim=True)
    lowest = rectified.amin(dim=axes, keepdim=True)
    constant = highest - lowest <= CONSTANT_TOLERANCE * highest
    return (rectified / torch.where(constant, 1.0, highest)).clamp_(max=1)


def to_heatmaps(maps: Map, size: Sequence[int], how: Normalisation = "image") -> Heatmaps:
    """Turn raw maps [B, *grid] into heatmaps: float32 [B, *size] in [0, 1], on the maps' device.

    Raises UsageError as `resize` and `normalise` do.
    """
    _check_normalisation(how)
    # Cast first: what is finite only in float64 is infinite here. Interpolation gives nothing new below 0.
    return _scaled(resize(rectify(maps.float()), size), how)
