"""Where everything on a figure goes, in points (1/72 inch) from the page's top left corner.

A figure is planned as lines of text and tiles with their places, and then drawn. Tiles lie on whole pixels
of the print resolution, so that their pictures are drawn pixel by pixel. Measures are remembered: a plan is
made several times, until it fits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from whycam.render.text import ASCENT, DESCENT, ELLIPSIS, shorten, text_width, wrap
from whycam.reports.figure.columns import letter_of
from whycam.reports.figure.content import Content, ImageRow, Words
from whycam.reports.figure.options import FigureOptions

Tone: TypeAlias = Literal["ink", "faint", "alarm"]
Rect: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom) in points."""
Segments: TypeAlias = tuple[tuple[str, Tone], ...]
"""One line's pieces of text, each in its tone."""

POINTS = 72.0
MARGIN, GAP, BLOCK_GAP, ROW_GAP = 4.0, 3.0, 14.0, 6.0
HEAD, BODY, SMALL = 7.5, 7.0, 6.0
TALLEST = 9.0 * POINTS
"""A page of a journal holds this much."""

SMALLEST_CELL, LARGEST_CELL, LARGEST_ALONE = 44.0, 170.0, 190.0
LEAST_SIDE = 3.0
BAR = (90.0, 6.0)
SHRINK = 0.85

SEPARATOR = "  ·  "
LINES_A_PIECE = 2

# Widths are measured at a large size: at a print size the pixel grid would round every letter's.
_MAGNIFIED = 16
# Matplotlib's own measure may differ by a little.
_SLACK = 0.985


@dataclass(frozen=True)
class Line:
    """A line of text by the left end of its baseline; sizes in points."""

    text: str
    left: float
    baseline: float
    size: float
    tone: Tone = "ink"

    @property
    def rect(self) -> Rect:
        """The room that the line takes."""
        right = self.left + width_of(self.text, self.size)
        return self.left, self.baseline - ASCENT * self.size, right, self.baseline + DESCENT * self.size


@dataclass(frozen=True)
class Tile:
    """Where an image (``column`` 0) or one of its maps (1, 2, ...) goes."""

    image: int
    column: int
    rect: Rect


@dataclass
class Plan:
    """The page and what is on it; ``inside`` are the lines that stand in a tile with nothing to draw.

    ``bottom`` is where the next thing may go.
    """

    width: float
    bottom: float
    cell: float
    lines: list[Line] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    inside: list[Line] = field(default_factory=list)
    bar: Rect | None = None

    def rects(self) -> Iterator[Rect]:
        """Yield the room that each thing takes."""
        yield from (tile.rect for tile in self.tiles)
        yield from (line.rect for line in self.lines)
        if self.bar:
            yield self.bar


@dataclass(frozen=True)
class Frame:
    """The grid: ``blocks`` images side by side, each on lines of at most ``across`` cells."""

    page: float
    dpi: int
    blocks: int
    across: int
    cell: float

    @property
    def block(self) -> float:
        """Width of one image's cells."""
        return self.across * self.cell + (self.across - 1) * GAP

    @property
    def left(self) -> float:
        """Where the first block begins; the grid stands in the middle of the page."""
        used = self.blocks * self.block + (self.blocks - 1) * BLOCK_GAP
        return max(MARGIN, (self.page - used) / 2)

    def block_left(self, block: int) -> float:
        """Where a block begins."""
        return self.left + block * (self.block + BLOCK_GAP)

    def cell_left(self, block: int, column: int) -> float:
        """Where a cell begins."""
        return self.block_left(block) + column % self.across * (self.cell + GAP)

    def snapped(self, length: float) -> float:
        """Return a length as a whole number of the print's pixels, in points."""
        return round(length * self.dpi / POINTS) * POINTS / self.dpi


@lru_cache(maxsize=1 << 13)
def advance(text: str, size: float) -> float:
    """Return how far a text brings what is set behind it, in points."""
    return text_width(text, size * _MAGNIFIED) / _MAGNIFIED


