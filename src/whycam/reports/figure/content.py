"""What is on a figure, before any of it has a place: columns, images, their words and maps."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.errors import UsageError
from whycam.explanation import caution_in
from whycam.render import MissingGlyphWarning, printable
from whycam.render.fonts import needs_shaping, tidy
from whycam.render.text import drawable
from whycam.reports.figure.options import Arrangement, FigureOptions
from whycam.reports.figure.selection import Choice, Judge, Reason, choose_images, rows_of_images
from whycam.reports.figure.typefaces import letters_are_joined
from whycam.rows import name_of
from whycam.store import Row, Run
from whycam.types import CropGeometry

COLUMN_LIMIT = 8
"""Columns of maps on one figure; the rest is said to be left out."""

MOST_PIXELS = 40_000_000
"""A picture in a run folder is small; a larger file is not what a run wrote."""


@dataclass(frozen=True)
class Column:
    """One column of maps: which rows of which run, its heading, and what it is in full."""

    letter: str
    heading: str
    meaning: str
    run: int
    method: str | None
    target: str | None


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
    arrangement = options.columns or _arrangement(runs, rows)
    found = _columns(arrangement, runs, rows, options.methods)
    if options.names and len(options.names) != len(found):
        raise UsageError(
            f"{len(options.names)} headings are given for {len(found)} columns; give one a column"
        )
    columns = _lettered(found[:COLUMN_LIMIT], options.names)
    images = tuple(_image(name, reason, runs, rows, columns, arrangement) for name, reason in choice.images)
    return Content(
        arrangement=arrangement,
        columns=columns,
        images=images,
        total=choice.total,
        cautions=_cautions(runs, columns, arrangement),
        warnings=tuple(_warnings(choice, found, arrangement, runs, columns)),
    )


def class_text(index: int, class_names: Sequence[str] | None) -> str:
    """Return a class's name where a font can draw it, else its index."""
    name = name_of(index, class_names)
    return f"class {index}" if name is None else _drawn(name, f"class {index}")


def letter_of(place: int) -> str:
    """Return (a), (b), ... for the places 0, 1, ..."""
    return f"({chr(ord('a') + place)})"


def _arrangement(runs: Sequence[Run], rows: Sequence[Sequence[Row]]) -> Arrangement:
    """Find what differs: several runs' weights, else their targets, else the methods."""
    if len(runs) > 1:
        models = {(run.manifest.model.reference, run.manifest.model.weights_sha256) for run in runs}
        if len(models) > 1:
            return "checkpoints"
        methods = {tuple(method.name for method in run.manifest.methods) for run in runs}
        return (
            "classes" if len({run.manifest.target for run in runs}) > 1 and len(methods) == 1 else "methods"
        )
    several = len({(row.id, row.method) for row in rows[0]}) < len(rows[0])
    return "classes" if several and len(_methods(rows[0])) == 1 else "methods"


def _columns(
    arrangement: Arrangement, runs: Sequence[Run], rows: Sequence[Sequence[Row]], wanted: Sequence[str]
) -> list[Column]:
    """List the columns, yet without letters."""
    methods = [_wanted_methods(run, own, wanted) for run, own in zip(runs, rows, strict=True)]
    if arrangement == "methods":
        return [
            Column("", method, method, at, method, None) for at, own in enumerate(methods) for method in own
        ]
    if arrangement == "checkpoints":
        headings = _checkpoint_names(runs)
        return [
            Column(
                "",
                headings[at],
                f"{run.manifest.model.reference}: {run.manifest.model.provenance}",
                at,
                own[0],
                None,
            )
            for at, (run, own) in enumerate(zip(runs, methods, strict=True))
        ]
    return [
        column
        for at, (run, own) in enumerate(zip(runs, rows, strict=True))
        for column in _class_columns(at, run, [row for row in own if row.method == methods[at][0]])
    ]


def _class_columns(at: int, run: Run, rows: Sequence[Row]) -> list[Column]:
    """List a run's targets; one that means the same class for every image is named after it."""
    columns = []
    for target in dict.fromkeys(row.target for row in rows if row.target is not None):
        classes = {row.target_class for row in rows if row.target == target and row.error is None}
        only = next(iter(classes)) if len(classes) == 1 else None
        heading = target if only is None else class_text(only, run.manifest.class_names)
        columns.append(Column("", heading, target, at, rows[0].method, target))
    return columns


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows if row.method is not None))


def _wanted_methods(run: Run, rows: Sequence[Row], wanted: Sequence[str]) -> list[str]:
    there = [method.name for method in run.manifest.methods]
    there += [method for method in _methods(rows) if method not in there]
    unknown = [method for method in wanted if method not in there]
    if unknown:
        raise UsageError(
            f"the run {str(run.folder)!r} has no method {unknown[0]!r}; pick some of {', '.join(there)}"
        )
    return list(wanted) or there


def _checkpoint_names(runs: Sequence[Run]) -> list[str]:
    """Name runs by their weights' file, else by their model, else by their folder: what tells them apart."""
    candidates = (
        [PurePath(_weights_file(run) or "").name for run in runs],
        [PurePath(run.manifest.model.reference).name for run in runs],
        [Path(run.folder).resolve().name for run in runs],
    )
    apart = (names for names in candidates if len(set(names)) == len(names) and all(names))
    return next(apart, [f"run {at + 1}" for at in range(len(runs))])


def _weights_file(run: Run) -> str | None:
    """Find the weights' file in a provenance such as ``weights of FILE (SHA-256 ...)``."""
    _, found, rest = run.manifest.model.provenance.partition("weights of ")
    return rest.partition(" (SHA-256")[0].partition(";")[0] if found else None


def _lettered(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    headings = names or [column.heading for column in columns]
    return tuple(
        Column(letter_of(at + 1), drawable(heading), column.meaning, column.run, column.method, column.target)
        for at, (column, heading) in enumerate(zip(columns, headings, strict=False))
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
            # a folder that came from elsewhere must not make us read outside of it
            if not path.resolve().is_relative_to(run.folder.resolve()):
                note = "picture outside the run folder"
                continue
            try:
                with Image.open(path) as opened:
                    if opened.width * opened.height > MOST_PIXELS:
                        note = "picture too large"
                        continue
                    return opened.convert("RGB"), ""
            except FileNotFoundError:
                note = "picture file missing"
            # Pillow's readers raise these and more for a file that is not what it says
            except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
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
    return _drawn(label, f"class {known.index(label)}" if label in known else ascii(label)[1:-1])


def _drawn(name: str, fallback: str) -> str:
    """Return a name if it can be drawn as it is read, else what stands for it, with a MissingGlyphWarning."""
    if needs_shaping(tidy(name)) and not letters_are_joined():
        warnings.warn(
            f"{name!a} cannot be drawn: this matplotlib joins no letters. {fallback!a} is drawn instead. "
            "pip install 'matplotlib>=3.11'.",
            MissingGlyphWarning,
            stacklevel=2,
        )
        return fallback
    return printable(name, fallback)


def _cautions(runs: Sequence[Run], columns: Sequence[Column], arrangement: Arrangement) -> tuple[str, ...]:
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
