"""How much of a map falls on the object whose true place is known."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from whycam.errors import UsageError
from whycam.types import Heatmaps, Map, Scores

# "masks", not "batch": that there is one a map is this function's own check, and its own error
Masks: TypeAlias = Shaped[Tensor, "masks *size"]

_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def mass_in_mask(maps: Map, masks: Masks) -> Scores:
    """Give the share of each map's positive mass that falls in its true mask: [B] in [0, 1], float32.

    ``maps`` are raw, signed maps [B, *grid]; they are rectified, then resized to the masks' size
    (bilinear, align_corners=False). ``masks`` are [B, *size], nonzero on the object. A map without
    positive mass, or with a NaN or infinity in it, shows nothing: it scores the mask's share of the
    area, as a constant map does. Raises UsageError where maps and masks do not pair up.
    Source: Wang 2020 (Score-CAM), the energy-based pointing game.
    """
    _check_pairs(maps, masks)
    object_here = masks.to(maps.device) != 0
    mass = _positive_mass(maps, masks.shape[1:])
    space = tuple(range(1, masks.ndim))
    total = mass.sum(space)
    inside = (mass * object_here).sum(space)
    informative = maps.flatten(1).isfinite().all(1) & (total > 0)
    area = object_here.float().mean(space)
    return torch.where(informative, inside / total.where(informative, 1.0), area)


def _positive_mass(maps: Map, size: torch.Size) -> Heatmaps:
    """Rectify and resize the maps, each scaled to a largest value of 1 so that no sum overflows."""
    positive = maps.to(torch.promote_types(maps.dtype, torch.float32)).clamp(min=0)
    peak = positive.amax(tuple(range(1, maps.ndim)), keepdim=True)
    scaled = (positive / peak.where(peak > 0, 1.0)).float()
    mode = _RESIZE[maps.ndim - 1]
    return F.interpolate(scaled[:, None], size=tuple(size), mode=mode, align_corners=False)[:, 0]


def _check_pairs(maps: Map, masks: Masks) -> None:
    """Refuse maps and masks that differ in number or in spatial axes."""
    paired = masks.ndim == maps.ndim and len(masks) == len(maps)
    empty = 0 in maps.shape[1:] or 0 in masks.shape[1:]
    if not paired or empty or maps.ndim - 1 not in _RESIZE:
        raise UsageError(
            f"maps {list(maps.shape)} and masks {list(masks.shape)} do not pair up; expected [B, *grid] and "
            "[B, *size] with the same B and the same 1 to 3 spatial axes; give one mask a map"
        )
