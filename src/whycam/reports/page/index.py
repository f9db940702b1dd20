"""The page's table of contents: what it needs of all images at once to filter, sort and search them."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whycam.errors import UsageError
from whycam.render import COLORMAPS, DEFAULT_COLORMAP
from whycam.render.colormaps import colour_table
from whycam.reports.page.catalogue import Catalogue
from whycam.reports.page.cells import STATES
from whycam.reports.page.facts import run_names
from whycam.reports.page.pictures import PagePicture
from whycam.reports.page.text import Vocabulary, number, shown
from whycam.store import Run

# What is drawn is at or above zero: a colormap whose middle is zero would show half of its colours only.
_SIGNED = {"coolwarm", "bwr"}


@dataclass(frozen=True)
class Placed:
    """An image's picture: the number of its chunk, -1 for none, and its size in pixels, 0 without one."""

    chunk: int = -1
    height: int = 0
    width: int = 0


@dataclass
class Contents:
    """Where everything is: filled while the rows are read, in numbers and short texts only.

    ``chunks`` are files' names (None inside the page), ``cells`` (chunk, state) by column and image,
    ``highest`` is each column's largest map value.
    """

    images: int
    chunks: list[str | None] = field(default_factory=list)
    cells: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    pictures: list[Placed] = field(default_factory=list)
    highest: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make a place for every picture."""
        self.pictures = [Placed()] * self.images

    def put_cell(self, column: int, image: int, chunk: int, state: int, highest: float) -> None:
        """Note which chunk a cell is in, what its map is, and its largest value."""
        self.cells.setdefault(column, [(-1, 0)] * self.images)[image] = (chunk, state)
        self.highest[column] = max(self.highest.get(column, 0.0), highest)

    def put_picture(self, image: int, chunk: int, picture: PagePicture | None) -> None:
        """Note which chunk an image is in, and the size of its picture."""
        self.pictures[image] = Placed(chunk, picture.height, picture.width) if picture else Placed(chunk)


def index_of(runs: Sequence[Run], catalogue: Catalogue, contents: Contents) -> dict[str, Any]:
    """Return the index as JSON values."""
    words, names = Vocabulary(), run_names(runs)
    data: dict[str, Any] = {
        "chunks": contents.chunks,
        "names": [shown(name) for name in catalogue.names],
        "labels": [words.code(_shown(label)) for label in catalogue.labels],
        "pictures": [picture.chunk for picture in contents.pictures],
        "heights": [picture.height for picture in contents.pictures],
        "widths": [picture.width for picture in contents.pictures],
        "runs": [
            {
                "name": name,
                "model": shown(run.manifest.model.reference),
                "weights": shown(run.manifest.model.provenance),
                "predicted": [words.code(_shown(text)) for text in facts.predicted],
                "right": [-1 if right is None else int(right) for right in facts.right],
            }
            for name, run, facts in zip(names, runs, catalogue.runs, strict=True)
        ],
        "columns": _columns(catalogue, contents, names),
        "measures": _measures(catalogue, names),
        "states": STATES,
        "colormaps": _colormaps(runs),
    }
    return data | {"words": list(words.texts)}


def options_of(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's controls offer, in the order of the index."""
    words, columns = index["words"], index["columns"]
    predicted = {code for run in index["runs"] for code in run["predicted"] if code >= 0}
    return {
        "labels": _offered(words, {code for code in index["labels"] if code >= 0}),
        "predicted": _offered(words, predicted),
        "right": any(right >= 0 for run in index["runs"] for right in run["right"]),
        "methods": list(dict.fromkeys(column["method"] for column in columns)),
        "runs": [run["name"] for run in index["runs"]],
        "targets": list(dict.fromkeys(c["target"] for c in columns if c["target"] is not None)),
        "measures": [measure["title"] for measure in index["measures"]],
        "colormaps": list(index["colormaps"]),
    }


def _offered(words: Sequence[str], codes: set[int]) -> list[tuple[int, str]]:
    return sorted(((code, words[code]) for code in codes), key=lambda pair: _natural(pair[1]))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Order texts as people do: class 2 before class 10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", text)
    return [
        (0, int(part), "") if part.isascii() and part.isdigit() and len(part) < 19 else (1, 0, part)
        for part in parts
    ]


def _shown(text: str | None) -> str | None:
    return None if text is None else shown(text)


def _columns(catalogue: Catalogue, contents: Contents, names: Sequence[str]) -> list[dict[str, Any]]:
    empty = [(-1, 0)] * contents.images
    columns = []
    for column, position in catalogue.columns.items():
        cells = contents.cells.get(position, empty)
        columns.append(
            {
                "run": column.run,
                "method": shown(column.method),
                "target": _shown(column.target),
                "title": _title(catalogue, position, names),
                "highest": contents.highest.get(position, 0.0),
                "chunks": [chunk for chunk, _ in cells],
                "states": [state for _, state in cells],
            }
        )
    return columns


def _title(catalogue: Catalogue, position: int, names: Sequence[str]) -> str:
    """Name a column by what tells it from the others."""
    column = list(catalogue.columns)[position]
    parts = [shown(column.method)]
    parts += [names[column.run]] if len(names) > 1 else []
    parts += [] if column.target is None else [shown(column.target)]
    return " · ".join(parts)


def _measures(catalogue: Catalogue, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return every number that images have: its name, which column it is of (-1: all), and its values."""
    found = []
    for run, (name, facts) in enumerate(zip(names, catalogue.runs, strict=True)):
        title = f"probability · {name}" if len(names) > 1 else "probability"
        found.append(_measure(title, "probability", run, -1, facts.probability))
    for column, position in catalogue.columns.items():
        title = _title(catalogue, position, names)
        numbers: Mapping[str, Sequence[float | None]] = {
            "score": catalogue.scores[position],
            **catalogue.values[position],
        }
        found += [
            _measure(f"{shown(name)} · {title}", shown(name), column.run, position, values)
            for name, values in numbers.items()
        ]
    return [measure for measure in found if any(value is not None for value in measure["values"])]


def _measure(title: str, name: str, run: int, column: int, values: Sequence[float | None]) -> dict[str, Any]:
    return {
        "title": title,
        "name": name,
        "run": run,
        "column": column,
        "values": [number(value) for value in values],
    }


def _colormaps(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the tables of 256 colours, the one that the runs' overlays have first."""
    styled = runs[0].manifest.style.get("colormap") if runs else None
    first = styled if isinstance(styled, str) else DEFAULT_COLORMAP
    names = [first, *(name for name in COLORMAPS if name not in _SIGNED)]
    tables = {}
    for name in dict.fromkeys(names):
        try:
            tables[shown(name)] = base64.b64encode(colour_table(name).tobytes()).decode("ascii")
        except UsageError:
            continue  # a colormap of another matplotlib: its run goes with the usual ones
    return tables
