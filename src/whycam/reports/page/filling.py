"""The second reading of the runs: maps and pictures, a few rows at a time, into chunks of data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from whycam.reports.page.catalogue import Catalogue
from whycam.reports.page.cells import cells_of, input_size, state_of
from whycam.reports.page.index import Contents
from whycam.reports.page.pictures import PagePicture, page_picture
from whycam.reports.page.shelf import Shelf
from whycam.reports.page.text import shown
from whycam.store import Row, Run

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of rows that are in the page and the number there are."""

CHUNK_CHARACTERS = 256 * 1024
"""What a browser reads at once to show an image: small enough not to be felt."""

_ROWS_AT_ONCE = 64
_WORKERS = 4


def fill(runs: Sequence[Run], catalogue: Catalogue, shelf: Shelf, progress: Progress) -> Contents:
    """Put every row's map and every image's picture on the shelf; return where they are.

    Rows that have come since the catalogue was read wait for the next report. Raises RunError and OSError.
    """
    contents = Contents(len(catalogue.places))
    chunk = _Chunk(shelf, contents)
    done = 0
    progress(0, catalogue.rows)
    with ThreadPoolExecutor(_WORKERS) as executor:
        for position, run in enumerate(runs):
            size = input_size(run.manifest)
            for rows in _some_at_once(run.rows()):
                known = [row for row in rows if catalogue.column_of(position, row) is not None]
                wanted = _wanted(known, catalogue, contents)
                names = set(wanted.values())
                found = dict(zip(names, executor.map(partial(page_picture, run.folder), names), strict=True))
                for row, cell in zip(known, cells_of(known, size), strict=True):
                    name = wanted.pop(row.id, None)
                    _put(row, position, None if name is None else found[name], cell, catalogue, chunk)
                done += len(known)
                progress(done, catalogue.rows)
    chunk.close()
    return contents


@dataclass
class _Chunk:
    """Data of one chunk, handed to the shelf when it is large enough."""

    shelf: Shelf
    contents: Contents
    data: dict[str, Any] = field(default_factory=dict)
    characters: int = 0

    @property
    def number(self) -> int:
        return len(self.contents.chunks)

    def put(self, key: str, value: dict[str, Any]) -> None:
        self.data[key] = value
        self.characters += 300 + sum(len(text) for text in value.values() if isinstance(text, str))

    def close_if_full(self) -> None:
        if self.characters >= CHUNK_CHARACTERS:
            self.close()

    def close(self) -> None:
        if self.data:
            self.contents.chunks.append(self.shelf.keep_chunk(self.data))
            self.data, self.characters = {}, 0


def _some_at_once(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while some := list(islice(iterator, _ROWS_AT_ONCE)):
        yield some


def _wanted(rows: Sequence[Row], catalogue: Catalogue, contents: Contents) -> dict[str, str]:
    """Return the pictures' names of images that have none yet, by image."""
    return {
        row.id: row.picture
        for row in rows
        if row.picture is not None and not contents.pictures[catalogue.places[row.id]].height
    }


def _put(
    row: Row,
    run: int,
    picture: PagePicture | None,
    cell: dict[str, Any],
    catalogue: Catalogue,
    chunk: _Chunk,
) -> None:
    image, column, contents = catalogue.places[row.id], catalogue.column_of(run, row), chunk.contents
    if column is None:
        return
    if picture is not None or contents.pictures[image].chunk < 0:
        chunk.put(f"i{image}", _image(row, picture, chunk.shelf))
        contents.put_picture(image, chunk.number, picture)
    chunk.put(f"c{column}.{image}", cell)
    contents.put_cell(column, image, chunk.number, state_of(row, cell), cell.get("highest", 0.0))
    chunk.close_if_full()


def _image(row: Row, picture: PagePicture | None, shelf: Shelf) -> dict[str, Any]:
    return {
        "picture": None if picture is None else shelf.keep_picture(picture.content),
        "path": shown(row.path),
        "hash": shown(row.content_hash or ""),
        "size": None if row.original is None else list(row.original),
    }
