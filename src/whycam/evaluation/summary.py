"""What an evaluation found: a figure a method and metric, and what may be concluded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from whycam.errors import UsageError
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.figures import Figure, bands, summarise
from whycam.evaluation.localisation import THRESHOLDS, tuned_threshold
from whycam.evaluation.measurements import Column, Measured, OfMethod
from whycam.evaluation.measuring import LOGIT, PROBABILITY
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import MAIN, Metric
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
    measured: Measured
    seed: int = 0

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods and then the controls, as they were measured."""
        return self.measured.methods

    @cached_property
    def columns(self) -> Mapping[str, Metric]:
        """The measured columns with their metric; one for all thresholds of ``iou``."""
        figures = self.measured.of(self.methods[0]).figures if self.methods else {}
        names = dict.fromkeys(column.partition("@")[0] for column in figures)
        known = {metric.name: metric for metric in self.plan.metrics}
        return {name: known[name.partition("_")[0]] for name in names}

    @property
    def main_columns(self) -> list[str]:
        """The columns to look at first: of each of the main metrics, on the score itself; else all."""
        first = [name for name, metric in self.columns.items() if metric.name in MAIN]
        found = [name for name in first if not name.endswith(f"_{PROBABILITY}")]
        return found or list(self.columns)

    def values(self, method: str, column: str) -> list[float]:
        """Return a method's figures by image; of ``iou`` only of the images that its threshold wasn't tuned
        on.

        Raises UsageError for what was not measured.
        """
        if method not in self.methods or column not in self.columns:
            raise UsageError(
                f"{method!r} has no {column!r}; measured were {', '.join(self.columns)} of "
                f"{', '.join(self.methods)}"
            )
        found = self.measured.of(method)
        values = found.figures[column] if column in found.figures else _at_tuned_threshold(found, column)
        return [float(value) for value in values]

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
        found = self.measured.of(method)
        ties = math.fsum(found.ties) / len(found)
        return MapNote(len(found), ties, int(found.blank.sum()), int(found.broken.sum()))

    @cached_property
    def evidence(self) -> Figure | None:
        """The probability that the model loses when whole images are removed; None without classes."""
        values = (
            [float(value) for value in self.measured.of(self.methods[0]).evidence] if self.methods else []
        )
        found = summarise(values, seed=self.seed)
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
            "forwards": self.plan.forwards(len(self.measured)),
            "evidence": None if self.evidence is None else document_of(self.evidence),
            "controls": [name for name in self.methods if name in CONTROLS],
            "maps": {method: vars(self.note(method)) for method in self.methods},
            "columns": {column: self._column(column) for column in self.columns},
            "curves": self._curves(),
        }

    def _curves(self) -> dict[str, object] | None:
        """Return the mean curves with their bands, by fill and method; None where none were measured."""
        first = self.measured.of(self.methods[0]).curves if self.methods else {}
        if not first:
            return None
        fills: dict[str, dict[str, object]] = {}
        for name in first:
            order, _, fill = name.partition("_")
            for method in self.methods:
                of_method = fills.setdefault(fill, {}).setdefault(method, {})
                of_method[order] = bands(self.measured.of(method).curves[name], seed=self.seed)  # type: ignore[index]
        with_probability = any(column.endswith(f"_{PROBABILITY}") for column in self.columns)
        scale = PROBABILITY if with_probability else LOGIT
        return {"scale": scale, "steps": self.plan.steps, "fills": fills}

    def _column(self, column: str) -> dict[str, object]:
        metric, verdict = self.columns[column], self.verdict(column)
        return {
            "metric": metric.name,
            "direction": metric.direction,
            "standing": metric.standing,
            "figures": {method: document_of(figure) for method, figure in self.figures[column].items()},
            "best": list(verdict.best),
            "conclusion": verdict.sentence,
        }


def _at_tuned_threshold(found: OfMethod, column: str) -> Column:
    """Tune on the images of even number, and give what the others have there."""
    names = [f"{column}@{share:g}" for share in THRESHOLDS]
    tuning = found.numbers % 2 == 0
    overlaps = torch.from_numpy(np.stack([found.figures[name][tuning] for name in names], 1)).float()
    if not len(overlaps) or not overlaps.isfinite().all(1).any():
        return np.full(int((~tuning).sum()), math.nan)
    others: Column = found.figures[names[tuned_threshold(overlaps)]][~tuning]
    return others


def document_of(figure: Figure) -> dict[str, float | None]:
    """Return a figure as JSON values; what is not finite is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in vars(figure).items()
    }
