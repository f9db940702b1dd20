"""What the page says of evaluated runs: what may be concluded, the tables, and the curves as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from whycam.errors import RunError
from whycam.reports.evaluation.facts import Column, Evaluated, MapNote
from whycam.reports.evaluation.plot import (
    CURVES_SHOWN,
    Look,
    Mark,
    Sizes,
    Stroke,
    curve_plots,
    draw_curves,
    looks,
    shown_in_curves,
)
from whycam.reports.evaluation.words import (
    LEGACY,
    conclusions,
    figure_text,
    headline,
    main_columns,
    method_title,
    title_of_column,
)
from whycam.reports.page.catalogue import Values
from whycam.reports.page.text import shown
from whycam.store import Key, Run

_SIZES = Sizes(head=14.0, small=11.5, line=1.7)
_WIDTH, _HEIGHT = 300.0, 220.0
_DIRECTIONS = {"higher": "higher is better", "lower": "lower is better"}


@dataclass(frozen=True)
class Cell:
    """A figure in words; ``n`` where it is of fewer images than the rest, ``best`` where only it is best."""

    text: str
    n: str
    best: bool


@dataclass(frozen=True)
class Line:
    """A method of a table."""

    title: str
    name: str
    control: bool
    cells: tuple[Cell, ...]
    counts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Figures by method: ``heads`` are (title, what is good)."""

    heads: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Plot:
    """A plot as marks, each a mapping of what its SVG element needs."""

    title: str
    width: float
    height: float
    marks: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class EvaluationText:
    """An evaluated run as the page shows it, all texts printable."""

    name: str
    headline: str
    sentences: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...]
    how: str
    skipped: tuple[str, ...]
    main: Table
    others: Table
    plots: tuple[Plot, ...]
    key: tuple[tuple[str, Plot], ...]
    left_out: int


def values_of(run: Run, evaluated: Evaluated | None) -> Values:
    """Return the main figures by image, method and target. Raises RunError where the table is damaged."""
    if evaluated is None:
        return {}
    titles = {
        column.name: title_of_column(column)
        for column in main_columns(evaluated)
        if column.name in evaluated.metrics.columns
    }
    found: dict[Key, dict[str, float]] = {}
    for row in evaluated.metrics.rows(["id", "method", "target", *titles]):
        key = (row["id"], row["method"], row["target"] or run.manifest.target)
        found[key] = {title: row[name] for name, title in titles.items() if row[name] is not None}
    return found


def known_values(
    runs: Sequence[Run], found: Sequence[Evaluated | None]
) -> tuple[list[Values], tuple[str, ...]]:
    """Return what the page sorts and filters by, run by run, and a line for each table that is damaged."""
    values: list[Values] = []
    problems = []
    for run, evaluated in zip(runs, found, strict=True):
        try:
            values.append(values_of(run, evaluated))
        except RunError as error:
            values.append({})
            problems.append(f"the page has no figures by image: {error}")
    return values, tuple(problems)


def evaluation_texts(found: Sequence[Evaluated | None]) -> list[EvaluationText]:
    """Return what the page says of the runs that were evaluated."""
    return [_text(evaluated) for evaluated in found if evaluated is not None]


def _text(evaluated: Evaluated) -> EvaluationText:
    main = main_columns(evaluated)
    others = [column for column in evaluated.columns if column not in main]
    # what nobody should rely on comes last
    others.sort(key=lambda column: column.standing == LEGACY)
    look = looks(evaluated)
    said = conclusions(main)
    more = {sentence: of for sentence, of in conclusions(others).items() if sentence not in said}
    return EvaluationText(
        name=shown(evaluated.name),
        headline=shown(headline(evaluated)),
        sentences=tuple(_sentences(said)),
        more=tuple(_sentences(more)),
        how=shown(_how(evaluated)),
        skipped=tuple(shown(f"{name}: {reason}") for name, reason in evaluated.named_skipped),
        main=_table(evaluated, main),
        others=_table(evaluated, others),
        plots=tuple(_plots(evaluated, look)),
        key=tuple(_key(evaluated, look)) if evaluated.curves else (),
        left_out=max(0, len(evaluated.methods) - CURVES_SHOWN) if evaluated.curves else 0,
    )


