"""Scores as pixels are taken away, and what is read from such curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.evaluation.fills import Filler, Kept
from whycam.evaluation.ranking import rank_correlation, removed_count
from whycam.types import Heatmaps, Images, Rows

Make: TypeAlias = Callable[[Rows], Images]
Score: TypeAlias = Callable[[Rows, Make], Tensor]
"""Gives the scores [scales, N] of N changed images: takes which image of the batch each is of [N], and what
makes those with given numbers. It asks for as many at once as fit into memory."""

ByScale: TypeAlias = Float[Tensor, "scales batch"]
Course: TypeAlias = Float[Tensor, "scales batch points"]
TileDrops: TypeAlias = Float[Tensor, "scales batch tiles"]

TILES = 4
"""Tiles along each axis."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores from the clean image to the fully removed one: [scales, B, S + 1], evenly spaced.

    ``least`` has the least important pixels removed first, ``most`` the most important.
    """

    least: Course
    most: Course


def insertion(curves: Curves) -> ByScale:
    """Return the mean score as the most important pixels come back first; high is good.

    Backwards, that is the least important removed first. Source: Petsiuk 2018.
    """
    return _area(curves.least)


def deletion(curves: Curves) -> ByScale:
    """Return the mean score as the most important pixels go first; low is good. Source: Petsiuk 2018."""
    return _area(curves.most)


def srg(curves: Curves) -> ByScale:
    """Return the area between removing the least and the most important first; 0 is chance.

    Source: Blücher 2024, the symmetric relevance gain.
    """
    return _area(curves.least) - _area(curves.most)


def road(curves: Curves) -> ByScale:
    """Return half the gap between the two orders, averaged over the steps between the ends; 0 is chance.

    Source: Rong 2022, with least and most important first combined as in practice.
    """
    return (curves.least - curves.most)[..., 1:-1].mean(-1) / 2


def _area(course: Course) -> ByScale:
    return torch.trapezoid(course, dx=1 / (course.shape[-1] - 1))


def tilecorr(important: Heatmaps, tile_drops: TileDrops) -> ByScale:
    """Return the rank correlation of each tile's drop in score with the map's signed sum there; in [-1, 1].

    0 where a map is constant or no tile matters. Source: the idea of Alvarez-Melis 2018 (faithfulness
    correlation), on fixed tiles.
    """
    sums = torch.stack([(important * tile).flatten(1).sum(1) for tile in tiles(important)], 1)
    return torch.stack([rank_correlation(sums, drops).to(drops.dtype) for drops in tile_drops])


def tiles(like: Heatmaps) -> Int[Tensor, "tiles *size"]:
    """Return the masks of a grid of tiles over the last axes: 1 inside; all axes are cut into four."""
    size = like.shape[1:]
    label = torch.zeros(size, dtype=torch.long, device=like.device)
    for axis, length in enumerate(size):
        cell = torch.arange(length, device=like.device) * TILES // length
        label = label * TILES + cell.view([-1 if axis == other else 1 for other in range(len(size))])
    numbers = torch.arange(TILES ** len(size), device=like.device)
    return (label == numbers.view(-1, *[1] * len(size))).long()


def clean_scores(score: Score, images: Images) -> ByScale:
    """Return the scores of the images as they are; one forward an image."""
    return score(_every(images), lambda which: images[which])


def removed_scores(score: Score, filler: Filler, images: Images) -> ByScale:
    """Return the scores with every pixel removed; one forward an image and fill."""

    def make(which: Rows) -> Images:
        return filler(
            which, torch.zeros((len(which), *images.shape[2:]), dtype=torch.bool, device=which.device)
        )

    return score(_every(images), make)


def tile_drops(score: Score, filler: Filler, images: Images, clean: ByScale) -> TileDrops:
    """Return how far the score falls without each tile [scales, B, tiles]; a forward a tile."""
    kept = tiles(images[:, 0]) == 0
    count, batch = len(kept), len(images)
    rows = _every(images).repeat(count)
    found = score(rows, lambda which: filler(which % batch, kept[which // batch]))
    return (clean.unsqueeze(1) - found.view(len(clean), count, batch)).transpose(1, 2)


def curves_of(
    score: Score,
    filler: Filler,
    ranks: Int[Tensor, "2 some *size"],
    images: Rows,
    clean: ByScale,
    removed: ByScale,
    steps: int,
) -> Curves:
    """Return both curves of some of the batch's images, from 2 (steps - 1) forwards an image.

    ``images`` [some] are their numbers in the batch. Images, steps and the two orders are one long list of
    variants, cut where the memory ends.
    """
    batch, inner = len(images), steps - 1
    pixels = ranks[0, 0].numel()
    counts = [removed_count(pixels, step, steps) for step in range(1, steps)]
    gone = torch.tensor(counts, device=ranks.device)
    rows = images.repeat(2 * inner)

    def make(which: Rows) -> Images:
        image, place = which % batch, which // batch
        return filler(images[image], _kept(ranks[place // inner, image], gone[place % inner]))

    found = score(rows, make).view(len(clean), 2, inner, batch).permute(1, 0, 3, 2)
    ends = (clean[:, images].unsqueeze(-1), removed[:, images].unsqueeze(-1))
    least, most = (torch.cat([ends[0], one, ends[1]], -1) for one in found)
    return Curves(least, most)


def _kept(ranks: Int[Tensor, "rows *size"], gone: Int[Tensor, "rows"]) -> Kept:
    return ranks >= gone.view(-1, *[1] * (ranks.ndim - 1))


def _every(images: Images) -> Rows:
    return torch.arange(len(images), device=images.device)
