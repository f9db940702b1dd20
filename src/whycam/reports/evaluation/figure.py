"""Evaluated runs -> evaluation.pdf and .png: curves with bands, and the main figures with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from whycam.render.text import drawable, line_height
from whycam.reports.evaluation.facts import Column, Evaluated
from whycam.reports.evaluation.plot import (
    CURVES_SHOWN,
    Band,
    Dot,
    DotPlot,
    Ink,
    Label,
    Look,
    Mark,
    Sizes,
    Stroke,
    curve_plots,
    dots_height,
    draw_curves,
    draw_dots,
    looks,
    row_places,
    shifted,
    shown_in_curves,
)
from whycam.reports.evaluation.words import chance_of, headline, main_columns, method_title, title_of_column
from whycam.reports.figure.drawing import blank_page, draw_line, font_files, saved
from whycam.reports.figure.layout import (
    BODY,
    HEAD,
    MARGIN,
    POINTS,
    SMALL,
    TALLEST,
    Line,
    shortened,
    width_of,
    wrapped,
)
from whycam.reports.figure.making import glyph_warnings
from whycam.reports.figure.options import STYLES, FigureOptions, FigureStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = Sizes(head=BODY, small=SMALL, line=1.0)
PDF_NAME, PNG_NAME = "evaluation.pdf", "evaluation.png"

_GAP, _CURVES_HIGH, _WIDE = 10.0, 108.0, 5.0
_BAND_OPACITY, _CONTROL_OPACITY = 0.16, 0.07
_PAPER: Mapping[Ink, str] = {
    "m0": "#0072b2", "m1": "#c44e00", "m2": "#00795a", "m3": "#9a3d8c", "m4": "#8f6a00", "m5": "#2b2b2b",
    "other": "#3c3c3c", "control": "#8a8a8a", "axis": "#555555", "grid": "#e2e2e2",
}  # fmt: skip
_DARK: Mapping[Ink, str] = {
    "m0": "#6ab8f0", "m1": "#ff9a4d", "m2": "#3fd0a6", "m3": "#e79bd0", "m4": "#e8c44d", "m5": "#f2f2f2",
    "other": "#d8d8d8", "control": "#8b9096", "axis": "#b4b8bf", "grid": "#32363d",
}  # fmt: skip
_GRAY: Mapping[Ink, str] = {
    "m0": "#000000", "m1": "#1c1c1c", "m2": "#000000", "m3": "#2a2a2a", "m4": "#000000", "m5": "#1c1c1c",
    "other": "#000000", "control": "#8a8a8a", "axis": "#555555", "grid": "#e2e2e2",
}  # fmt: skip
_INKS: Mapping[str, Mapping[Ink, str]] = {"dark": _DARK, "print-gray": _GRAY}


@dataclass
class _Page:
    """What is drawn so far, and where the next thing goes."""

    width: float
    bottom: float = MARGIN
    marks: list[Mark] = field(default_factory=list)

    @property
    def inner(self) -> float:
        return self.width - 2 * MARGIN

    def add_text(self, text: str, size: float, ink: Ink = "text") -> None:
        for line in wrapped(drawable(text), self.inner, size):
            self.bottom += line_height(size)
            self.marks.append(Label(line, MARGIN, self.bottom - 0.3 * size, size, ink))


def evaluation_figure(
    found: Sequence[Evaluated], width: float, style: str
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Draw evaluated runs below each other, ``width`` inches wide; return the files by name, and warnings.

    The same evaluations give the same bytes. Raises UsageError for an unknown style or width.
    """
    options = FigureOptions(style=style, width=width)
    with glyph_warnings() as said, TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        page = _planned(found, drawn_columns(found, width), width * POINTS)
        figure, axes = blank_page((page.width, page.bottom + MARGIN), options)
        _draw(axes, page.marks, STYLES[style], _INKS.get(style, _PAPER), Path(scratch))
        files = {PDF_NAME: saved(figure, "pdf"), PNG_NAME: saved(figure, "png")}
    if page.bottom > TALLEST:
        high, most = page.bottom / POINTS, TALLEST / POINTS
        said.append(
            f"evaluation.pdf is {high:.1f} inches high, a page holds {most:g}; try --width 7, or one run"
        )
    return files, tuple(said)