def width_of(text: str, size: float) -> float:
    """Return the width in points to keep free for a line."""
    return advance(text, size) / _SLACK


def plan_figure(content: Content, options: FigureOptions) -> Plan:
    """Place everything. The figure is at most 9 inches high where cells of 44 points allow it."""
    plan = None
    for frame in _frames(content, options):
        plan = _plan(content, options, frame)
        if plan.bottom <= TALLEST:
            break
    if plan is None:
        raise AssertionError("a figure has at least one frame")
    return plan


def _frames(content: Content, options: FigureOptions) -> Iterator[Frame]:
    """Yield grids to try, the best first: cells of a good size, then smaller ones."""
    page, columns = options.width * POINTS, len(content.columns) + 1
    across, inner = _across(columns, page - 2 * MARGIN), page - 2 * MARGIN
    most = min(len(content.images), 6) if across == columns else 1
    cells = {blocks: _cell_width(inner, blocks, across) for blocks in range(1, most + 1)}
    fitting = {blocks: cell for blocks, cell in cells.items() if cell >= SMALLEST_CELL} or {1: cells[1]}
    good = [blocks for blocks, cell in fitting.items() if cell <= LARGEST_CELL] or [max(fitting)]
    for blocks in good:
        yield Frame(page, options.dpi, blocks, across, min(fitting[blocks], LARGEST_ALONE))
    blocks, cell = good[0], min(fitting[good[0]], LARGEST_ALONE)
    while cell * SHRINK >= SMALLEST_CELL:
        cell *= SHRINK
        yield Frame(page, options.dpi, blocks, across, cell)


def _across(columns: int, inner: float) -> int:
    """Return how many cells stand on a line: all, or about equally many on each of several."""
    most = max(1, int((inner + GAP) / (SMALLEST_CELL + GAP)))
    return math.ceil(columns / math.ceil(columns / most))


def _cell_width(inner: float, blocks: int, across: int) -> float:
    block = (inner - (blocks - 1) * BLOCK_GAP) / blocks
    return (block - (across - 1) * GAP) / across


def _plan(content: Content, options: FigureOptions, frame: Frame) -> Plan:
    plan = Plan(frame.page, MARGIN, frame.cell)
    headings = ["image", *(column.heading for column in content.columns)]
    folded = frame.across < len(headings)
    heads = None if folded else _heads(headings, frame)
    if not folded:
        _add_heads(plan, frame, heads or [[letter_of(at)] for at in range(len(headings))])
    for first in range(0, len(content.images), frame.blocks):
        band = range(first, min(first + frame.blocks, len(content.images)))
        _add_band(plan, frame, content, band, folded=folded)
    if heads is None:
        key = [f"{letter_of(at)} {heading}" for at, heading in enumerate(headings)]
        _add_pieces(plan, [Words(piece) for piece in key], MARGIN, frame.page - 2 * MARGIN, SMALL)
        plan.bottom += GAP
    _add_legend(plan, content, options, frame)
    plan.bottom = math.ceil((plan.bottom + MARGIN) * options.dpi / POINTS) * POINTS / options.dpi
    return plan


def _heads(headings: Sequence[str], frame: Frame) -> list[list[str]] | None:
    """Return each column's heading: behind its letter, else all below theirs; None where one does not fit."""
    beside = [[f"{letter_of(at)} {heading}"] for at, heading in enumerate(headings)]
    if all(width_of(line, HEAD) <= frame.cell for [line] in beside):
        return beside
    below = [wrapped(heading, frame.cell, HEAD) for heading in headings]
    whole = all(len(lines) <= LINES_A_PIECE and ELLIPSIS not in "".join(lines) for lines in below)
    return [[letter_of(at), *lines] for at, lines in enumerate(below)] if whole else None


def _add_heads(plan: Plan, frame: Frame, heads: Sequence[Sequence[str]]) -> None:
    """Write the heads above each block, their first lines level."""
    high = max(len(lines) for lines in heads)
    for block in range(frame.blocks):
        for column, lines in enumerate(heads):
            for number, text in enumerate(lines):
                left = frame.cell_left(block, column) + (frame.cell - width_of(text, HEAD)) / 2
                plan.lines.append(Line(text, left, _baseline(plan.bottom, number, HEAD), HEAD))
    plan.bottom += high * _high(HEAD) + 1


