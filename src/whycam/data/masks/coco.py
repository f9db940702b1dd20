"""COCO's instances file: outlines, run-length masks and boxes of the objects in many images."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from whycam.data.masks.names import ListedNames
from whycam.data.masks.outlines import FARTHEST, Box, fill_box, fill_polygon
from whycam.data.masks.rle import mask_of_runs, runs_of_text
from whycam.data.masks.source import (
    MAX_PIXELS,
    Extent,
    Mask,
    MaskSource,
    in_pixels,
    mask_error,
    source_error,
)
from whycam.data.masks.view import brought_to, misfit
from whycam.data.printable import one_line, printable
from whycam.data.reading import file_bytes
from whycam.data.refusal import RefusedError, require_few_pixels

Record: TypeAlias = Mapping[str, Any]

_EXPECTED = "COCO instances: 'images' and 'annotations'"
_EXPORT = "export the annotations again"


class CocoMasks(MaskSource):
    """The objects of a COCO instances file, joined to one mask an image; crowds are left out."""

    def __init__(self, file: Path, category: str | int | None = None) -> None:
        """Read the file; of one category only where one is given by its name or id. Raises UsageError."""
        self._file = file
        data = _bytes(file)
        self._sha256 = hashlib.sha256(data).hexdigest()
        document = _document(data, file)
        self._category = None if category is None else _category_id(document, category, file)
        self._images = _images(document, file)
        self._names = ListedNames(list(self._images))
        self._objects: dict[object, list[Record]] = defaultdict(list)
        self._count = self._crowds = 0
        for record in _records(document, "annotations", ("image_id",), file):
            self._keep(record)

    def _keep(self, record: Record) -> None:
        if self._category is not None and record.get("category_id") != self._category:
            return
        if record.get("iscrowd"):
            self._crowds += 1
            return
        self._count += 1
        self._objects[record["image_id"]].append(record)

    def of(self, item_id: str, path: str, size: Extent) -> Mask | None:
        """Join the objects of the image; a listed image without any has an empty mask."""
        names = self._names.of(item_id, path)
        if not names:
            return None
        if len(names) > 1:
            found = " and ".join(_shown(name) for name in names[:2]) + f" in '{printable(self._file.name)}'"
            raise mask_error(item_id, found, "one listed image", "list the images with their folders")
        image = self._images[names[0]]
        try:
            listed = _listed_size(image, size)
            mask = np.zeros(listed, dtype=np.bool_)
            for record in self._objects.get(image["id"], ()):
                _add(mask, record)
        except RefusedError as refused:
            raise mask_error(
                item_id, refused.found, "COCO's outlines, runs or box", refused.mend
            ) from refused
        fitting = brought_to(mask, size)
        if fitting is None:
            found = f"an image of {in_pixels(listed)} in '{printable(self._file.name)}'"
            raise mask_error(item_id, found, *misfit(listed, size))
        return fitting

    def describe(self) -> str:
        """Return the file, how much is in it, and its SHA-256."""
        category = "" if self._category is None else f" of category {self._category}"
        crowds = f", {self._crowds} crowds left out" if self._crowds else ""
        listed = f"{self._count} objects{category} in {len(self._images)} images{crowds}"
        return f"COCO file {printable(self._file.as_posix())}, {listed}, SHA-256 {self._sha256}"


def _bytes(file: Path) -> bytes:
    try:
        return file_bytes(file)
    except RefusedError as refused:
        raise source_error(file, refused.found, _EXPECTED, refused.mend) from refused


def _document(data: bytes, file: Path) -> Record:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        found = f"no JSON ({one_line(error)})"
        raise source_error(file, found, _EXPECTED, "copy the file again, or export it anew") from error
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        has = list(document)[:5] if isinstance(document, dict) else type(document).__name__
        raise source_error(
            file, f"JSON of {_shown(has)}", _EXPECTED, "export the annotations as COCO instances"
        )
    return document


def _records(document: Record, part: str, keys: tuple[str, ...], file: Path) -> list[Record]:
    records = document.get(part)
    if not isinstance(records, list):
        raise source_error(file, f"'{part}' that is no list", _EXPECTED, _EXPORT)
    for place, record in enumerate(records):
        # an id that is a list or an object can't be looked up
        if not isinstance(record, dict) or not all(isinstance(record.get(key), int | str) for key in keys):
            found = f"entry {place} of '{part}' without {' and '.join(map(repr, keys))}"
            raise source_error(file, found, "COCO's own fields", _EXPORT)
    return records


def _images(document: Record, file: Path) -> dict[str, Record]:
    """Return the images by their names; both names and ids are an image's own."""
    images = _records(document, "images", ("id", "file_name"), file)
    for key in ("id", "file_name"):
        seen: set[object] = set()
        for image in images:
            if image[key] in seen:
                found = f"the {key} {_shown(image[key])} twice"
                raise source_error(file, found, f"one {key} an image", _EXPORT)
            seen.add(image[key])
    return {str(image["file_name"]): image for image in images}


