"""The mean map of each class, and how consistent the maps of a class are.

A map is taken as it is drawn, in the frame of the network's view: rectified, resized to the method's finest
grid, divided by its maximum. The mean then says where the maps of a class lie on the whole, and nothing about
an object that is somewhere else in every image: those average out, whatever the model looked at.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from whycam.render import normalise, rectify, resize
from whycam.reports.facts import RunFacts, is_right
from whycam.store import Row

Basis: TypeAlias = Literal["label", "prediction"]
"""What a class is: the images' label, or in a run without labels what was predicted."""

LARGEST_GRID = 64
"""Cells an axis of a mean map at most; finer maps, such as those at pixel level, are averaged down."""

FEW = 5
"""A mean of fewer maps is noted: it shows those images rather than their class."""

AT_ONCE = 64
"""Maps that are prepared together."""

NO_CLASS = "(none)"
"""Stands for the class of images without a label, or without a prediction."""


class Group(NamedTuple):
    """What is averaged: the maps of one method for the images of one class in one run."""

    run: str
    method: str
    class_name: str


@dataclass
class _Sum:
    """What is known of a group while its maps go by."""

    total: NDArray[np.float64]
    maps: int = 0
    empty: int = 0
    other_class: int = 0
    agreement: float = 0.0
    compared: int = 0


@dataclass(frozen=True, eq=False)
class ClassMean:
    """A group's mean map [*grid] in [0, 1], float64, of ``maps`` maps that show something.

    ``empty`` maps of the group show nothing and are left out. ``other_class`` of the maps explain another
    class than the group's. ``consistency`` is the mean correlation of a map with the mean of the group's
    others, -1 to 1; None where there is none to compare with.
    """

    group: Group
    mean: NDArray[np.float64]
    maps: int
    empty: int
    other_class: int
    consistency: float | None

    @property
    def note(self) -> str:
        """What a reader must know of it; empty where there is nothing."""
        said = []
        if self.maps < FEW:
            said.append(f"fewer than {FEW} maps")
        if self.empty:
            said.append(f"{self.empty} left out, which show nothing")
        if self.other_class:
            said.append(f"{self.other_class} explain another class")
        return "; ".join(said)


@dataclass(frozen=True)
class ClassMeans:
    """The means of runs, in the order of runs and methods, classes with the most maps first."""

    basis: Basis
    means: tuple[ClassMean, ...] = field(repr=False)


def class_means(runs: Sequence[RunFacts]) -> ClassMeans:
    """Average the maps of each class, run and method, in two passes over the rows.

    Memory is bounded by the number of classes and methods and by ``LARGEST_GRID``, not by that of images.
    Raises RunError when a run cannot be read.
    """
    basis: Basis = "label" if any(_has_labels(facts) for facts in runs) else "prediction"
    means = [mean for facts in runs for mean in _means_of(facts, basis)]
    return ClassMeans(basis, tuple(means))


def class_means_csv(found: ClassMeans) -> str:
    """Return the numbers as CSV, a line a class, method and run."""
    file = io.StringIO()
    lines = [_line(mean, found.basis) for mean in found.means]
    writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _line(mean: ClassMean, basis: Basis) -> dict[str, object]:
    return {
        "run": mean.group.run,
        "class": mean.group.class_name,
        "class_from": basis,
        "method": mean.group.method,
        "grid": " x ".join(map(str, mean.mean.shape)),
        "maps": mean.maps,
        "consistency": "" if mean.consistency is None else f"{mean.consistency:.4f}",
        "left_out": mean.empty,
        "other_class": mean.other_class,
        "note": mean.note,
    }


def _has_labels(facts: RunFacts) -> bool:
    import pyarrow.compute as pc

    return any(pc.any(pc.is_valid(table.column("label"))).as_py() for table in facts.run.batches(["label"]))


