"""Class means as one picture: a row a class, a column a method."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from whycam.render import colorise, draw_text, resize
from whycam.render.text import ASCENT, line_height, shorten, text_width, wrap
from whycam.reports.class_means import FEW, ClassMean, ClassMeans

CLASSES_SHOWN = 20
"""Classes on one picture, those with the most maps; it says how many it leaves out."""

COLUMNS_SHOWN = 10

_DPI = 300
_POINT = _DPI / 72
_TEXT, _SMALL, _SMALLEST = 7 * _POINT, 6 * _POINT, 4.5 * _POINT
_GAP = 5 * _POINT
_LARGEST_CELL = 0.9 * _DPI
_INK, _FAINT, _GROUND = "#1a1a1a", "#5a5a5a", "#ffffff"

_WHAT_IT_SAYS = (
    "Classes are the images' {basis}s. Mean of the maps in the frame of the network's view, each rectified, "
    "resized and divided by its maximum. r: the mean correlation of a map with the mean of the others of its "
    "class; n: maps. Colours go from 0 to the highest mean of the column, given under its name. Objects at "
    "different places average out: a flat mean and a low r do not say that the network looked nowhere."
)


@dataclass(frozen=True)
class _Column:
    head: str
    means: dict[str, ClassMean]

    @property
    def highest(self) -> float:
        """The highest mean of the column: where its colours end."""
        return max((float(mean.mean.max(initial=0.0)) for mean in self.means.values()), default=0.0)


def class_means_png(found: ClassMeans, width: float, colormap: str, aspect: float) -> bytes:
    """Draw the means ``width`` inches wide at 300 dpi, cells of ``aspect`` (height by width) of the view.

    Maps of other than two axes have no picture and are named in their cells. Raises UsageError for an unknown
    colormap.
    """
    columns = _columns(found)
    classes = list(dict.fromkeys(mean.group.class_name for mean in _by_size(found)))
    sheet = _Sheet(found, columns[:COLUMNS_SHOWN], classes[:CLASSES_SHOWN], width * _DPI, aspect, colormap)
    picture = sheet.draw(len(columns) - COLUMNS_SHOWN, len(classes) - CLASSES_SHOWN)
    file = io.BytesIO()
    picture.save(file, "PNG", dpi=(_DPI, _DPI))
    return file.getvalue()


def _by_size(found: ClassMeans) -> list[ClassMean]:
    return sorted(found.means, key=lambda mean: (-mean.maps - mean.empty, mean.group.class_name))


def _columns(found: ClassMeans) -> list[_Column]:
    several = len({mean.group.run for mean in found.means}) > 1
    columns: dict[str, _Column] = {}
    for mean in found.means:
        head = f"{mean.group.method} · {mean.group.run}" if several else mean.group.method
        columns.setdefault(head, _Column(head, {})).means[mean.group.class_name] = mean
    return list(columns.values())


class _Sheet:
    """Where everything goes; ``draw`` paints it from top to bottom."""

    def __init__(
        self,
        found: ClassMeans,
        columns: Sequence[_Column],
        classes: Sequence[str],
        width: float,
        aspect: float,
        colormap: str,
    ) -> None:
        self._found, self._columns, self._classes, self._colormap = found, columns, classes, colormap
        self._margin = 2 * _GAP
        self._width = width
        inner = width - 2 * self._margin
        named = max(text_width(name, _TEXT) for name in classes)
        self._names = min(named, inner / 4) + 2 * _GAP
        pitch = (inner - self._names) / len(columns)
        self._cell = min(pitch - _GAP, _LARGEST_CELL)
        self._pitch = self._cell + _GAP
        self._high = max(1.0, self._cell * min(max(aspect, 0.2), 5.0))
        longest = max(text_width(column.head, _TEXT) for column in columns)
        self._head_size = max(_SMALLEST, min(_TEXT, 0.95 * _TEXT * self._pitch / longest))
        self._row = self._high + 2 * line_height(_SMALL) + _GAP

    def draw(self, columns_left: int, classes_left: int) -> Image.Image:
        """Paint the sheet; the numbers are of what is not on it."""
        words = _WHAT_IT_SAYS.format(basis=self._found.basis)
        if classes_left > 0:
            words += f" {classes_left} more classes are in class_means.csv."
        if columns_left > 0:
            words += f" {columns_left} more columns are in class_means.csv."
        footer = wrap(words, self._width - 2 * self._margin, _SMALL)
        heads = self._margin + line_height(_TEXT) + line_height(_SMALL) + _GAP
        body = heads + len(self._classes) * self._row
        height = body + len(footer) * line_height(_SMALL) + self._margin
        canvas = Image.new("RGB", (round(self._width), round(height)), _GROUND)
        pen = ImageDraw.Draw(canvas)
        for at, column in enumerate(self._columns):
            self._head(pen, column, self._left(at))
        for number, name in enumerate(self._classes):
            self._class(canvas, pen, name, heads + number * self._row)
        for number, line in enumerate(footer):
            top = body + number * line_height(_SMALL)
            _write(pen, line, self._margin, top, _SMALL, _FAINT)
        return canvas

    def _left(self, column: int) -> float:
        return self._margin + self._names + column * self._pitch

    def _head(self, pen: ImageDraw.ImageDraw, column: _Column, left: float) -> None:
        self._centred(pen, column.head, left, self._margin, self._head_size, _INK)
        highest = f"0 to {column.highest:.2f}"
        self._centred(pen, highest, left, self._margin + line_height(_TEXT), _SMALL, _FAINT)

    def _class(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, name: str, top: float) -> None:
        shown = shorten(name, self._names - 2 * _GAP, _TEXT)
        _write(pen, shown, self._margin, top + (self._high - line_height(_TEXT)) / 2, _TEXT, _INK)
        for at, column in enumerate(self._columns):
            left = self._left(at)
            mean = column.means.get(name)
            if mean is None or mean.mean.ndim != 2 or not mean.maps:
                text = "no map" if mean is None or not mean.maps else f"{mean.mean.ndim} axes"
                self._centred(pen, text, left, top + (self._high - line_height(_SMALL)) / 2, _SMALL, _FAINT)
            else:
                canvas.paste(self._picture(mean, column.highest), (round(left), round(top)))
            if mean is not None and mean.maps:
                self._numbers(pen, mean, left, top + self._high)

    def _numbers(self, pen: ImageDraw.ImageDraw, mean: ClassMean, left: float, top: float) -> None:
        said = "r –"
        if mean.consistency is not None:
            # + 0.0: no minus before a zero
            said = f"r {round(mean.consistency, 2) + 0.0:.2f}".replace("-", "−")
        self._centred(pen, said, left, top, _SMALL, _INK)
        few = " (few)" if mean.maps < FEW else ""
        self._centred(pen, f"n {mean.maps}{few}", left, top + line_height(_SMALL), _SMALL, _FAINT)

    def _picture(self, mean: ClassMean, highest: float) -> Image.Image:
        size = (max(1, round(self._high)), max(1, round(self._cell)))
        values = resize(torch.from_numpy(mean.mean)[None].float(), size)[0]
        return Image.fromarray(colorise(values / highest if highest else values, self._colormap))

    def _centred(
        self, pen: ImageDraw.ImageDraw, text: str, left: float, top: float, size: float, ink: str
    ) -> None:
        shown = shorten(text, self._pitch, size)
        _write(pen, shown, left + (self._cell - text_width(shown, size)) / 2, top, size, ink)


def _write(pen: ImageDraw.ImageDraw, text: str, left: float, top: float, size: float, ink: str) -> None:
    draw_text(pen, (left, top + ASCENT * size), text, size=size, fill=ink)


def view_aspect(size: object) -> float:
    """Return height by width of a network's view from its manifest; 1 where that is not said."""
    if (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    ):
        return float(np.divide(*size))
    return 1.0