def _category_id(document: Record, category: str | int, file: Path) -> object:
    categories = _records(document, "categories", ("id", "name"), file)
    named = {record["id"]: record["name"] for record in categories}
    found = [id for id, name in named.items() if name == category]
    found = found or [id for id in named if str(id) == str(category)]
    if len(found) != 1:
        there = ", ".join(printable(f"{name} ({id})") for id, name in list(named.items())[:10])
        raise source_error(
            file, f"{len(found)} categories {_shown(category)}", f"one of {there}", "name it by its id"
        )
    return found[0]


def _listed_size(image: Record, size: Extent) -> Extent:
    """Return the height and width that the file says, on which its coordinates are; else the picture's."""
    listed = (image.get("height"), image.get("width"))
    if listed == (None, None):
        return size
    high, wide = listed
    if type(high) is not int or type(wide) is not int:
        raise RefusedError(f"height {_shown(high)} and width {_shown(wide)}", _EXPORT)
    require_few_pixels(wide, high, max(MAX_PIXELS, size[0] * size[1]))
    return high, wide


def _add(mask: Mask, record: Record) -> None:
    shape = record.get("segmentation")
    if isinstance(shape, dict):
        mask |= _from_runs(shape, mask.shape, record)
    elif isinstance(shape, list) and shape:
        for outline in shape:
            fill_polygon(mask, _outline(outline, record))
    elif shape in (None, []):
        box = _box(record)
        if box.meets(*mask.shape):
            fill_box(mask, box)
    else:
        raise _refused(record, f"the segmentation {_shown(shape)}")


def _from_runs(shape: Record, size: tuple[int, ...], record: Record) -> Mask:
    counts = shape.get("counts")
    if shape.get("size") != list(size):
        raise _refused(record, f"runs of size {_shown(shape.get('size'))} for an image of {list(size)}")
    if isinstance(counts, str):
        counts = runs_of_text(counts)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise _refused(record, "counts that are neither whole numbers nor a string")
    return mask_of_runs(counts, (size[0], size[1]), size[0] * size[1])


def _outline(outline: object, record: Record) -> list[float]:
    if not isinstance(outline, list) or not all(_is_coordinate(value) for value in outline):
        raise _refused(record, "a polygon that is no list of numbers")
    if len(outline) % 2 or len(outline) < 6:
        raise _refused(record, f"a polygon of {len(outline)} values, where x and y of three points are least")
    return outline


def _box(record: Record) -> Box:
    values = record.get("bbox")
    if isinstance(values, list) and len(values) == 4 and all(_is_coordinate(value) for value in values):
        left, top, wide, high = map(float, values)
        box = Box(top, left, top + high, left + wide)
        if box.has_area():
            return box
    raise _refused(record, f"no segmentation and the bbox {_shown(values)}")


def _is_coordinate(value: object) -> bool:
    # NaN is not below anything
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST


def _refused(record: Record, found: str) -> RefusedError:
    return RefusedError(f"annotation {_shown(record.get('id'))} with {found}", "mend or remove it")


def _shown(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