def _add_band(plan: Plan, frame: Frame, content: Content, band: range, *, folded: bool) -> None:
    """Add images that stand side by side: their words level at the bottom, their cells level at the top."""
    words = [_fitted(content.images[at].words, frame.block, BODY) for at in band]
    high = max(len(lines) for lines in words)
    for block, lines in enumerate(words):
        for number, segments in enumerate(lines, high - len(lines)):
            baseline = _baseline(plan.bottom, number, BODY)
            plan.lines += _placed(segments, frame.block_left(block), baseline, BODY)
    top = plan.bottom + high * _high(BODY) + 1
    bottoms = [
        _add_cells(plan, frame, content.images[at], at, block, top, folded=folded)
        for block, at in enumerate(band)
    ]
    plan.bottom = max(bottoms) + ROW_GAP


def _add_cells(
    plan: Plan, frame: Frame, image: ImageRow, number: int, block: int, top: float, *, folded: bool
) -> float:
    """Add an image's tiles, each line of them under its letters where they are folded; give the bottom."""
    wide, high = _tile_size(image, frame)
    for column in range(len(image.cells) + 1):
        if column and column % frame.across == 0:
            top += high + GAP + (_high(SMALL) if folded else 0)
        left, upper = frame.cell_left(block, column), top
        if folded:
            plan.lines.append(Line(letter_of(column), left, _baseline(top, 0, SMALL), SMALL))
            upper += _high(SMALL)
        x = frame.snapped(left + (frame.cell - wide) / 2)
        y = frame.snapped(upper + 0.5 * POINTS / frame.dpi)
        tile = Tile(number, column, (x, y, x + wide, y + high))
        plan.tiles.append(tile)
        plan.inside += _inside(tile, image)
    return top + high + (_high(SMALL) if folded else 0) + POINTS / frame.dpi


def _inside(tile: Tile, image: ImageRow) -> list[Line]:
    """Say in the middle of a tile why it shows nothing, where there is room; the image's words say it too."""
    said = image.note
    if tile.column:
        said = "no map" if image.cells[tile.column - 1].map is None else ""
    left, top, right, bottom = tile.rect
    lines = wrapped(said, right - left - GAP, SMALL)
    first = (top + bottom - len(lines) * _high(SMALL)) / 2
    if first < top or any(ELLIPSIS in line for line in lines):
        return []
    starts = [(left + right - width_of(line, SMALL)) / 2 for line in lines]
    return [
        Line(line, start, _baseline(first, number, SMALL), SMALL, "faint")
        for number, (line, start) in enumerate(zip(lines, starts, strict=True))
    ]


def _tile_size(image: ImageRow, frame: Frame) -> tuple[float, float]:
    """Fit the picture into a square cell."""
    tall, broad = image.size
    factor = frame.cell / max(tall, broad)
    # down, not to the nearest: a tile must not reach into its neighbour
    pixel = POINTS / frame.dpi
    wide, high = (
        math.floor(min(max(side * factor, LEAST_SIDE), frame.cell) / pixel) * pixel for side in (broad, tall)
    )
    return wide, high


def _add_legend(plan: Plan, content: Content, options: FigureOptions, frame: Frame) -> None:
    """Add the colour bar with what it means, and below it what a reader must be told."""
    left, top = frame.snapped(MARGIN), frame.snapped(plan.bottom + 2)
    right = left + frame.snapped(min(BAR[0], frame.page / 3))
    plan.bar = (left, top, right, top + frame.snapped(BAR[1]))
    for text, share in (("0", 0.0), ("0.5", 0.5), ("1", 1.0)):
        at = left + share * (right - left) - share * width_of(text, SMALL)
        plan.lines.append(Line(text, at, _baseline(plan.bar[3] + 0.5, 0, SMALL), SMALL))
    beside = Plan(plan.width, top - 1.5, plan.cell)
    start = right + 2 * GAP
    for text, tone in _footers(content, options):
        for line in wrapped(text, plan.width - MARGIN - start, SMALL):
            beside.lines.append(Line(line, start, _baseline(beside.bottom, 0, SMALL), SMALL, tone))
            beside.bottom += _high(SMALL)
    plan.lines += beside.lines
    plan.bottom = max(beside.bottom, plan.bar[3] + 0.5 + _high(SMALL))


