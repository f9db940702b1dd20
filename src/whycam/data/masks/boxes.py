"""A CSV list of boxes, one or several rows an image."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whycam.data.masks.names import ListedNames
from whycam.data.masks.outlines import Box, fill_box
from whycam.data.masks.source import Extent, Mask, MaskSource, in_pixels, mask_error, source_error
from whycam.data.printable import one_line, printable
from whycam.data.reading import file_bytes
from whycam.data.refusal import RefusedError
from whycam.errors import UsageError

_NAMES = ("path", "file_name")
_CORNERS = (("top", "left", "bottom", "right"), ("ymin", "xmin", "ymax", "xmax"))
_LENGTHS = (("y", "x", "h", "w"), ("y", "x", "height", "width"))
_EXPECTED = "a header with 'path' and top,left,bottom,right or xmin,ymin,xmax,ymax or x,y,w,h"


@dataclass(frozen=True)
class _Row:
    """A box and the line of the list on which it is."""

    line: int
    box: Box


class BoxList(MaskSource):
    """The boxes of a CSV list, joined to one mask an image."""

    def __init__(self, file: Path) -> None:
        """Read the list. Raises UsageError, with the line, where it is none."""
        self._file = file
        try:
            data = file_bytes(file)
            text = data.decode("utf-8-sig")
        except RefusedError as refused:
            raise source_error(file, refused.found, _EXPECTED, refused.mend) from refused
        except UnicodeDecodeError as error:
            raise source_error(file, "text that is not UTF-8", _EXPECTED, "save the list as UTF-8") from error
        self._sha256 = hashlib.sha256(data).hexdigest()
        self._rows = _rows(text, file)
        if not self._rows:
            raise source_error(file, "no row", "boxes", "add a row for each box under the header")
        self._names = ListedNames(list(self._rows))

    def of(self, item_id: str, path: str, size: Extent) -> Mask | None:
        """Join the boxes of the image, as far as they are in it."""
        names = self._names.of(item_id, path)
        if not names:
            return None
        if len(names) > 1:
            found = " and ".join(f"'{printable(name)}'" for name in names[:2])
            found += f" in '{printable(self._file.name)}'"
            raise mask_error(item_id, found, "one listed image", "list the images with their folders")
        mask = np.zeros(size, dtype=np.bool_)
        for row in self._rows[names[0]]:
            if not row.box.meets(*size):
                found = f"a box outside of it in line {row.line} of '{printable(self._file.name)}'"
                expected = f"some of the box in {in_pixels(size)}"
                raise mask_error(item_id, found, expected, "mend the line; boxes are in the picture's pixels")
            fill_box(mask, row.box)
        return mask

    def describe(self) -> str:
        """Return the list, how much is in it, and its SHA-256."""
        boxes = sum(map(len, self._rows.values()))
        listed = f"{boxes} boxes in {len(self._rows)} images"
        return f"boxes {printable(self._file.as_posix())}, {listed}, SHA-256 {self._sha256}"


def _rows(text: str, file: Path) -> dict[str, list[_Row]]:
    """Return the boxes of each image; none for a row whose four borders are empty."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    rows: dict[str, list[_Row]] = {}
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        name, borders = _columns(header, file)
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                found = f"{len(fields)} fields under {len(header)} columns"
                raise _line_error(file, reader.line_num, found)
            values = dict(zip(header, fields, strict=True))
            if not values[name].strip():
                raise _line_error(file, reader.line_num, "a row with an empty path")
            boxes = rows.setdefault(values[name], [])
            if any(values[border].strip() for border in borders):
                boxes.append(_Row(reader.line_num, _box(values, borders, file, reader.line_num)))
    except csv.Error as error:
        raise _line_error(file, reader.line_num, f"a row that is not CSV ({one_line(error)})") from error
    return rows


def _columns(header: Sequence[str], file: Path) -> tuple[str, Sequence[str]]:
    names = [name for name in _NAMES if name in header]
    forms = [form for form in (*_CORNERS, *_LENGTHS) if set(form) <= set(header)]
    if len(names) != 1 or len(forms) != 1 or len(set(header)) != len(header):
        found = "the columns " + (", ".join(map(printable, header[:20])) or "none")
        raise source_error(file, found, _EXPECTED, "name the columns so in the first line, each once")
    return names[0], forms[0]


def _box(values: Mapping[str, str], borders: Sequence[str], file: Path, line: int) -> Box:
    try:
        top, left, third, fourth = (float(values[border]) for border in borders)
    except ValueError as error:
        raise _line_error(file, line, "a border that is no number") from error
    by_length = tuple(borders) in _LENGTHS
    box = Box(top, left, top + third, left + fourth) if by_length else Box(top, left, third, fourth)
    if not box.has_area():
        written = ", ".join(f"{border} {values[border].strip()}" for border in borders)
        raise _line_error(file, line, f"a box without an area ({printable(written[:80])})")
    return box


def _line_error(file: Path, line: int, found: str) -> UsageError:
    expected = "a path and four finite numbers in pixels, or four empty fields for no object"
    return source_error(file, f"{found} in line {line}", expected, "mend the line")
