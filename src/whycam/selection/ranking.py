"""Checkpoints in the order of how good they are, and what may be said of that order."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from whycam.selection.scoring import Score


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a checkpoint: its file's name and SHA-256, the number in its name, its score."""

    name: str
    number: int | None
    sha256: str
    score: Score


@dataclass(frozen=True)
class Tie:
    """Checkpoints of the same accuracy, in their order, and what that order was settled by."""

    names: tuple[str, ...]
    settled_by: Literal["loss", "earlier"]


@dataclass(frozen=True)
class Ranking:
    """Results from the best to the worst, and which of them share their accuracy."""

    results: tuple[Result, ...]
    ties: tuple[Tie, ...]

    @property
    def best(self) -> Result:
        """The first of them."""
        return self.results[0]

    @property
    def standard_error(self) -> float:
        """The standard error of the best accuracy, that of a share of so many images (binomial)."""
        accuracy = self.best.score.accuracy
        return math.sqrt(accuracy * (1 - accuracy) / self.best.score.images)

    @property
    def close(self) -> int:
        """How many others are within one standard error of the best."""
        limit = self.best.score.accuracy - self.standard_error
        return sum(one.score.accuracy >= limit for one in self.results[1:])

    @property
    def median_accuracy(self) -> float:
        """The accuracy that half of them reach."""
        return statistics.median(one.score.accuracy for one in self.results)


def rank(results: Sequence[Result]) -> Ranking:
    """Order results by accuracy; ties by the lower loss, then by who comes first in ``results``."""
    ordered = sorted(results, key=lambda one: (-one.score.correct, one.score.loss))  # stable: earlier first
    groups = [tuple(group) for _, group in groupby(ordered, key=lambda one: one.score.correct)]
    return Ranking(tuple(ordered), tuple(_tie(group) for group in groups if len(group) > 1))


def _tie(group: Sequence[Result]) -> Tie:
    losses = [one.score.loss for one in group]
    return Tie(tuple(one.name for one in group), "earlier" if losses[0] == losses[1] else "loss")
