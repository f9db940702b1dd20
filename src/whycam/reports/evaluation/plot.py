"""Plots as marks in points, from the top left corner: what a page draws as SVG and a figure as vectors.

Colours are named by what they stand for (an ``Ink``); who draws the marks knows the colours.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from whycam.reports.evaluation.facts import Column, Courses, Evaluated, Figure, Values
from whycam.reports.evaluation.words import LEGACY, chance_of, short

Ink: TypeAlias = Literal[
    "m0", "m1", "m2", "m3", "m4", "m5", "other", "control", "axis", "grid", "text", "faint"
]
Anchor: TypeAlias = Literal["start", "middle", "end"]
Points: TypeAlias = tuple[tuple[float, float], ...]

CURVES_SHOWN = 6
"""Methods whose curves are drawn, the first ones; more can't be told apart."""

DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5.0, 2.0),
    (1.2, 1.8),
    (6.0, 2.0, 1.2, 2.0),
    (2.6, 1.6),
    (8.0, 2.0, 2.0, 2.0),
)
"""On and off, in points: methods differ by more than their colour."""

_CONTROL_DASHES: tuple[tuple[float, ...], ...] = ((), (3.0, 2.0), (1.0, 1.6), (5.0, 1.6, 1.0, 1.6))


@dataclass(frozen=True)
class Stroke:
    """A line through points."""

    points: Points
    ink: Ink
    width: float
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Band:
    """The room between two lines, filled faintly."""

    points: Points
    ink: Ink


@dataclass(frozen=True)
class Dot:
    """A full or an open circle."""

    x: float
    y: float
    radius: float
    ink: Ink
    open: bool = False


@dataclass(frozen=True)
class Label:
    """A text on its baseline, by its start, middle or end."""

    text: str
    x: float
    y: float
    size: float
    ink: Ink = "text"
    anchor: Anchor = "start"


Mark: TypeAlias = Stroke | Band | Dot | Label


@dataclass(frozen=True)
class Look:
    """How a method is drawn everywhere."""

    ink: Ink
    dash: tuple[float, ...]
    width: float


@dataclass(frozen=True)
class Sizes:
    """Letters of headings and of numbers, and the width of a line, in points."""

    head: float
    small: float
    line: float


@dataclass(frozen=True)
class Frame:
    """A plot's inner rectangle in points, and the values at its edges."""

    left: float
    top: float
    right: float
    bottom: float
    low: float
    high: float


def shifted(marks: Sequence[Mark], right: float, down: float) -> Iterator[Mark]:
    """Yield marks somewhere else."""
    for mark in marks:
        if isinstance(mark, Stroke | Band):
            yield replace(mark, points=tuple((x + right, y + down) for x, y in mark.points))
        else:
            yield replace(mark, x=mark.x + right, y=mark.y + down)


def looks(evaluated: Evaluated) -> dict[str, Look]:
    """Return how each method and control is drawn; only the first methods have a colour of their own."""
    found = {}
    for place, name in enumerate(evaluated.methods):
        ink: Ink = _ink(place) if place < CURVES_SHOWN else "other"
        found[name] = Look(ink, DASHES[place % len(DASHES)], 1.0)
    for place, name in enumerate(evaluated.controls):
        found[name] = Look("control", _CONTROL_DASHES[place % len(_CONTROL_DASHES)], 0.6)
    return found


def _ink(place: int) -> Ink:
    inks: tuple[Ink, ...] = ("m0", "m1", "m2", "m3", "m4", "m5")
    return inks[place]


def shown_in_curves(evaluated: Evaluated) -> tuple[str, ...]:
    """Return the methods and controls whose curves are drawn, in their order."""
    fills = evaluated.curves.fills.values() if evaluated.curves else ()
    names = (*evaluated.methods[:CURVES_SHOWN], *evaluated.controls)
    return tuple(name for name in names if any(name in methods for methods in fills))


@dataclass(frozen=True)
class CurvePlot:
    """One fill's curves in one order: ``name`` is the metric that reads them."""

    fill: str
    name: Literal["Deletion", "Insertion"]
    courses: tuple[tuple[str, Courses], ...]
    scale: str
    span: tuple[float, float]

    @property
    def title(self) -> str:
        """The heading."""
        return f"{self.name}, {self.fill} fill"

    @property
    def below(self) -> str:
        """What stands along the axis."""
        done = "removed" if self.name == "Deletion" else "restored"
        return f"share {done}, most important first"


