"""Plan and panels -> a matplotlib figure, and from there the two files."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whycam.render.colormaps import colour_table
from whycam.render.fonts import Face
from whycam.render.text import language_of, runs
from whycam.reports.figure.layout import POINTS, Line, Plan, advance
from whycam.reports.figure.options import FigureOptions
from whycam.reports.figure.panels import Panel
from whycam.reports.figure.typefaces import embeddable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In points, on a cell as large as this or larger; thinner on smaller ones.
_LINE_WIDTH, _CASING_WIDTH, _FULL_CELL = 0.75, 1.5, 100.0

# Nothing of the user's own settings may change a figure; 42 embeds TrueType instead of type 3.
_SETTINGS: Any = {
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "image.composite_image": False,  # else maps and images would be joined and resampled
    "text.usetex": False,
    "path.simplify": False,
    "savefig.bbox": None,
    "savefig.facecolor": "auto",
}


def draw(plan: Plan, panels: Iterable[Panel], options: FigureOptions, fonts: Path) -> "Figure":
    """Draw a plan. ``fonts`` is a folder for the typefaces made on the way; it must outlive the figure."""
    look = options.look
    figure, axes = blank_page((plan.width, plan.bottom), options)
    for panel in panels:
        _draw_panel(axes, panel, options)
    _draw_bar(axes, plan, options)
    files = font_files([*plan.lines, *plan.inside], fonts)
    for line in [*plan.lines, *plan.inside]:
        draw_line(axes, line, getattr(look, line.tone), files)
    return figure


def blank_page(size: tuple[float, float], options: FigureOptions) -> tuple["Figure", "Axes"]:
    """Return a figure of (width, height) in points, and axes over all of it, in points downwards."""
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure((width / POINTS, height / POINTS), dpi=options.dpi, facecolor=options.look.page)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)  # downwards, as a page is read
    return figure, axes


def saved(figure: "Figure", kind: Literal["pdf", "png"]) -> bytes:
    """Return a figure as a file's bytes, which follow from what is drawn alone: no time is in it."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    with rc_context(_SETTINGS):
        figure.savefig(buffer, format=kind, dpi=figure.dpi, metadata=metadata)
    return buffer.getvalue()


def _draw_panel(axes: "Axes", panel: Panel, options: FigureOptions) -> None:
    from matplotlib.patches import Rectangle

    look = options.look
    left, top, right, bottom = panel.tile.rect
    if panel.pixels is None:
        size = right - left, bottom - top
        axes.add_patch(Rectangle((left, top), *size, facecolor=look.blank, edgecolor="none"))
        return
    _draw_pixels(axes, np.asarray(panel.pixels.convert("RGB")), panel.tile.rect)
    scale = (right - left) / panel.pixels.width
    table = colour_table(options.colours) / 255
    for level, lines in zip(options.levels, panel.lines, strict=False):
        ink = look.contour_ink or tuple(table[round(level * 255)])
        placed = [line * scale + (left, top) for line in lines]
        _draw_contours(axes, placed, ink, look.casing, panel.tile.rect)


def _draw_contours(axes: "Axes", lines: list[Any], ink: Any, casing: str, rect: tuple[float, ...]) -> None:
    """Draw lines as vectors, cut off at the rectangle's edge."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    left, top, right, bottom = rect
    tile = Rectangle((left, top), right - left, bottom - top, transform=axes.transData)
    thin = min(1.0, max(0.55, max(right - left, bottom - top) / _FULL_CELL))
    for width, colour in ((_CASING_WIDTH, casing), (_LINE_WIDTH, ink)):
        drawn = LineCollection(
            lines, linewidths=width * thin, colors=[colour], capstyle="round", joinstyle="round"
        )
        axes.add_collection(drawn, autolim=False)
        drawn.set_clip_path(tile)


def _draw_pixels(axes: "Axes", pixels: Any, rect: tuple[float, ...]) -> None:
    left, top, right, bottom = rect
    axes.imshow(pixels, extent=(left, right, bottom, top), interpolation="none", aspect="auto")


def _draw_bar(axes: "Axes", plan: Plan, options: FigureOptions) -> None:
    from matplotlib.patches import Rectangle

    if plan.bar is None:
        return
    left, top, right, bottom = plan.bar
    _draw_pixels(axes, colour_table(options.colours)[None], plan.bar)
    look = options.look
    axes.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=look.faint, linewidth=0.3)
    )
    for level in options.levels:
        x = left + level * (right - left)
        _draw_contours(
            axes, [np.array([(x, top), (x, bottom)])], look.contour_ink or look.ink, look.casing, plan.bar
        )


def font_files(lines: Iterable[Line], folder: Path) -> dict[Face, Path]:
    """Give each typeface that the lines need a file to embed, with all their characters."""
    characters: dict[Face, set[str]] = {}
    for line in lines:
        for run in runs(line.text):
            characters.setdefault(run.face, set()).update(run.text)
    return {face: embeddable(face, "".join(used), folder) for face, used in characters.items()}


def draw_line(axes: "Axes", line: Line, ink: str, files: dict[Face, Path]) -> None:
    """Draw a line piece by piece, each in a typeface that has all of it."""
    from matplotlib.font_manager import FontProperties

    x = line.left
    for run in runs(line.text):
        text = axes.text(
            x,
            line.baseline,
            run.text,
            fontproperties=FontProperties(fname=files[run.face], size=line.size),
            color=ink,
            ha="left",
            va="baseline",
            parse_math=False,  # a dollar in a class name is a dollar
        )
        if hasattr(text, "set_language"):  # from matplotlib 3.11 on
            text.set_language(language_of(run.text))
        x += advance(run.text, line.size)
