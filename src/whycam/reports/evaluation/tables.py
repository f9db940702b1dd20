"""Evaluated runs -> evaluation.csv, with all figures, and evaluation.tex, with the main ones."""

import csv
import io
from collections.abc import Iterator, Sequence

from whycam.reports.bibliography import escaped
from whycam.reports.evaluation.facts import Column, Evaluated, Figure
from whycam.reports.evaluation.words import (
    LEGACY,
    figure_text,
    headline,
    main_columns,
    method_title,
    title_of_column,
)

_HEAD = (
    "run", "column", "title", "direction", "standing", "method", "control", "mean", "low", "high", "n",
    "undefined", "best", "maps", "ties", "blank", "broken",
)  # fmt: skip
_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}


def evaluation_csv(found: Sequence[Evaluated]) -> str:
    """Return all figures as CSV, a line a run, column and method; what is undefined is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEAD)
    for evaluated in found:
        for column in evaluated.columns:
            writer.writerows(_lines(evaluated, column))
    return file.getvalue()


def _lines(evaluated: Evaluated, column: Column) -> Iterator[list[object]]:
    title = title_of_column(column)
    for name in evaluated.everything:
        figure, note = column.figures.get(name, Figure(None, None, None, 0, 0)), evaluated.maps[name]
        numbers = [
            "" if value is None else f"{value:.6g}" for value in (figure.mean, figure.low, figure.high)
        ]
        yield [
            evaluated.name, column.name, title, column.direction, column.standing,
            name, _yes(name in evaluated.controls), *numbers, figure.n, figure.undefined,
            _yes(column.best == (name,)), note.n, "" if note.ties is None else f"{note.ties:.6g}",
            note.blank, note.broken,
        ]  # fmt: skip


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def evaluation_tex(found: Sequence[Evaluated]) -> str:
    """Return a LaTeX table a run for the package booktabs: mean [low, high] of the main figures.

    Bold is the one method that the evaluation itself names as best by a column, and nothing else.
    """
    return "\n".join("\n".join(_table(evaluated)) + "\n" for evaluated in found)


def _table(evaluated: Evaluated) -> Iterator[str]:
    columns = main_columns(evaluated)
    yield "% needs \\usepackage{booktabs}"
    yield _comment(f"{evaluated.name}: {headline(evaluated)}")
    yield _comment(f"Mean [95 % bootstrap interval] over {evaluated.images} images.")
    yield _comment("Bold: the only method that can be called best by a column.")
    yield f"\\begin{{tabular}}{{l{'c' * len(columns)}}}"
    yield "\\toprule"
    yield _row(["Method", *map(_heading, columns)])
    yield "\\midrule"
    for part in (evaluated.methods, evaluated.controls):
        if part is evaluated.controls:
            yield "\\midrule"
            yield f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\emph{{Controls}}}} \\\\"
        for name in part:
            cells = [_cell(column, name) for column in columns]
            yield _row([_plain(method_title(name)), *cells])
    yield "\\bottomrule"
    yield "\\end{tabular}"


def _heading(column: Column) -> str:
    legacy = f" ({LEGACY})" if column.standing == LEGACY else ""
    return f"{_plain(title_of_column(column) + legacy)}{_ARROWS.get(column.direction, '')}"


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(column: Column, name: str) -> str:
    text = figure_text(column.figures.get(name)).replace("−", "$-$").replace("–", "--")
    return f"\\textbf{{{text}}}" if column.best == (name,) else text


def _comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def _plain(text: str) -> str:
    # behind a row's end a bracket or a star would be read as an option of it
    said = escaped(" ".join(text.split()))
    return f"{{{said}}}" if said.startswith(("[", "*")) else said