def _means_of(facts: RunFacts, basis: Basis) -> Iterator[ClassMean]:
    grids = {name: _common_grid(method.grids) for name, method in facts.methods.items() if method.grids}
    sums: dict[Group, _Sum] = {}
    for group, row, values in _prepared(facts, basis, grids):
        entry = sums.setdefault(group, _Sum(np.zeros(grids[group.method])))
        _add(entry, values, other_class=_explains_another(row, basis, facts.manifest.class_names))
    for group, _, values in _prepared(facts, basis, grids):
        _compare(sums[group], values)
    order = list(facts.methods)
    for group in sorted(sums, key=lambda group: (order.index(group.method), -sums[group].maps, group)):
        entry = sums[group]
        yield ClassMean(
            group=group,
            mean=entry.total / max(entry.maps, 1),
            maps=entry.maps,
            empty=entry.empty,
            other_class=entry.other_class,
            consistency=entry.agreement / entry.compared if entry.compared else None,
        )


def _common_grid(grids: set[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the finest grid along each axis, capped; maps with the most axes count alone."""
    axes = max(map(len, grids))
    some = [grid for grid in grids if len(grid) == axes]
    return tuple(min(max(lengths), LARGEST_GRID) for lengths in zip(*some, strict=True))


def _prepared(
    facts: RunFacts, basis: Basis, grids: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[Group, Row, NDArray[np.float64]]]:
    """Yield each row that has a map and no error, with its group and its map on its method's grid."""
    names = facts.manifest.class_names or ()
    rows = (row for row in facts.run.rows() if row.error is None and row.map is not None)
    while some := list(islice(rows, AT_ONCE)):
        alike: dict[tuple[str, tuple[int, ...] | None], list[Row]] = {}
        for row in some:
            alike.setdefault((row.method or "", row.grid), []).append(row)
        for (method, _), own in alike.items():
            values = _normalised([row.map for row in own if row.map is not None], grids[method])
            for row, one in zip(own, values, strict=True):
                yield Group(facts.name, method, _class_of(row, basis, names)), row, one


def _class_of(row: Row, basis: Basis, names: Sequence[str]) -> str:
    label = row.label
    if basis == "prediction":
        return row.prediction_name or (NO_CLASS if row.prediction is None else f"class {row.prediction}")
    if label is None:
        return NO_CLASS
    # a label may count the class, as in many CSV files
    known = label not in names and label.isascii() and label.isdecimal() and int(label) < len(names)
    return names[int(label)] if known else label


def _normalised(maps: Sequence[NDArray[np.float32]], grid: tuple[int, ...]) -> NDArray[np.float64]:
    """Bring maps of one size to this grid, in [0, 1]; zeros where they have other axes."""
    size = maps[0].shape
    if len(size) != len(grid):
        return np.zeros((len(maps), *grid))
    raised = rectify(torch.from_numpy(np.stack(maps)))
    if any(cells > wanted for cells, wanted in zip(size, grid, strict=True)):
        raised = _averaged_down(raised, tuple(map(min, size, grid)))
    values: NDArray[np.float64] = normalise(resize(raised, grid)).double().numpy()
    return values


def _averaged_down(maps: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """Average the cells that fall into one: taking single ones would lose what lies between them."""
    return F.interpolate(maps[:, None], size=grid, mode="area")[:, 0]


def _add(entry: _Sum, values: NDArray[np.float64], *, other_class: bool) -> None:
    if not values.any():
        entry.empty += 1
        return
    entry.maps += 1
    entry.total += values
    entry.other_class += other_class


def _explains_another(row: Row, basis: Basis, names: Sequence[str] | None) -> bool:
    """Tell whether a map is of another class than its group, as of the top class where that is wrong."""
    if basis == "prediction":
        return row.target_class is not None and row.target_class != row.prediction
    return is_right(row.label, row.target_class, names) is False


def _compare(entry: _Sum, values: NDArray[np.float64]) -> None:
    """Correlate a map with the mean of its group's others; a constant has no correlation."""
    if entry.maps < 2 or not values.any():
        return
    correlation = _correlation(values, entry.total - values)
    if correlation is not None:
        entry.agreement += correlation
        entry.compared += 1


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return Pearson's correlation over the cells; None where one of the two is constant."""
    first, second = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    # rounding leaves a constant's differences at 1e-16 of its values
    if size <= 1e-12 * float(np.linalg.norm(one) * np.linalg.norm(other)):
        return None
    return float(np.vdot(first, second) / size)
