"""Runs -> figure.pdf and figure.png, and in words what is on them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from whycam.render import MissingGlyphWarning, Normalisation
from whycam.reports.figure.columns import Column, letter_of
from whycam.reports.figure.content import Content, ImageRow, gather
from whycam.reports.figure.drawing import draw, saved
from whycam.reports.figure.layout import POINTS, TALLEST, Plan, meaning, plan_figure
from whycam.reports.figure.options import Arrangement, FigureOptions
from whycam.reports.figure.panels import make_panels
from whycam.reports.figure.selection import Reason
from whycam.store import Run
from whycam.store.files import make_folders, one_line, run_errors, sync_folder, write_atomically

DEFAULT_OPTIONS = FigureOptions()
PDF_NAME, PNG_NAME = "figure.pdf", "figure.png"


@dataclass(frozen=True)
class FigurePanel:
    """One column of a figure: its letter, such as "(b)", its heading, and what it is in full.

    ``method`` is its method's registered name, ``run`` the place of its run among those given, ``target``
    the explained target where the column is one of several; the image's own column has none of these.
    """

    letter: str
    heading: str
    meaning: str
    run: int | None = None
    method: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class ShownImage:
    """One image of a figure: what it is, what was predicted of it, and why it is shown.

    ``predictions`` are texts such as "tabby cat (87.0%)", one, or one for each checkpoint that has the
    image. ``wrong`` is None where a label does not tell. ``notes`` say which cells show nothing, and why.
    """

    id: str
    reason: Reason
    label: str | None
    predictions: tuple[str, ...]
    wrong: bool | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FigureResult:
    """What is on a figure, so that a caption can be true to it.

    ``panels`` are its columns, the image's first; ``images`` its rows, of ``total`` in the first run.
    ``levels`` are the heatmap values whose lines are drawn; ``colour_text`` and ``order_text`` are what
    stands beside its colour bar. ``size`` is (width, height) in inches. ``cautions`` stand on the figure,
    ``warnings`` are what it leaves out or draws otherwise than asked for.
    """

    pdf: Path
    png: Path
    arrangement: Arrangement
    panels: tuple[FigurePanel, ...]
    images: tuple[ShownImage, ...]
    total: int
    style: str
    colormap: str
    normalise: Normalisation
    levels: tuple[float, ...]
    colour_text: str
    order_text: str
    size: tuple[float, float]
    dpi: int
    cautions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods on it, each once."""
        return tuple(dict.fromkeys(panel.method for panel in self.panels if panel.method is not None))


def write_figure(
    runs: Sequence[Run], folder: Path, *, options: FigureOptions = DEFAULT_OPTIONS
) -> FigureResult:
    """Draw runs into ``folder/figure.pdf`` and ``folder/figure.png``, each there whole or not at all.

    One run gives images x methods, or images x classes where its rows have several targets; several give
    images x checkpoints where their weights differ, images x classes where their targets do, else images x
    methods. The same runs give the same bytes. Pictures are read from the run folders alone.

    Raises UsageError where the options do not fit the runs, RunError where a run cannot be read or shows
    nothing, or the folder cannot be written.
    """
    with glyph_warnings() as said, TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        content = gather(runs, options)
        plan = plan_figure(content, options)
        figure = draw(plan, make_panels(plan, content, options), options, Path(scratch))
        files = {PDF_NAME: saved(figure, "pdf"), PNG_NAME: saved(figure, "png")}
    _write(folder, files)
    return _result(folder, content, plan, options, said)


@contextmanager
def glyph_warnings() -> Iterator[list[str]]:
    """Collect the texts of warnings of missing glyphs, each once; others go their way."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    for warning in caught:
        text = one_line(warning.message)
        if not issubclass(warning.category, MissingGlyphWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif text not in said:
            said.append(text)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    with run_errors(f"write the figure into {str(folder)!r}"):
        make_folders(folder)
        with TemporaryDirectory(dir=folder, prefix=".figure-", ignore_cleanup_errors=True) as scratch:
            for name, content in files.items():
                write_atomically(folder / name, Path(scratch), partial(_put, content))
        sync_folder(folder)


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _result(
    folder: Path, content: Content, plan: Plan, options: FigureOptions, said: Sequence[str]
) -> FigureResult:
    colours, order = meaning(options)
    inches = plan.width / POINTS, plan.bottom / POINTS
    warned = list(content.warnings) + list(said)
    if plan.bottom > TALLEST:
        warned.append(
            f"the figure is {inches[1]:.1f} inches high, a page holds {TALLEST / POINTS:g}; show fewer images"
        )
    return FigureResult(
        pdf=folder / PDF_NAME,
        png=folder / PNG_NAME,
        arrangement=content.arrangement,
        panels=(FigurePanel(letter_of(0), "image", "the image"), *map(_panel, content.columns)),
        images=tuple(map(_shown, content.images)),
        total=content.total,
        style=options.style,
        colormap=options.colours,
        normalise=options.normalise,
        levels=options.levels,
        colour_text=colours,
        order_text=order,
        size=inches,
        dpi=options.dpi,
        cautions=content.cautions,
        warnings=tuple(warned),
    )


def _panel(column: Column) -> FigurePanel:
    return FigurePanel(
        column.letter, column.heading, column.meaning, column.run, column.method, column.target
    )


def _shown(image: ImageRow) -> ShownImage:
    said = (image.note, *(cell.note for cell in image.cells))
    notes = tuple(f"{letter_of(at)} {note}" for at, note in enumerate(said) if note)
    return ShownImage(image.id, image.reason, image.label, image.predictions, image.wrong, notes)