def drawn_columns(found: Sequence[Evaluated], width: float) -> list[Sequence[Column]]:
    """Return the main figures that each run has on a figure of ``width`` inches.

    Where all of them are too high for a page, it is two of unlike metrics a run.
    """
    whole = [main_columns(one) for one in found]
    with glyph_warnings():  # drawing tells them
        high = _planned(found, whole, width * POINTS).bottom
    return [_unlike(columns) for columns in whole] if high > TALLEST else [*whole]


def _planned(found: Sequence[Evaluated], columns: Sequence[Sequence[Column]], width: float) -> _Page:
    page = _Page(width)
    for one, some in zip(found, columns, strict=True):
        _add_run(page, one, some, several=len(found) > 1)
    return page


def _unlike(columns: Sequence[Column]) -> list[Column]:
    first = {column.metric: column for column in reversed(columns)}
    return [column for column in columns if first[column.metric] is column][:2]


def _add_run(page: _Page, evaluated: Evaluated, columns: Sequence[Column], *, several: bool) -> None:
    look = looks(evaluated)
    if several:
        page.add_text(evaluated.name, HEAD)
        page.bottom += 3
    _add_curves(page, evaluated, look)
    _add_dots(page, evaluated, columns, look)
    page.add_text(headline(evaluated), BODY)
    page.add_text(_note(evaluated, columns), SMALL, "faint")
    page.bottom += _GAP if several else 0


def _note(evaluated: Evaluated, columns: Sequence[Column]) -> str:
    shown = "bars and bands" if evaluated.curves else "bars"
    parts = [f"{evaluated.images:,} images", f"{shown} are 95 % bootstrap intervals of the mean"]
    if evaluated.images == 1:
        parts = ["1 image, of which there is no interval"]
    parts.append("gray: controls, which know nothing of the network")
    if any(chance_of(column) is not None for column in columns):
        parts.append("dashed: chance")
    left = len(evaluated.methods) - CURVES_SHOWN
    if evaluated.curves and left > 0:
        parts.append(f"curves of the first {CURVES_SHOWN} of {len(evaluated.methods)} methods")
    if len(columns) < len(main_columns(evaluated)):
        parts.append("the other main figures are in evaluation.csv")
    return f"{'; '.join(parts)}."


def _add_curves(page: _Page, evaluated: Evaluated, look: dict[str, Look]) -> None:
    plots = curve_plots(evaluated)
    if not plots:
        return
    across = {4: 4, 6: 3}.get(len(plots), 2) if page.inner >= _WIDE * POINTS else 2
    if across == 3:  # all fills side by side
        plots = [*plots[::2], *plots[1::2]]
    width = (page.inner - (across - 1) * _GAP) / across
    for first in range(0, len(plots), across):
        for place, plot in enumerate(plots[first : first + across]):
            marks = draw_curves(plot, look, width, _CURVES_HIGH, SIZES)
            page.marks += shifted(_named(marks, width), MARGIN + place * (width + _GAP), page.bottom)
        page.bottom += _CURVES_HIGH + 4
    _add_key(page, evaluated, look)


def _named(marks: Sequence[Mark], width: float) -> list[Mark]:
    """Make every text one that fonts have, and none wider than its plot."""
    return [_fitted(mark, width) if isinstance(mark, Label) else mark for mark in marks]


def _fitted(label: Label, width: float) -> Label:
    text = drawable(label.text)
    size = label.size if width_of(text, label.size) <= width else SMALL
    return replace(label, text=shortened(text, width, size), size=size)


