"""The side-by-side sheet: a row an image, the original beside one picture a method.

A sheet is planned first, as pictures and lines of text with their places, and then painted. So it can
be checked that nothing on it overlaps and nothing is cut off, without looking.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from whycam.errors import UsageError
from whycam.render.colormaps import DEFAULT_COLORMAP, colorise
from whycam.render.heatmaps import Normalisation
from whycam.render.overlays import DEFAULT_OPACITY, Opacity, as_rgb
from whycam.render.text import ASCENT, DESCENT, draw_text, drawable, line_height, shorten, text_width, wrap

ROW_LIMIT = 24
"""Rows on one sheet; the sheet says how many images it leaves out."""

# Above this a sheet is drawn at a lower scale: viewers, Pillow among them, balk at larger files.
PIXEL_LIMIT = 64_000_000

# Pictures smaller than this on both sides are enlarged in squares: their pixels are seen as they are.
SMALL_PICTURE = 64

SEPARATOR = " · "
INK, FAINT_INK, RULE, BLANK_FILL = "#1a1a1a", "#5a5a5a", "#c4c4c4", "#f3f3f3"

Rect: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom) in the sheet's pixels."""


@dataclass(frozen=True)
class SheetRow:
    """One image on a sheet.

    ``overlays`` has one picture a column; None where there is none, drawn as a blank cell. ``notes`` is
    empty or has a short text for each overlay: under its picture, or inside its blank cell, where it
    should say why. ``caption`` stands under the row, one line or several; where a line is too long, its
    parts between " · " are shortened in their middle.
    """

    picture: Image.Image
    overlays: Sequence[Image.Image | None]
    caption: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Label:
    """One line of text, by the left end of its baseline."""

    text: str
    left: float
    baseline: float
    size: float
    ink: str

    @property
    def rect(self) -> Rect:
        """The room that the line takes."""
        right = self.left + text_width(self.text, self.size)
        return self.left, self.baseline - ASCENT * self.size, right, self.baseline + DESCENT * self.size


@dataclass(frozen=True)
class Tile:
    """A picture and where it goes; None is a blank cell, with its text."""

    picture: Image.Image | None
    rect: Rect
    labels: tuple[Label, ...] = ()


@dataclass
class Plan:
    """What is on a sheet and where; ``bottom`` is where the next thing may go."""

    width: float
    bottom: float
    tiles: list[Tile] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def rects(self) -> Iterator[Rect]:
        """Yield the room that each thing takes; a blank cell's text lies in the cell's."""
        yield from (tile.rect for tile in self.tiles)
        yield from (label.rect for label in self.labels)


@dataclass(frozen=True)
class Style:
    """Lengths and text sizes on a sheet, in its pixels."""

    cell: float
    scale: float

    @property
    def margin(self) -> float:
        """White around everything."""
        return 16 * self.scale

    @property
    def gap(self) -> float:
        """White between two columns."""
        return 8 * self.scale

    @property
    def pitch(self) -> float:
        """From one column to the next."""
        return self.cell + self.gap

    @property
    def bar(self) -> tuple[int, int]:
        """Width and height of the colour bar."""
        return round(150 * self.scale), round(9 * self.scale)

    def text(self, role: str) -> float:
        """Text size for a role: title, head, caption or small."""
        return {"title": 14, "head": 12, "caption": 11, "small": 9.5}[role] * self.scale


@dataclass(frozen=True)
class Legend:
    """What the colours mean, and how they came about."""

    colormap: str
    lowest: str
    highest: str
    footer: str


def sheet(
    rows: Sequence[SheetRow],
    *,
    columns: Sequence[str],
    title: str = "",
    colormap: str = DEFAULT_COLORMAP,
    normalised: Normalisation = "image",
    opacity: Opacity | None = DEFAULT_OPACITY,
    layer: str = "",
    caution: str | None = None,
    cell: int = 224,
    scale: float = 2.0,
    limit: int = ROW_LIMIT,
) -> Image.Image:
    """Draw images side by side with what the methods say about them. Returns an RGB picture.

    ``columns`` are the overlays' titles. Of the rows the first ``limit`` are drawn, and a line says how
    many are not. Pictures of any aspect fit in cells of ``cell`` logical pixels; ``scale`` real pixels
    make one, fewer where the sheet would exceed 64 megapixels. A colour bar says what 0 and 1 mean under
    ``normalised``; the footer gives what must be said of the weights (``caution``), the order of
    processing, the layer (empty: left out) and the opacity (None: left out, for contours). Issues a
    MissingGlyphWarning for text that no font has. Raises UsageError when there are no rows, or a row's
    overlays or notes do not match the columns.
    """
    _check(rows, columns, limit=limit, cell=cell, scale=scale)
    legend = Legend(
        colormap,
        lowest="0 = no evidence",
        highest=f"1 = strongest in {'this image' if normalised == 'image' else 'these images'}",
        footer=_footer(normalised, layer, opacity, caution),
    )
    while True:
        style = Style(cell * scale, scale)
        plan = plan_sheet(rows[:limit], columns, title, legend, style, left_out=max(0, len(rows) - limit))
        if plan.width * plan.bottom <= PIXEL_LIMIT or scale <= 0.5:
            return _paint(plan)
        scale = max(0.5, scale / 1.25)


