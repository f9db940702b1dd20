"""Unit tests of a method: mosaics of images of different classes, where a map must find the right cell."""

from typing import TypeAlias

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from whycam.errors import UsageError
from whycam.types import Images, Map, Scores

Cells: TypeAlias = Int[Tensor, "batch"]
"""Which of the four cells each map should point at: 0 and 1 above, 2 and 3 below."""
Parts: TypeAlias = Shaped[Tensor, "batch 4 bands height width"]

CHANCE = 0.25


def mosaic(parts: Parts) -> Images:
    """Lay four images together, two by two: [B, C, 2 H, 2 W]."""
    upper, lower = torch.cat([parts[:, 0], parts[:, 1]], 3), torch.cat([parts[:, 2], parts[:, 3]], 3)
    return torch.cat([upper, lower], 2)


def gridpg(maps: Map, cells: Cells) -> Scores:
    """Return the share of positive mass in the explained class's cell: [B] in [0, 1]; chance is 0.25.

    Maps [B, H, W] are of mosaics that the whole model sees, with even H and W: a resize would carry mass over
    the cells' borders. A map that shows nothing scores chance. Source: Böhle 2021, the grid pointing game.
    """
    return _in_cell(maps, cells)


def difull(maps: Map, cells: Cells) -> Scores:
    """Return the same share where no cell can influence another's score, so that 1 is right: [B] in [0, 1].

    Source: Rao 2022 (DiFull).
    """
    return _in_cell(maps, cells)


def _in_cell(maps: Map, cells: Cells) -> Scores:
    if maps.ndim != 3 or maps.shape[1] % 2 or maps.shape[2] % 2:
        raise UsageError(
            f"maps are {list(maps.shape)}; expected [batch, height, width] with an even height and width, "
            f"so that "
            "the four cells have borders; choose a layer of such a grid"
        )
    finite = maps.isfinite().flatten(1).all(1)
    positive = torch.where(finite.view(-1, 1, 1), maps, 0).clamp(min=0)
    positive = positive / positive.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
    upper, lower = positive.chunk(2, 1)
    mass = torch.stack([cell.sum((1, 2)) for half in (upper, lower) for cell in half.chunk(2, 2)], 1)
    total = mass.sum(1)
    own = mass.gather(1, cells.to(maps.device).unsqueeze(1)).squeeze(1)
    return torch.where(total > 0, own / total.where(total > 0, 1), CHANCE)
