"""Maps as rankings: what carries no ranking, which pixel goes first, what is tied."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from whycam.render.heatmaps import CONSTANT_TOLERANCE, INTERPOLATION
from whycam.types import Flags, Heatmaps, Map, Scores

Values: TypeAlias = Float[Tensor, "batch values"]


def wide(values: Tensor) -> Tensor:
    """Return the values in float64, or in float32 on a device without it."""
    return values.float() if values.device.type == "mps" else values.double()


def are_finite(maps: Map) -> Flags:
    """Return [B]: true where a map holds neither NaN nor infinity."""
    return maps.isfinite().flatten(1).all(1)


def are_informative(maps: Map) -> Flags:
    """Return [B]: true where a map is finite and not constant, and so prefers some place to another."""
    values = maps.flatten(1)
    high, low = values.amax(1), values.amin(1)
    return are_finite(maps) & (high - low > CONSTANT_TOLERANCE * torch.maximum(high.abs(), low.abs()))


def importance(maps: Map, size: Sequence[int]) -> Heatmaps:
    """Return the signed maps at the images' size [B, *size], float32; 0 where a map is uninformative.

    Each is scaled to a largest magnitude of 1, and resized linearly (align_corners=False) in double
    precision: rounding must not make a ranking of a plateau.
    """
    mode = INTERPOLATION[maps.ndim - 1]
    whole = F.interpolate(scaled(maps)[:, None], size=tuple(size), mode=mode, align_corners=False)
    return whole[:, 0].float()


def scaled(maps: Map) -> Map:
    """Return each map scaled to a largest magnitude of 1, in double precision; 0 where uninformative."""
    values = wide(torch.where(_beside(are_informative(maps), maps), maps, 0))
    peak = values.abs().amax(tuple(range(1, maps.ndim)), keepdim=True)
    return values / peak.where(peak > 0, 1)


def _beside(flags: Flags, maps: Map) -> Tensor:
    return flags.view(-1, *[1] * (maps.ndim - 1))


def removal_ranks(important: Heatmaps) -> Int[Tensor, "2 batch *size"]:
    """Return at which place each pixel is removed: [0] the least important first, [1] the most.

    Ties are broken stably, by the pixels' order, in both: a constant map gives the same order twice, so that
    it gains nothing.
    """
    values = important.flatten(1)
    places = torch.arange(values.shape[1], device=values.device, dtype=torch.int32).expand_as(values)
    ranks = []
    for descending in (False, True):
        order = values.sort(dim=1, descending=descending, stable=True).indices
        ranks.append(
            torch.empty_like(places, memory_format=torch.contiguous_format).scatter_(1, order, places)
        )
    return torch.stack(ranks).view(2, *important.shape)


def removed_count(pixels: int, step: int, steps: int) -> int:
    """Return how many pixels are gone at a step; the nominal share of them, rounded, whatever is tied."""
    return (2 * step * pixels + steps) // (2 * steps)


def tied_share(important: Heatmaps) -> Scores:
    """Return the share of each map's pixels that have another of exactly their value [B] in [0, 1]."""
    ordered = important.flatten(1).sort(1).values
    same = ordered[:, 1:] == ordered[:, :-1]
    none = same.new_zeros(len(same), 1)
    return (torch.cat([same, none], 1) | torch.cat([none, same], 1)).float().mean(1)


def average_ranks(values: Values) -> Values:
    """Return each value's place in its row, from 0; equal values share the mean of their places."""
    ordered, order = wide(values).sort(dim=1, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(ordered)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    last = torch.ones_like(new)
    last[:, :-1] = new[:, 1:]
    first_place = torch.where(new, places, 0).cummax(1).values
    end = values.shape[1] - 1
    last_place = end - torch.where(last, end - places, 0).flip(1).cummax(1).values.flip(1)
    shared = (first_place + last_place).to(ordered.dtype) / 2
    return torch.empty_like(shared).scatter_(1, order, shared)


def correlation(one: Values, other: Values) -> Scores:
    """Return Pearson's correlation row by row [B] in [-1, 1]; 0 where a row is constant."""
    one, other = wide(one), wide(other)
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    # the root of the product, and not a product of roots: it is exactly 1 for equal rows
    size = (one.square().sum(1) * other.square().sum(1)).sqrt()
    return torch.where(size > 0, (one * other).sum(1) / size.where(size > 0, 1), 0).clamp(-1, 1)


def rank_correlation(one: Values, other: Values) -> Scores:
    """Return Spearman's correlation row by row [B] in [-1, 1]; 0 where a row is constant."""
    return correlation(average_ranks(one), average_ranks(other))
