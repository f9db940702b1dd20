"""What is on a figure, before any of it has a place: columns, images, their words and maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.errors import UsageError
from whycam.explanation import caution_in
from whycam.render.text import drawable
from whycam.reports.figure.columns import COLUMN_LIMIT, Column, arrange, columns_of, lettered
from whycam.reports.figure.options import Arrangement, FigureOptions
from whycam.reports.figure.selection import Choice, Judge, Reason, choose_images, rows_of_images
from whycam.reports.figure.words import class_text, named
from whycam.store import Row, Run
from whycam.types import CropGeometry

MOST_PIXELS = 40_000_000
"""A picture in a run folder is small; a larger file is not what a run wrote."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One map [H, W], signed, at its layer's resolution; None where there is none. ``note`` says why."""

    map: npt.NDArray[np.float32] | None
    geometry: CropGeometry | None
    note: str = ""


@dataclass(frozen=True)
class Words:
    """A piece of an image's text, all of which fonts have; ``wrong`` marks a wrong prediction."""

    text: str
    wrong: bool = False


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image: its picture (None with a note where there is none), its words, its cells."""

    id: str
    reason: Reason
    picture: Image.Image | None
    note: str
    size: tuple[int, int]
    label: str | None
    predictions: tuple[str, ...]
    wrong: bool | None
    words: tuple[Words, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Content:
    """Everything on a figure."""

    arrangement: Arrangement
    columns: tuple[Column, ...]
    images: tuple[ImageRow, ...]
    total: int
    cautions: tuple[str, ...]
    warnings: tuple[str, ...]


def gather(runs: Sequence[Run], options: FigureOptions) -> Content:
    """Read what a figure of these runs shows. Memory is bounded by what is shown.

    Raises UsageError for no runs, for ids, methods or headings that do not fit them, RunError for a run
    without a map.
    """
    if not runs:
        raise UsageError("there is no run to draw; give at least one run folder")
    choice = choose_images(runs, options.images, options.rows)
    names = [name for name, _ in choice.images]
    rows = [rows_of_images(run, names) for run in runs]
    arrangement = options.columns or arrange(runs, rows)
    found = columns_of(arrangement, runs, rows, options.methods)
    if options.names and len(options.names) != len(found):
        raise UsageError(
            f"{len(options.names)} headings are given for {len(found)} columns; give one a column"
        )
    columns = lettered(found[:COLUMN_LIMIT], options.names)
    images = tuple(_image(name, reason, runs, rows, columns, arrangement) for name, reason in choice.images)
    return Content(
        arrangement=arrangement,
        columns=columns,
        images=images,
        total=choice.total,
        cautions=_cautions(runs, columns),
        warnings=tuple(_warnings(choice, found, arrangement, runs, columns)),
    )


def _image(
    name: str,
    reason: Reason,
    runs: Sequence[Run],
    rows: Sequence[Sequence[Row]],
    columns: Sequence[Column],
    arrangement: Arrangement,
) -> ImageRow:
    own = [[row for row in some if row.id == name] for some in rows]
    everything = [row for some in own for row in some]
    found = [_row_of(column, own[column.run]) for column in columns]
    cells = tuple(_cell(row) for row in found)
    picture, note = _picture(runs, own)
    size = next((row.original for row in everything if row.original), None)
    label = next((row.label for row in everything if row.label is not None), None)
    said = _predictions(runs, own, columns, arrangement)
    verdicts = [wrong for _, _, wrong in said if wrong is not None]
    words = _words(label, said, found, columns, cells, runs[0].manifest.class_names)
    return ImageRow(
        id=name,
        reason=reason,
        picture=picture,
        note=note,
        size=size or ((picture.height, picture.width) if picture else (1, 1)),
        label=label,
        predictions=tuple(text for _, text, _ in said),
        wrong=any(verdicts) if verdicts else None,
        words=words or (Words(drawable(name)),),
        cells=cells,
    )


def _row_of(column: Column, rows: Sequence[Row]) -> Row | None:
    return next(
        (r for r in rows if r.method == column.method and column.target in (None, r.target)),
        None,
    )


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell(None, None, "not in the run")
    geometry = CropGeometry(row.original, row.box) if row.original and row.box else None
    if row.error is not None or row.map is None:
        return Cell(None, geometry, f"failed: {row.error}" if row.error else "no map")
    if row.map.ndim != 2:
        return Cell(None, geometry, f"a map of {row.map.ndim} axes, which a figure cannot show")
    if not (row.map > 0).any():
        return Cell(row.map, geometry, "blank: zero everywhere" if row.blank else "blank: nothing positive")
    return Cell(row.map, geometry, "constant" if np.ptp(np.maximum(row.map, 0)) == 0 else "")


def _picture(runs: Sequence[Run], rows: Sequence[Sequence[Row]]) -> tuple[Image.Image | None, str]:
    """Open an image's picture in the run folder it is in; else say in a word why there is none."""
    note = "no picture kept"
    for run, own in zip(runs, rows, strict=True):
        for name in dict.fromkeys(row.picture for row in own if row.picture):
            path = run.folder / name
            try:
                # a folder that came from elsewhere must not make us read outside of it
                if not path.resolve().is_relative_to(run.folder.resolve()):
                    note = "picture outside the run folder"
                    continue
                with Image.open(path) as opened:
                    if opened.width * opened.height > MOST_PIXELS:
                        note = "picture too large"
                        continue
                    return opened.convert("RGB"), ""
            except FileNotFoundError:
                note = "picture file missing"
            # Pillow's readers raise these and more for a file that is not what it says
            except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError):
                note = "picture file broken"
    return None, note