def curve_plots(evaluated: Evaluated) -> list[CurvePlot]:
    """Return a pair of plots a fill, all with one axis of scores; none without curves."""
    if evaluated.curves is None:
        return []
    names = shown_in_curves(evaluated)
    by_fill = {
        fill: tuple((name, methods[name]) for name in names if name in methods)
        for fill, methods in evaluated.curves.fills.items()
    }
    span = _span(evaluated.curves.scale, [both for some in by_fill.values() for _, both in some])
    return [
        CurvePlot(fill, name, courses, evaluated.curves.scale, span)
        for fill, courses in by_fill.items()
        for name in ("Deletion", "Insertion")
    ]


def _span(scale: str, shown: Sequence[Courses]) -> tuple[float, float]:
    """Return the lowest and the highest score to show; a probability's axis begins at 0."""
    values = [
        value
        for both in shown
        for course in (both.least, both.most)
        for some in (course.mean, course.low, course.high)
        for value in some
        if value is not None
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if scale == "probability":
        return 0.0, max(high, 1e-6)
    room = 0.03 * (high - low) or 0.5
    return low - room, high + room


def draw_curves(
    plot: CurvePlot, look: dict[str, Look], width: float, height: float, sizes: Sizes
) -> list[Mark]:
    """Draw one plot into a rectangle of ``width`` x ``height`` points."""
    ticks = ticks_between(*plot.span)
    left = max(len(short(tick)) for tick in ticks) * 0.6 * sizes.small + 5
    top = 2.9 * sizes.head
    frame = Frame(left, top, width - 0.9 * sizes.small, height - 3.1 * sizes.small, *plot.span)
    marks: list[Mark] = [
        Label(plot.title, 0.0, sizes.head, sizes.head),
        Label(f"mean {plot.scale}", 0.0, 2.2 * sizes.head, sizes.small, "faint"),
        *_level_axis(frame, ticks, sizes),
        Label(plot.below, frame.right, height - 0.4 * sizes.small, sizes.small, "faint", "end"),
    ]
    drawn = [(name, both.most if plot.name == "Deletion" else both.least) for name, both in plot.courses]
    # controls first, so that no method is under one
    drawn.sort(key=lambda pair: look[pair[0]].ink != "control")
    order = 1 if plot.name == "Deletion" else -1
    for name, course in drawn:
        marks += _bands(frame, course.low[::order], course.high[::order], look[name].ink)
    for name, course in drawn:
        own = look[name]
        for points in _unbroken(frame, course.mean[::order]):
            marks.append(Stroke(points, own.ink, own.width * sizes.line, own.dash))
    return marks


def _level_axis(frame: Frame, ticks: Sequence[float], sizes: Sizes) -> Iterator[Mark]:
    for tick in ticks:
        y = _y(frame, tick)
        yield Stroke(((frame.left, y), (frame.right, y)), "grid", 0.4)
        yield Label(short(tick), frame.left - 3, y + 0.36 * sizes.small, sizes.small, "faint", "end")
    yield Stroke(((frame.left, frame.bottom), (frame.right, frame.bottom)), "axis", 0.6)
    for share in (0.0, 0.5, 1.0):
        x = frame.left + share * (frame.right - frame.left)
        yield Stroke(((x, frame.bottom), (x, frame.bottom + 2)), "axis", 0.6)
        yield Label(f"{share:g}", x, frame.bottom + 2 + 1.1 * sizes.small, sizes.small, "faint", "middle")


def _y(frame: Frame, value: float) -> float:
    return frame.bottom - (value - frame.low) / (frame.high - frame.low) * (frame.bottom - frame.top)


def _x(frame: Frame, value: float) -> float:
    return frame.left + (value - frame.low) / (frame.high - frame.low) * (frame.right - frame.left)


def _unbroken(frame: Frame, values: Values) -> Iterator[Points]:
    """Yield the pieces of a line between the places where there is no value."""
    step = (frame.right - frame.left) / (len(values) - 1)
    piece: list[tuple[float, float]] = []
    for place, value in enumerate((*values, None)):
        if value is not None:
            piece.append((frame.left + place * step, _y(frame, value)))
            continue
        if len(piece) > 1:
            yield tuple(piece)
        piece = []


def _bands(frame: Frame, low: Values, high: Values, ink: Ink) -> Iterator[Band]:
    both = [one is not None and other is not None for one, other in zip(low, high, strict=True)]
    lower, upper = (
        list(
            _unbroken(frame, tuple(value if there else None for value, there in zip(side, both, strict=True)))
        )
        for side in (low, high)
    )
    for under, over in zip(lower, upper, strict=True):
        yield Band((*under, *reversed(over)), ink)


def ticks_between(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most ``most`` round numbers from ``low`` to ``high``, evenly spaced; at least one."""
    raw = (high - low) / max(1, most - 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    for step in (factor * unit for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 0 < last - first + 1 <= most:
            return [number * step for number in range(first, last + 1)]
    return [low]


def dot_span(column: Column, names: Sequence[str]) -> tuple[float, float]:
    """Return the lowest and the highest value to show of a column, chance among them."""
    figures = [column.figures[name] for name in names if name in column.figures]
    known = [value for figure in figures for value in (figure.mean, figure.low, figure.high)]
    chance = chance_of(column)
    values = [value for value in (*known, chance) if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


@dataclass(frozen=True)
class DotPlot:
    """A column's figures, a line a method; ``names`` has the methods, then the controls."""

    column: Column
    title: str
    names: tuple[str, ...]
    controls: tuple[str, ...]


def row_places(plot_names: Sequence[str], controls: Sequence[str], sizes: Sizes) -> dict[str, float]:
    """Return the middle of each name's line below a dot plot's top; the controls stand a little apart."""
    pitch, top = 1.6 * sizes.small, 3.3 * sizes.head
    apart = {name: 0.7 * pitch if name in controls else 0.0 for name in plot_names}
    return {name: top + place * pitch + apart[name] for place, name in enumerate(plot_names)}


def dots_height(plot_names: Sequence[str], controls: Sequence[str], sizes: Sizes) -> float:
    """Return how high dot plots of these names are."""
    return max(row_places(plot_names, controls, sizes).values(), default=0.0) + 4.0 * sizes.small


def draw_dots(plot: DotPlot, look: dict[str, Look], width: float, sizes: Sizes) -> list[Mark]:
    """Draw a column's means with their intervals; the names stand elsewhere, left of all columns."""
    places = row_places(plot.names, plot.controls, sizes)
    height = dots_height(plot.names, plot.controls, sizes)
    low, high = dot_span(plot.column, plot.names)
    edge = 1.2 * sizes.small
    frame = Frame(edge, 2.5 * sizes.head, width - edge, height - 2.6 * sizes.small, low, high)
    marks: list[Mark] = [
        Label(plot.title, 0.0, sizes.head, sizes.head),
        Label(_good(plot.column), 0.0, 2.15 * sizes.head, sizes.small, "faint"),
        *_value_axis(frame, ticks_between(low, high, 4), sizes),
    ]
    chance = chance_of(plot.column)
    if chance is not None:
        x = _x(frame, chance)
        marks.append(Stroke(((x, frame.top), (x, frame.bottom)), "control", 0.8, (2.0, 2.0)))
    for name, y in places.items():
        marks += _dot(frame, plot.column.figures.get(name), y, look[name], sizes, name in plot.controls)
    return marks


def _good(column: Column) -> str:
    said = {"higher": "higher is better", "lower": "lower is better"}.get(column.direction, "a descriptor")
    return f"{column.standing}; {said}" if column.standing == LEGACY else said


def _value_axis(frame: Frame, ticks: Sequence[float], sizes: Sizes) -> Iterator[Mark]:
    for tick in ticks:
        x = _x(frame, tick)
        yield Stroke(((x, frame.top), (x, frame.bottom)), "grid", 0.4)
        yield Label(short(tick), x, frame.bottom + 2 + 1.1 * sizes.small, sizes.small, "faint", "middle")
    yield Stroke(((frame.left, frame.bottom), (frame.right, frame.bottom)), "axis", 0.6)


def _dot(
    frame: Frame, figure: Figure | None, y: float, look: Look, sizes: Sizes, control: bool
) -> Iterator[Mark]:
    if figure is None or figure.mean is None:
        yield Label("no figure", frame.left, y + 0.36 * sizes.small, sizes.small, "faint")
        return
    if figure.low is not None and figure.high is not None:
        yield Stroke(((_x(frame, figure.low), y), (_x(frame, figure.high), y)), look.ink, sizes.line)
    yield Dot(_x(frame, figure.mean), y, 0.33 * sizes.small, look.ink, open=control)