def plan_sheet(
    rows: Sequence[SheetRow],
    columns: Sequence[str],
    title: str,
    legend: Legend,
    style: Style,
    *,
    left_out: int,
) -> Plan:
    """Place everything that is on a sheet, from its top to its bottom."""
    inner = max((len(columns) + 1) * style.pitch - style.gap, _legend_width(legend, style))
    plan = Plan(width=inner + 2 * style.margin, bottom=style.margin)
    if title:
        _add_line(plan, style, shorten(title, inner, style.text("title")), "title")
        plan.bottom += style.gap
    _add_heads(plan, style, ("image", *columns))
    for row in rows:
        _add_row(plan, style, row)
    if left_out:
        more = f"… and {left_out} more image{'s' if left_out > 1 else ''}, not drawn here"
        _add_line(plan, style, more, "caption", FAINT_INK)
        plan.bottom += style.gap
    _add_legend(plan, style, legend)
    plan.bottom += style.margin
    return plan


def _check(rows: Sequence[SheetRow], columns: Sequence[str], *, limit: int, cell: int, scale: float) -> None:
    if not rows:
        raise UsageError("a sheet has no rows; expected at least one image")
    if limit < 1 or cell < 1 or scale <= 0:
        raise UsageError(f"sheet has limit {limit}, cell {cell}, scale {scale}; expected positive numbers")
    for number, row in enumerate(rows):
        if len(row.overlays) != len(columns) or len(row.notes) not in (0, len(columns)):
            raise UsageError(
                f"row {number} of the sheet has {len(row.overlays)} overlays and {len(row.notes)} notes for "
                f"{len(columns)} columns; expected one overlay a column, and as many notes or none"
            )


def _footer(normalised: Normalisation, layer: str, opacity: Opacity | None, caution: str | None) -> str:
    last = "image" if normalised == "image" else "batch"
    parts = [caution] if caution else []  # a title may be shortened, a footer is not
    parts += [f"maps rectified → resized (bilinear) → normalised per {last} (divided by its maximum)"]
    parts += [f"layer\u00a0{layer}"] if layer else []  # no line break inside
    parts += [opacity.describe()] if opacity else []
    return SEPARATOR.join(parts)


def _add_line(plan: Plan, style: Style, text: str, role: str, ink: str = INK) -> None:
    size = style.text(role)
    plan.labels.append(Label(text, style.margin, plan.bottom + ASCENT * size, size, ink))
    plan.bottom += line_height(size)


def _add_heads(plan: Plan, style: Style, heads: Sequence[str]) -> None:
    size = style.text("head")
    for column, head in enumerate(heads):
        plan.labels.append(_centred(head, style, column, plan.bottom, size, INK))
    plan.bottom += line_height(size) + style.gap / 4


def _centred(text: str, style: Style, column: int, top: float, size: float, ink: str) -> Label:
    shown = shorten(text, style.cell, size)
    left = style.margin + column * style.pitch + (style.cell - text_width(shown, size)) / 2
    return Label(shown, left, top + ASCENT * size, size, ink)


def _add_row(plan: Plan, style: Style, row: SheetRow) -> None:
    pictures = (row.picture, *row.overlays)
    sizes = [_fitted(picture, style) for picture in pictures if picture]
    # A blank cell needs room for its text, however thin the pictures beside it are.
    least = 0 if len(sizes) == len(pictures) else round(style.cell / 3)
    height = float(max(least, *(high for _, high in sizes)))
    notes = ("", *(row.notes or [""] * len(row.overlays)))
    plan.bottom = float(math.ceil(plan.bottom))  # pictures lie on whole pixels
    for column, (picture, note) in enumerate(zip(pictures, notes, strict=True)):
        plan.tiles.append(_tile(picture, note, style, column, plan.bottom, height))
    plan.bottom += height
    under = [note if picture else "" for picture, note in zip(pictures, notes, strict=True)]
    _add_notes(plan, style, under)
    for line in row.caption.splitlines():
        fitted = _fit_parts(line, plan.width - 2 * style.margin, style.text("caption"))
        _add_line(plan, style, fitted, "caption")
    plan.bottom += 1.5 * style.gap