def _predictions(
    runs: Sequence[Run], rows: Sequence[Sequence[Row]], columns: Sequence[Column], arrangement: Arrangement
) -> list[tuple[str, str, bool | None]]:
    """Return what was predicted, as (letter, class with probability, wrong): once, or once a checkpoint."""
    asked = columns if arrangement == "checkpoints" else columns[:1]
    said = []
    for column in asked:
        row = next((row for row in rows[column.run] if row.prediction is not None), None)
        if row is None or row.prediction is None:
            continue
        names = runs[column.run].manifest.class_names
        sure = "" if row.probability is None else f" ({row.probability:.1%})"
        letter = f"{column.letter} " if arrangement == "checkpoints" else ""
        wrong = Judge(names).is_wrong(row.label, row.prediction)
        said.append((letter, f"{class_text(row.prediction, names)}{sure}", wrong))
    return said


def _words(
    label: str | None,
    said: Sequence[tuple[str, str, bool | None]],
    found: Sequence[Row | None],
    columns: Sequence[Column],
    cells: Sequence[Cell],
    class_names: Sequence[str] | None,
) -> tuple[Words, ...]:
    """Say of an image what it is, what was predicted, what is explained, and which cells show nothing."""
    words = [] if label is None else [Words(f"true: {_label_text(label, class_names)}")]
    for at, (letter, text, wrong) in enumerate(said):
        lead = "" if at else "predicted: "
        words.append(Words(f"{lead}{letter}{text}{' – wrong' if wrong else ''}", bool(wrong)))
    explained = {(row.target_class, row.target) for row in found if row is not None and row.error is None}
    predicted = {row.prediction for row in found if row is not None}
    if len(explained) == 1:
        index, target = next(iter(explained))
        if index is not None and index not in predicted:
            words.append(Words(f"explained: {class_text(index, class_names)}"))
        elif index is None and target:
            words.append(Words(drawable(f"explained: {target}")))
    words += [
        Words(drawable(f"{column.letter} {cell.note}"))
        for column, cell in zip(columns, cells, strict=True)
        if cell.note
    ]
    return tuple(words)


def _label_text(label: str, class_names: Sequence[str] | None) -> str:
    known = class_names or ()
    return named(label, f"class {known.index(label)}" if label in known else ascii(label)[1:-1])


def _cautions(runs: Sequence[Run], columns: Sequence[Column]) -> tuple[str, ...]:
    """Say what a reader must know of the weights; with the letter where only some runs are concerned."""
    said: dict[str, list[str]] = {}
    for column in columns:
        provenance = runs[column.run].manifest.model.provenance
        random = provenance.partition(";")[0] if provenance.startswith("random weights") else None
        caution = random or caution_in(provenance)
        if caution:
            said.setdefault(caution, []).append(column.letter)
    return tuple(
        caution if len(letters) == len(columns) else f"{' '.join(letters)} {caution}"
        for caution, letters in said.items()
    )


def _warnings(
    choice: Choice,
    found: Sequence[Column],
    arrangement: Arrangement,
    runs: Sequence[Run],
    columns: Sequence[Column],
) -> list[str]:
    said = []
    if choice.failed:
        said.append(f"{choice.failed} of {choice.total} images failed and have no map")
    if len(found) > len(columns):
        left = ", ".join(column.heading for column in found[len(columns) :])
        said.append(f"{len(columns)} of {len(found)} columns are shown; left out: {left}")
    if arrangement != "methods" and any(len(run.manifest.methods) > 1 for run in runs):
        shown = ", ".join(dict.fromkeys(str(column.method) for column in columns))
        said.append(f"the runs have several methods; of each one is shown: {shown}")
    unfinished = [str(run.folder) for run in runs if not run.manifest.finished]
    said += [f"the run {folder!r} is not finished" for folder in unfinished]
    return said
