"""One map from several layers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.types import Map

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def fuse(maps: Sequence[Float[Tensor, "batch *_"]]) -> Float[Tensor, "batch *finest"]:
    """Fuse maps given from shallow to deep into one on the finest grid: [B, *finest], in [0, 1].

    Each map is rectified and divided by its image's maximum; all but the deepest go through ``tanh(2 m)``,
    which lifts a shallow layer's weak responses; the result is the elementwise maximum.
    Source: Jiang 2021, eq. 8 and section III-D.
    """
    *shallow, deepest = [relative(fused) for fused in maps]
    finest = max((fused.shape[1:] for fused in maps), key=lambda grid: grid.numel())
    scaled = [torch.tanh(2 * fused) for fused in shallow] + [deepest]
    return torch.stack([to_grid(fused, finest) for fused in scaled]).amax(0)


def relative(maps: Map) -> Map:
    """Rectify maps and divide each by its image's maximum: [0, 1], zeros where nothing is positive."""
    positive = maps.relu()
    largest = positive.amax(tuple(range(1, maps.ndim)), keepdim=True)
    return positive / torch.where(largest > 0, largest, 1)


def to_grid(maps: Float[Tensor, "batch *_"], grid: torch.Size) -> Float[Tensor, "batch *finest"]:
    """Resize maps to a grid, linearly along each axis (align_corners=False)."""
    mode = _INTERPOLATION[len(grid)]
    return F.interpolate(maps.unsqueeze(1), size=list(grid), mode=mode, align_corners=False).squeeze(1)
