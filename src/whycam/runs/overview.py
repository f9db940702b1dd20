"""What a run folder shows at a glance: the sheet of its first images, and its counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from whycam.data import read_image
from whycam.errors import ImageError, MissingExtraError
from whycam.explanation import caution_in
from whycam.render import SheetRow, sheet
from whycam.rows import caption_of, note_of, shrunk
from whycam.runs.request import PictureStyle
from whycam.store import Manifest, Row, Run
from whycam.store.schema import table_to_rows

SHEET_IMAGES = 12
FAILURES_NAMED = 10
SMALLEST_CELL, LARGEST_CELL = 128, 224


@dataclass(frozen=True)
class Counts:
    """Counted over all rows of a run: blank maps, and the first images that failed, as (id, error)."""

    blank: int
    failures: tuple[tuple[str, str], ...]


def count(run: Run) -> Counts:
    """Count a run's blank maps and find its first failures, in bounded memory."""
    import pyarrow.compute as pc

    blank, failures = 0, dict[str, str]()
    for table in run.batches(["id", "blank", "error"]):
        blank += pc.sum(table.column("blank")).as_py() or 0
        if len(failures) < FAILURES_NAMED:
            broken = table.filter(pc.is_valid(table.column("error"))).select(["id", "error"])
            for record in broken.to_pylist():
                failures.setdefault(record["id"], record["error"])
    return Counts(blank, tuple(failures.items())[:FAILURES_NAMED])


def sheet_of(run: Run, style: PictureStyle) -> Image.Image | None:
    """Draw the first images of a run beside what its methods say; None where no image has a picture."""
    manifest = run.manifest
    methods = [method.name for method in manifest.methods]
    lines = list(_lines(run, methods))
    if not lines:
        return None
    some = len(lines) < manifest.image_count
    shown = f" · the first {len(lines)} of {manifest.image_count} images" if some else ""
    return sheet(
        lines,
        columns=methods,
        title=f"{_model_text(manifest)}{shown}",
        colormap=style.colormap,
        opacity=style.opacity,
        layer=" + ".join(manifest.layer.paths) if manifest.layer else "",
        caution=caution_in(manifest.model.provenance),
        cell=_cell(lines),
        limit=SHEET_IMAGES,
    )


def _cell(lines: Sequence[SheetRow]) -> int:
    """Return a cell's size for these pictures: small ones gain nothing from being blown up."""
    longest = max(max(line.picture.size) for line in lines)
    return min(max(longest, SMALLEST_CELL), LARGEST_CELL)


def _model_text(manifest: Manifest) -> str:
    model = manifest.model
    random = "random weights" if model.provenance.startswith("random weights") else None
    said = random or caution_in(model.provenance)
    return f"{model.reference} with {said}" if said else model.reference


def _lines(run: Run, methods: Sequence[str]) -> Iterator[SheetRow]:
    by_image: dict[str, dict[str | None, Row]] = {}
    for row in _first_drawn(run, SHEET_IMAGES * len(methods)):
        by_image.setdefault(row.id, {})[row.method] = row
    for rows in list(by_image.values())[:SHEET_IMAGES]:
        some = next(iter(rows.values()))
        try:
            picture = shrunk(read_image(some.path).image)
        except (ImageError, MissingExtraError):
            continue  # gone since it was explained: its overlays are in the folder, the sheet goes without
        found = [rows.get(method) for method in methods]
        yield SheetRow(
            picture,
            [None if row is None else _opened(run.folder, row, picture) for row in found],
            caption_of(some, run.manifest.class_names),
            ["failed" if row is None else note_of(row) for row in found],
        )


def _first_drawn(run: Run, count: int) -> list[Row]:
    """Return the rows with a picture that come first in the plan, whatever the order they were written in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first: Any = None
    for table in run.batches():
        drawn = table.filter(pc.is_valid(table.column("overlay")))
        both = drawn if first is None else pa.concat_tables([first, drawn])
        first = both.sort_by("index").slice(0, count)
    return [] if first is None else table_to_rows(first)


def _opened(folder: Path, row: Row, original: Image.Image) -> Image.Image | None:
    if row.overlay is None:
        return None
    with Image.open(folder / row.overlay) as picture:
        # a caution below the overlay is said once, in the title; beside the original it would only shrink it
        width, height = map(min, picture.size, original.size)
        return picture.convert("RGB").crop((0, 0, width, height))