def _fitted(picture: Image.Image, style: Style) -> tuple[int, int]:
    """Return the (width, height) of a picture fitted into a cell."""
    factor = style.cell / max(picture.size)
    least = 4 * style.scale  # a picture one pixel thin would hardly be seen
    width, height = (round(min(max(side * factor, least), style.cell)) for side in picture.size)
    return max(1, width), max(1, height)


def _tile(
    picture: Image.Image | None, note: str, style: Style, column: int, top: float, height: float
) -> Tile:
    left = style.margin + column * style.pitch
    if picture is None:
        rect = (left, top, left + style.cell, top + height)
        return Tile(None, rect, _blank_labels(note or "no map", rect, style))
    wide, high = _fitted(picture, style)
    x = float(round(left + (style.cell - wide) / 2))
    y = float(round(top + (height - high) / 2))
    return Tile(picture, (x, y, x + wide, y + high))


def _blank_labels(text: str, rect: Rect, style: Style) -> tuple[Label, ...]:
    """Set a text in the middle of a blank cell, on as many lines as fit."""
    size, room = style.text("small"), style.cell - 2 * style.gap
    left, top, right, bottom = rect
    most = int((bottom - top) / line_height(size))
    lines = wrap(text, room, size)
    if len(lines) > most > 0:
        lines = [*lines[: most - 1], shorten(" ".join(lines[most - 1 :]), room, size)]
    lines = lines[:most]
    first = (top + bottom - len(lines) * line_height(size)) / 2 + ASCENT * size
    lefts = [(left + right - text_width(line, size)) / 2 for line in lines]
    return tuple(
        Label(line, start, first + at * line_height(size), size, FAINT_INK)
        for at, (line, start) in enumerate(zip(lines, lefts, strict=True))
    )


def _add_notes(plan: Plan, style: Style, notes: Sequence[str]) -> None:
    if not any(notes):
        return
    size = style.text("small")
    for column, note in enumerate(notes):
        if note:
            plan.labels.append(_centred(note, style, column, plan.bottom, size, FAINT_INK))
    plan.bottom += line_height(size)


def _legend_width(legend: Legend, style: Style) -> float:
    size = style.text("small")
    return text_width(legend.lowest, size) + text_width(legend.highest, size) + style.bar[0] + 2 * style.gap


def _add_legend(plan: Plan, style: Style, legend: Legend) -> None:
    """Add the colour bar between what its ends mean, and the footer."""
    size, (wide, high) = style.text("small"), style.bar
    left = float(round(style.margin + text_width(legend.lowest, size) + style.gap))
    top = float(round(plan.bottom + (line_height(size) - high) / 2))
    colours = Image.fromarray(colorise(np.linspace(0, 1, 256)[None], legend.colormap))
    plan.tiles.append(Tile(colours, (left, top, left + wide, top + high)))
    baseline = plan.bottom + ASCENT * size
    plan.labels.append(Label(legend.lowest, style.margin, baseline, size, INK))
    plan.labels.append(Label(legend.highest, left + wide + style.gap, baseline, size, INK))
    plan.bottom += line_height(size) + style.gap / 2
    for line in wrap(legend.footer, plan.width - 2 * style.margin, size):
        _add_line(plan, style, line, "small", FAINT_INK)


def _fit_parts(line: str, width: float, size: float) -> str:
    """Shorten the widest of a line's parts until it fits, so that a long file name costs no label."""
    parts = drawable(line).split(SEPARATOR)
    room = width - text_width(SEPARATOR, size) * (len(parts) - 1)
    allowed = _even_cap([text_width(part, size) for part in parts], room)
    fitted = SEPARATOR.join(shorten(part, allowed, size) for part in parts)
    return shorten(fitted, width, size)


def _even_cap(widths: Sequence[float], room: float) -> float:
    """Return the width at which to cap each part so that all together fit into the room."""
    left = room
    for at, width in enumerate(sorted(widths)):
        share = left / (len(widths) - at)
        if width > share:
            return share
        left -= width
    return max(widths)


def _paint(plan: Plan) -> Image.Image:
    canvas = Image.new("RGB", (round(plan.width), round(plan.bottom)), "white")
    draw = ImageDraw.Draw(canvas)
    for tile in plan.tiles:
        if tile.picture is None:
            draw.rectangle(tile.rect, fill=BLANK_FILL, outline=RULE)
        else:
            left, top, right, bottom = (round(edge) for edge in tile.rect)
            canvas.paste(_resized(as_rgb(tile.picture), (right - left, bottom - top)), (left, top))
    for label in [*plan.labels, *(label for tile in plan.tiles for label in tile.labels)]:
        draw_text(draw, (label.left, label.baseline), label.text, size=label.size, fill=label.ink)
    return canvas


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if max(size) <= max(picture.size):
        return picture.resize(size, Image.Resampling.LANCZOS)
    small = max(picture.size) < SMALL_PICTURE
    return picture.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC)
