"""Which methods give the same map: to the bit, so that one curve serves both; or but for rounding."""

from collections.abc import Mapping, Sequence
from itertools import combinations, groupby
from typing import TypeAlias

import torch
from torch import Tensor

from whycam.evaluation.ranking import scaled
from whycam.store import Row, Run

Maps: TypeAlias = Mapping[str, Tensor]
"""Each method's maps [B, *grid], on a grid of its own."""

Twins: TypeAlias = Mapping[str, Sequence[str | None]]
"""By method, an image at a time: the earlier method that has exactly its map; None where it is the first."""


def twins_of(maps: Maps) -> Twins:
    """Find for each method and image the first method whose scaled map is the same to the bit.

    Such maps rank all pixels alike. Only methods that share a map with an earlier one are in the answer.
    """
    names = list(maps)
    first: dict[str, Tensor] = {}
    by_grid: dict[torch.Size, list[str]] = {}
    for name in names:
        by_grid.setdefault(maps[name].shape, []).append(name)
    for alike in by_grid.values():
        first |= _first_of(alike, maps, names)
    # one transfer for all of them
    host = torch.stack([first[name] for name in names]).tolist() if names else []
    found = {
        name: [None if at == own else names[at] for at in places]
        for own, (name, places) in enumerate(zip(names, host, strict=True))
    }
    return {name: twins for name, twins in found.items() if any(twins)}


def _first_of(alike: Sequence[str], maps: Maps, names: Sequence[str]) -> dict[str, Tensor]:
    """Return for methods of one grid the number [B] of the first among ``names`` with the same map."""
    values = {name: scaled(maps[name]).flatten(1) for name in alike}
    found: dict[str, Tensor] = {}
    for place, name in enumerate(alike):
        own = torch.full((len(values[name]),), names.index(name), device=values[name].device)
        for earlier in reversed(alike[:place]):
            same = (values[name] == values[earlier]).all(1)
            own = torch.where(same, found[earlier], own)
        found[name] = own
    return found


SAME_MAP = 1e-4 + 2**-9
"""Largest difference of two scaled maps that are the same: that of two sums of another order, and what a run
folder's float16 adds to it."""


def same_maps(run: Run) -> list[tuple[str, ...]]:
    """Return the groups of a run's methods whose scaled maps are the same on all images, but for rounding.

    In bounded memory; an image without one of the maps says nothing of that method.
    """
    methods = [method.name for method in run.manifest.methods]
    pairs = set(combinations(methods, 2))
    for _, rows in groupby(run.rows(), key=lambda row: row.index):
        maps = {str(row.method): _scaled_map(row) for row in rows if row.map is not None}
        pairs -= {
            (one, other)
            for one, other in pairs
            if one in maps and other in maps and not _are_same(maps[one], maps[other])
        }
    found: list[list[str]] = []
    for method in methods:
        group = next((group for group in found if (group[0], method) in pairs), None)
        if group is None:
            found.append([method])
        else:
            group.append(method)
    return [tuple(group) for group in found if len(group) > 1]


def _scaled_map(row: Row) -> Tensor:
    return scaled(torch.from_numpy(row.map).unsqueeze(0))


def _are_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().amax() <= SAME_MAP)
