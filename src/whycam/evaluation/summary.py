"""What an evaluation found: a figure a method and metric, and what may be concluded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from whycam.errors import UsageError
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.figures import Figure, summarise
from whycam.evaluation.localisation import THRESHOLDS, tuned_threshold
from whycam.evaluation.measurements import Measurement, by_method
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import Metric
from whycam.evaluation.verdict import Verdict, judge


@dataclass(frozen=True)
class MapNote:
    """Of a method's maps: how many, the mean share of tied pixels, how many are constant, how many broken."""

    n: int
    ties: float
    blank: int
    broken: int


@dataclass(frozen=True)
class Evaluation:
    """Measurements of all images, methods and controls, and what they come to."""

    plan: Plan
    rows: tuple[Measurement, ...] = field(repr=False)
    seed: int = 0

    @cached_property
    def _rows_of(self) -> Mapping[str, Sequence[Measurement]]:
        return dict(by_method(self.rows))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods and then the controls, as they were measured."""
        return tuple(self._rows_of)

    @cached_property
    def columns(self) -> Mapping[str, Metric]:
        """The measured columns with their metric; one for all thresholds of ``iou``."""
        names = dict.fromkeys(column.partition("@")[0] for row in self.rows[:1] for column in row.figures)
        known = {metric.name: metric for metric in self.plan.metrics}
        return {name: known[name.partition("_")[0]] for name in names}

    def values(self, method: str, column: str) -> list[float]:
        """Return a method's figures by image; of ``iou`` only of the images that its threshold wasn't tuned
        on.

        Raises UsageError for what was not measured.
        """
        rows = self._rows_of.get(method)
        if rows is None or column not in self.columns:
            raise UsageError(
                f"{method!r} has no {column!r}; measured were {', '.join(self.columns)} of "
                f"{', '.join(self.methods)}"
            )
        if column in rows[0].figures:
            return [row.figures[column] for row in rows]
        return self._at_tuned_threshold(rows, column)

    def _at_tuned_threshold(self, rows: Sequence[Measurement], column: str) -> list[float]:
        """Tune on the images of even number, and give what the others have there."""
        names = [f"{column}@{share:g}" for share in THRESHOLDS]
        overlaps = torch.tensor(
            [[row.figures[name] for name in names] for row in rows if row.number % 2 == 0]
        )
        others = [row for row in rows if row.number % 2]
        if not len(overlaps) or not overlaps.isfinite().all(1).any():
            return [math.nan for _ in others]
        best = names[tuned_threshold(overlaps)]
        return [row.figures[best] for row in others]

    def figure(self, method: str, column: str) -> Figure:
        """Return the mean with its interval. Raises UsageError for what was not measured."""
        return summarise(self.values(method, column), seed=self.seed)

    @cached_property
    def figures(self) -> Mapping[str, Mapping[str, Figure]]:
        """All figures, by column and method."""
        return {
            column: {method: self.figure(method, column) for method in self.methods}
            for column in self.columns
        }

    def note(self, method: str) -> MapNote:
        """Return what must be said of a method's maps."""
        rows = self._rows_of[method]
        ties = [row.ties for row in rows]
        blank, broken = sum(row.blank for row in rows), sum(row.broken for row in rows)
        return MapNote(len(rows), math.fsum(ties) / len(ties), blank, broken)

    @cached_property
    def evidence(self) -> Figure | None:
        """The probability that the model loses when whole images are removed; None without classes."""
        rows = next(iter(self._rows_of.values()), [])
        found = summarise([row.evidence for row in rows], seed=self.seed)
        return found if found.n else None

    def verdict(self, column: str) -> Verdict:
        """Say what may be concluded by one column."""
        metric = self.columns[column]
        return judge(column, self.figures[column], metric.direction, self.evidence)

    def lines(self) -> list[tuple[str, str, Figure, MapNote, str]]:
        """Give a line a column and method: column, method, figure, notes, and the metric's standing."""
        return [
            (column, method, figure, self.note(method), self.columns[column].standing)
            for column, of_methods in self.figures.items()
            for method, figure in of_methods.items()
        ]

    def to_document(self) -> dict[str, object]:
        """Return all figures, notes and sentences as JSON values; what is not finite is null."""
        return {
            "seed": self.seed,
            "steps": self.plan.steps,
            "forwards": self.plan.forwards(len({row.number for row in self.rows})),
            "evidence": None if self.evidence is None else _document(self.evidence),
            "controls": [name for name in self.methods if name in CONTROLS],
            "maps": {method: vars(self.note(method)) for method in self.methods},
            "columns": {column: self._column(column) for column in self.columns},
        }

    def _column(self, column: str) -> dict[str, object]:
        metric, verdict = self.columns[column], self.verdict(column)
        return {
            "metric": metric.name,
            "direction": metric.direction,
            "standing": metric.standing,
            "figures": {method: _document(figure) for method, figure in self.figures[column].items()},
            "best": list(verdict.best),
            "conclusion": verdict.sentence,
        }


def _document(figure: Figure) -> dict[str, float | None]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in vars(figure).items()
    }
