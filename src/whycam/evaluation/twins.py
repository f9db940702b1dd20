"""Which methods give the same map: as a ranking, to the bit, and by eye."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from whycam.evaluation.ranking import scaled

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