def _sentences(found: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for sentence, titles in found.items():
        yield shown(", ".join(titles)), shown(sentence)


def _how(evaluated: Evaluated) -> str:
    images = "1 image" if evaluated.images == 1 else f"{evaluated.images:,} images"
    parts = [f"Measured on {images}"]
    if evaluated.skipped:
        parts.append(f"{evaluated.skipped:,} left out")
    if evaluated.masks:
        lacking = f" ({evaluated.without_mask:,} images have none)" if evaluated.without_mask else ""
        parts.append(f"masks from {evaluated.masks}{lacking}")
    parts += [f"{evaluated.steps} steps", f"seed {evaluated.seed}"]
    parts += [f"{evaluated.forwards:,} forward passes"] if evaluated.forwards else []
    parts += [f"on {evaluated.device}"] if evaluated.device else []
    return f"{', '.join(parts)}. In brackets: 95 % bootstrap interval of the mean."


def _table(evaluated: Evaluated, columns: Sequence[Column]) -> Table:
    return Table(
        heads=tuple((shown(title_of_column(column)), shown(_good(column))) for column in columns),
        lines=tuple(_line(evaluated, name, columns) for name in evaluated.everything),
    )


def _good(column: Column) -> str:
    said = _DIRECTIONS.get(column.direction, "neither good nor bad")
    return said if column.standing == "measure" else f"{column.standing}; {said}"


def _line(evaluated: Evaluated, name: str, columns: Sequence[Column]) -> Line:
    note = evaluated.maps[name]
    return Line(
        title=shown(method_title(name)),
        name=shown(name),
        control=name in evaluated.controls,
        cells=tuple(_cell(column, name, note) for column in columns),
        counts=(
            f"{note.n:,}",
            "–" if note.ties is None else f"{100 * note.ties:.3g} %",
            f"{note.blank:,}",
            f"{note.broken:,}",
        ),
    )


def _cell(column: Column, name: str, note: MapNote) -> Cell:
    figure = column.figures.get(name)
    fewer = figure is not None and figure.n != note.n
    return Cell(figure_text(figure), f"n = {figure.n:,}" if figure and fewer else "", column.best == (name,))


def _plots(evaluated: Evaluated, look: dict[str, Look]) -> Iterator[Plot]:
    for plot in curve_plots(evaluated):
        marks = draw_curves(plot, look, _WIDTH, _HEIGHT, _SIZES)
        yield Plot(shown(plot.title), _WIDTH, _HEIGHT, tuple(map(_svg, marks)))


def _key(evaluated: Evaluated, look: dict[str, Look]) -> Iterator[tuple[str, Plot]]:
    for name in shown_in_curves(evaluated):
        own = look[name]
        line = Stroke(((0.0, 6.0), (34.0, 6.0)), own.ink, own.width * _SIZES.line, own.dash)
        yield shown(method_title(name)), Plot("", 34.0, 12.0, (_svg(line),))


def _svg(mark: Mark) -> dict[str, Any]:
    """Return a mark's own values and its kind, its points as SVG writes them, its text printable."""
    found = {field.name: getattr(mark, field.name) for field in fields(mark)}
    found |= {name: short_number(value) for name, value in found.items() if isinstance(value, float)}
    if "points" in found:
        found["points"] = " ".join(f"{x:.1f},{y:.1f}" for x, y in found["points"])
    if "dash" in found:
        found["dash"] = " ".join(short_number(1.4 * part) for part in found["dash"])
    if "text" in found:
        found["text"] = shown(found["text"])
    return {"kind": type(mark).__name__.lower(), **found}


def short_number(value: float) -> str:
    """Return a coordinate with at most two digits behind the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
