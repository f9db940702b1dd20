"""How well a map finds the object whose true place is known."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from whycam.errors import UsageError
from whycam.evaluation.ranking import are_informative, importance
from whycam.render.heatmaps import INTERPOLATION
from whycam.types import Flags, Heatmaps, Map, Scores

# "masks", not "batch": that there is one a map is this function's own check, and its own error
Masks: TypeAlias = Shaped[Tensor, "masks *size"]

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""Shares of a map's maximum from which on a pixel is taken to be of the object."""


def energy(maps: Map, masks: Masks) -> Scores:
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


def enrichment(maps: Map, masks: Masks) -> Scores:
    """Return the mask's share of the positive mass, over its share of the area: [B], 1 is chance.

    NaN where the mask is empty. A map that shows nothing scores 1.
    """
    return energy(maps, masks) / _area(masks.to(maps.device))


def pointing(maps: Map, masks: Masks) -> Scores:
    """Return 1 where the map's maximum is on the object or within one grid cell of it, else 0: [B].

    Equal maxima share the hit. A map without a positive maximum, or a constant one, shows nothing: it scores
    the mask's share of the area. NaN where the mask is empty. Source: Zhang 2018, with the tolerance of the
    map's own cell in the place of 15 pixels.
    """
    _check_pairs(maps, masks)
    here = masks.to(maps.device) != 0
    important = importance(maps, masks.shape[1:])
    highest = important == important.amax(tuple(range(1, maps.ndim)), keepdim=True)
    reach = [round(extent / cells) for extent, cells in zip(masks.shape[1:], maps.shape[1:], strict=True)]
    hits = (highest & _dilated(here, reach)).flatten(1).sum(1) / highest.flatten(1).sum(1)
    return _or_area(hits, are_informative(maps) & (important > 0).flatten(1).any(1), here)


def auprc(maps: Map, masks: Masks) -> Scores:
    """Return the average precision of the pixels ranked by the signed map: [B] in [0, 1]; chance is the area.

    Equal values come in together, as one threshold has them. NaN where the mask is empty.
    """
    _check_pairs(maps, masks)
    here = masks.to(maps.device) != 0
    ordered, order = importance(maps, masks.shape[1:]).flatten(1).sort(1, descending=True)
    found = here.flatten(1).gather(1, order).cumsum(1)
    taken = torch.arange(1, ordered.shape[1] + 1, device=maps.device)
    last = torch.ones_like(ordered, dtype=torch.bool)  # of its equals
    last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    at_ends = torch.where(last, found, 0)
    before = torch.cat([at_ends.new_zeros(len(maps), 1), at_ends.cummax(1).values[:, :-1]], 1)
    gained = torch.where(last, (found - before) * (found / taken), 0).double().sum(1).float()
    return _or_area(gained / found[:, -1].clamp(min=1), are_informative(maps), here)


def iou(maps: Map, masks: Masks) -> Float[Tensor, "batch thresholds"]:
    """Return the overlap (intersection over union) at each of ``THRESHOLDS`` of the map's own maximum.

    Which threshold counts is for ``tuned_threshold`` to say, on other images. A map that shows nothing scores
    the mask's share of the area at all of them, as marking everything does. NaN where the mask is empty.
    """
    _check_pairs(maps, masks)
    here = masks.to(maps.device) != 0
    mass = _positive_mass(maps, masks.shape[1:])
    share = mass / mass.flatten(1).amax(1).clamp(min=1e-30).view(-1, *[1] * (masks.ndim - 1))
    informative = are_informative(maps) & (mass > 0).flatten(1).any(1)
    overlaps = []
    for threshold in THRESHOLDS:
        marked = share >= threshold
        common, either = (marked & here).flatten(1).sum(1), (marked | here).flatten(1).sum(1)
        overlaps.append(_or_area(common / either.clamp(min=1), informative, here))
    return torch.stack(overlaps, 1)


def tuned_threshold(overlaps: Float[Tensor, "batch thresholds"]) -> int:
    """Return which threshold overlaps best on the mean of these images, which must not be those it is used
    on.

    The lowest of equals. Images without an object (NaN) don't count. Raises UsageError without any image.
    """
    known = overlaps[overlaps.isfinite().all(1)]
    if not len(known):
        raise UsageError("no image with a mask to tune the threshold on; give more images with masks")
    return int(known.double().mean(0).argmax())


def _dilated(here: Tensor, reach: list[int]) -> Tensor:
    """Widen masks by so many pixels along each axis, to both sides."""
    for axis, by in enumerate(reach, start=1):
        along = here.movedim(axis, -1)
        pooled = F.max_pool1d(along.flatten(1, -2).float(), 2 * by + 1, stride=1, padding=by)
        here = pooled.view(along.shape).movedim(-1, axis) > 0
    return here


def _or_area(scores: Scores, informative: Flags, here: Tensor) -> Scores:
    """Give chance where a map shows nothing, and NaN where there is no object to find."""
    area = _area(here)
    found = torch.where(informative, scores.to(area.dtype), area)
    return torch.where(area > 0, found, torch.nan)


def _area(masks: Tensor) -> Scores:
    return (masks != 0).flatten(1).float().mean(1)


def _positive_mass(maps: Map, size: torch.Size) -> Heatmaps:
    """Rectify and resize the maps, each scaled to a largest value of 1 so that no sum overflows."""
    positive = maps.to(torch.promote_types(maps.dtype, torch.float32)).clamp(min=0)
    peak = positive.amax(tuple(range(1, maps.ndim)), keepdim=True)
    scaled = (positive / peak.where(peak > 0, 1.0)).float()
    mode = INTERPOLATION[maps.ndim - 1]
    return F.interpolate(scaled[:, None], size=tuple(size), mode=mode, align_corners=False)[:, 0]


def _check_pairs(maps: Map, masks: Masks) -> None:
    """Refuse maps and masks that differ in number or in spatial axes."""
    paired = masks.ndim == maps.ndim and len(masks) == len(maps)
    empty = 0 in maps.shape[1:] or 0 in masks.shape[1:]
    if not paired or empty or maps.ndim - 1 not in INTERPOLATION:
        raise UsageError(
            f"maps {list(maps.shape)} and masks {list(masks.shape)} do not pair up; expected [B, *grid] and "
            "[B, *size] with the same B and the same 1 to 3 spatial axes; give one mask a map"
        )
