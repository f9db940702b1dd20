"""What an evaluated run's ``evaluation.json`` says, as typed values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from whycam.errors import RunError
from whycam.store import EVALUATION_NAME, Metrics, Run, read_metrics
from whycam.store.files import one_line

T = TypeVar("T")

Values: TypeAlias = tuple[float | None, ...]
"""One an evenly spaced share of removed pixels, from 0 to 1; None where there is none."""


@dataclass(frozen=True)
class Figure:
    """A mean of ``n`` images and its 95 % interval; None where there is none."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    undefined: int


@dataclass(frozen=True)
class MapNote:
    """Of a method's maps: how many, the mean share of tied pixels, how many are constant, how many broken."""

    n: int
    ties: float | None
    blank: int
    broken: int


@dataclass(frozen=True)
class Column:
    """A measured column, such as ``srg_blur_logit``: its figures by method, and what may be concluded."""

    name: str
    metric: str
    direction: str
    standing: str
    figures: Mapping[str, Figure]
    best: tuple[str, ...]
    conclusion: str

    @property
    def fill(self) -> str:
        """What removed pixels are filled with; empty for a metric without one."""
        return self._variant[0]

    @property
    def scale(self) -> str:
        """The scale of the score; empty for a metric without one."""
        return self._variant[1]

    @property
    def _variant(self) -> tuple[str, str]:
        rest = self.name.removeprefix(self.metric).strip("_")
        fill, _, scale = rest.rpartition("_")
        return fill, scale


@dataclass(frozen=True)
class Course:
    """Mean scores as pixels are removed, with the ends of their 95 % intervals."""

    mean: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class Courses:
    """A method's curves under a fill: with the least important pixels removed first, and with the most."""

    least: Course
    most: Course


@dataclass(frozen=True)
class Curves:
    """All curves on one scale, by fill and method."""

    scale: str
    steps: int
    fills: Mapping[str, Mapping[str, Courses]]


@dataclass(frozen=True)
class Evaluated:
    """An evaluated run: ``name`` tells it from the others of a report, ``metrics`` has its rows.

    ``maps`` has every method and control, in the order of the measurement; ``controls`` are the latter.
    """

    name: str
    metrics: Metrics = field(repr=False)
    images: int
    skipped: int
    without_mask: int
    named_skipped: tuple[tuple[str, str], ...]
    controls: tuple[str, ...]
    maps: Mapping[str, MapNote]
    columns: tuple[Column, ...]
    curves: Curves | None
    evidence: Figure | None
    seed: int
    steps: int
    forwards: int | None
    masks: str | None
    device: str
    versions: Mapping[str, str]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods without the controls."""
        return tuple(name for name in self.maps if name not in self.controls)

    @property
    def everything(self) -> tuple[str, ...]:
        """The methods, and behind them the controls."""
        return (*self.methods, *(name for name in self.controls if name in self.maps))


def read_evaluations(
    runs: Sequence[Run], names: Sequence[str]
) -> tuple[list[Evaluated | None], tuple[str, ...]]:
    """Return each run's evaluation, None where it has none, and a line for each that can't be read."""
    found: list[Evaluated | None] = []
    problems = []
    for run, name in zip(runs, names, strict=True):
        try:
            metrics = read_metrics(run.folder)
            found.append(None if metrics is None else evaluated(name, metrics))
        except RunError as error:
            found.append(None)
            problems.append(f"the evaluation is left out: {error}")
    return found, tuple(problems)


def evaluated(name: str, metrics: Metrics) -> Evaluated:
    """Return what a run's evaluation says. Raises RunError where it is not as whycam writes it."""
    try:
        return _evaluated(name, metrics, metrics.document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        path = str(metrics.folder / EVALUATION_NAME)
        raise RunError(
            f"{path!r} is damaged ({one_line(repr(error))}); evaluate the run again: whycam evaluate RUN"
        ) from error


def _evaluated(name: str, metrics: Metrics, document: Mapping[str, Any]) -> Evaluated:
    if not document["columns"] or not document["maps"]:
        raise ValueError("it has no figure of any method")
    return Evaluated(
        name=name,
        metrics=metrics,
        images=_whole(document["images"]),
        skipped=_whole(document["skipped"]["count"]),
        without_mask=_whole(document.get("without_mask", 0)),
        named_skipped=tuple((_text(one), _text(why)) for one, why in document["skipped"]["first"]),
        controls=_texts(document["controls"]),
        maps={_text(method): _note(note) for method, note in document["maps"].items()},
        columns=tuple(_column(*item) for item in document["columns"].items()),
        curves=_or_none(_curves, document.get("curves")),
        evidence=_or_none(_figure, document.get("evidence")),
        seed=_whole(document["seed"]),
        steps=_whole(document["steps"]),
        forwards=_or_none(_whole, document.get("forwards")),
        masks=_or_none(_text, document["settings"].get("masks")),
        device=_text(document.get("device", "")),
        versions={name: _text(said) for name, said in document.get("versions", {}).items()},
    )


def _column(name: str, document: Mapping[str, Any]) -> Column:
    return Column(
        name=name,
        metric=_text(document["metric"]),
        direction=_text(document["direction"]),
        standing=_text(document["standing"]),
        figures={_text(method): _figure(figure) for method, figure in document["figures"].items()},
        best=_texts(document["best"]),
        conclusion=one_line(_text(document["conclusion"])),
    )


def _figure(document: Mapping[str, Any]) -> Figure:
    mean, low, high = (_or_none(_number, document[name]) for name in ("mean", "low", "high"))
    return Figure(mean, low, high, _whole(document["n"]), _whole(document.get("undefined", 0)))


def _note(document: Mapping[str, Any]) -> MapNote:
    ties = _or_none(_number, document["ties"])
    return MapNote(_whole(document["n"]), ties, _whole(document["blank"]), _whole(document["broken"]))


def _curves(document: Mapping[str, Any]) -> Curves:
    steps = _whole(document["steps"])
    fills = {
        fill: {
            method: Courses(*(_course(both[order], steps + 1) for order in ("least", "most")))
            for method, both in methods.items()
        }
        for fill, methods in document["fills"].items()
    }
    return Curves(_text(document["scale"]), steps, fills)


def _course(document: Mapping[str, Any], points: int) -> Course:
    found = [tuple(_or_none(_number, value) for value in document[name]) for name in ("mean", "low", "high")]
    if any(len(values) != points for values in found):
        raise ValueError(f"a curve of {len(found[0])} points; expected {points}")
    return Course(*found)


def _or_none(take: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else take(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(map(_text, values))