def meaning(options: FigureOptions) -> tuple[str, str]:
    """Say what the colours and lines mean, and how the maps were made into colours."""
    whose = "each map's maximum" if options.normalise == "image" else "the maximum of all maps in its column"
    lines = ""
    if options.levels:
        values = " and ".join(f"{level:g}" for level in options.levels)
        lines = f"; line{'s' if len(options.levels) > 1 else ''} at {values}"
    look = options.look
    shown = "shown by their lines alone" if look.lines_only else look.opacity.describe()
    return (
        f"evidence for the class, relative: 0 none, 1 {whose}{lines}",
        f"maps rectified, resized (bilinear), divided by the maximum; {shown}",
    )


def _footers(content: Content, options: FigureOptions) -> Iterator[tuple[str, Tone]]:
    for text in meaning(options):
        yield text, "ink"
    for caution in content.cautions:
        yield caution, "alarm"
    if len(content.images) < content.total:
        yield f"{len(content.images)} of {content.total} images shown", "faint"


def _add_pieces(plan: Plan, pieces: Sequence[Words], left: float, width: float, size: float) -> None:
    for segments in _fitted(pieces, width, size):
        plan.lines += _placed(segments, left, _baseline(plan.bottom, 0, size), size)
        plan.bottom += _high(size)


def _fitted(pieces: Sequence[Words], width: float, size: float) -> list[Segments]:
    """Set pieces beside each other where they fit, else on lines of their own, two at most for each."""
    lines: list[Segments] = []
    for piece in pieces:
        tone: Tone = "alarm" if piece.wrong else "ink"
        if lines:
            joined = (*lines[-1], (SEPARATOR, "ink"), (piece.text, tone))
            if _width(joined, size) <= width:
                lines[-1] = joined
                continue
        lines += [((line, tone),) for line in _on_two_lines(piece.text, width, size)]
    return lines


def _width(segments: Segments, size: float) -> float:
    return sum(width_of(text, size) for text, _ in segments)


def _placed(segments: Segments, left: float, baseline: float, size: float) -> Iterator[Line]:
    """Put the segments of a line one behind the other; no line is made of white space."""
    for text, tone in segments:
        indent = advance(text, size) - advance(text.lstrip(" "), size)
        yield Line(text.strip(" "), left + indent, baseline, size, tone)
        left += advance(text, size)


def _on_two_lines(text: str, width: float, size: float) -> tuple[str, ...]:
    """Break a text where it is too wide; the middle of what does not fit on the second line is left out."""
    lines = wrapped(text, width, size)
    if len(lines) <= LINES_A_PIECE:
        return lines
    rest = text.split()[len(lines[0].split()) :]
    return lines[0], shortened(" ".join(rest), width, size)


@lru_cache(maxsize=1 << 13)
def wrapped(text: str, width: float, size: float) -> tuple[str, ...]:
    """Break a text into lines of at most ``width`` points."""
    return tuple(wrap(" ".join(text.split()), width * _MAGNIFIED * _SLACK, size * _MAGNIFIED))


@lru_cache(maxsize=1 << 13)
def shortened(text: str, width: float, size: float) -> str:
    """Leave out the middle of a text that is wider than ``width`` points."""
    return shorten(text, width * _MAGNIFIED * _SLACK, size * _MAGNIFIED)


def _high(size: float) -> float:
    """Return the height of a line."""
    return (ASCENT + DESCENT) * size


def _baseline(top: float, number: int, size: float) -> float:
    return top + number * _high(size) + ASCENT * size