def _add_key(page: _Page, evaluated: Evaluated, look: dict[str, Look]) -> None:
    """Say which line is whose, one behind the other."""
    sample, left = 18.0, MARGIN
    page.bottom += line_height(SMALL)
    for name in shown_in_curves(evaluated):
        text = shortened(drawable(method_title(name)), page.inner / 2 - sample, SMALL)
        wide = sample + 3 + width_of(text, SMALL) + 8
        if left + wide > page.width - MARGIN + 8:
            left, page.bottom = MARGIN, page.bottom + line_height(SMALL)
        y, own = page.bottom - 0.3 * SMALL, look[name]
        at = y - 0.36 * SMALL
        page.marks.append(Stroke(((left, at), (left + sample, at)), own.ink, own.width, own.dash))
        page.marks.append(Label(text, left + sample + 3, y, SMALL))
        left += wide
    page.bottom += 8


def _add_dots(page: _Page, evaluated: Evaluated, columns: Sequence[Column], look: dict[str, Look]) -> None:
    names = evaluated.everything
    titles = {name: drawable(method_title(name)) for name in names}
    longest = max(width_of(title, SMALL) for title in titles.values())
    beside = min(longest, 0.3 * page.inner) + 6
    across = min(len(columns), 4 if page.inner >= _WIDE * POINTS else 2)
    width = (page.inner - beside - across * _GAP) / across
    places = row_places(names, evaluated.controls, SIZES)
    for first in range(0, len(columns), across):
        for name, y in places.items():
            ink: Ink = "faint" if name in evaluated.controls else "text"
            text = shortened(titles[name], beside - 6, SMALL)
            at = page.bottom + y + 0.36 * SMALL
            page.marks.append(Label(text, MARGIN + beside - 6, at, SMALL, ink, "end"))
        for place, column in enumerate(columns[first : first + across]):
            plot = DotPlot(column, title_of_column(column), names, evaluated.controls)
            marks = draw_dots(plot, look, width, SIZES)
            left = MARGIN + beside + place * (width + _GAP)
            page.marks += shifted(_named(marks, width + _GAP / 2), left, page.bottom)
        page.bottom += dots_height(names, evaluated.controls, SIZES)


def _draw(
    axes: "Axes", marks: Sequence[Mark], style: FigureStyle, inks: Mapping[Ink, str], fonts: Path
) -> None:
    colours = {**inks, "text": style.ink, "faint": style.faint}
    lines = [(_line(mark), colours[mark.ink]) for mark in marks if isinstance(mark, Label)]
    files = font_files([line for line, _ in lines], fonts)
    for place, mark in enumerate(marks):
        _draw_mark(axes, mark, colours, style.page, place)
    for line, ink in lines:
        draw_line(axes, line, ink, files)


def _line(label: Label) -> Line:
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
    return Line(label.text, label.x - share * width_of(label.text, label.size), label.y, label.size)


def _draw_mark(axes: "Axes", mark: Mark, colours: Mapping[Ink, str], page: str, place: int) -> None:
    """Draw a mark on top of those at earlier places."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Polygon

    ink = colours[mark.ink]
    if isinstance(mark, Band):
        opacity = _CONTROL_OPACITY if mark.ink == "control" else _BAND_OPACITY
        axes.add_patch(Polygon(mark.points, facecolor=ink, alpha=opacity, edgecolor="none", zorder=place))
    elif isinstance(mark, Stroke):
        xs, ys = zip(*mark.points, strict=True)
        line = Line2D(xs, ys, color=ink, linewidth=mark.width, zorder=place)
        if mark.dash:
            line.set_linestyle((0, mark.dash))
        line.set_solid_capstyle("butt")
        axes.add_line(line)
    elif isinstance(mark, Dot):
        face, centre = page if mark.open else ink, (mark.x, mark.y)
        axes.add_patch(
            Circle(centre, mark.radius, facecolor=face, edgecolor=ink, linewidth=0.8, zorder=place)
        )
