"""CSV lists of pictures: a ``path`` column, and ``label``, ``page`` and ``id`` columns where there are."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whycam.data.printable import printable
from whycam.errors import UsageError

_PAGE = re.compile("[0-9]{1,9}")
_UNDECODABLE = frozenset(map(chr, range(0xDC80, 0xDD00)))


@dataclass(frozen=True)
class Row:
    """One row: ``line`` is where it ends in the file; ``error`` says why ``path`` is of no use."""

    line: int
    path: str
    label: str | None
    error: str | None
    page: int | None = None
    id: str | None = None


def read_rows(table: Path) -> Iterator[Row]:
    """Yield the rows of a comma-separated UTF-8 list, with or without a byte order mark, as they are read.

    Blank lines are passed over. A row without a path, with more fields than the header, or that is not
    CSV comes out with an error; the rows after it still come. A path keeps bytes that are not UTF-8 as
    the file system would (PEP 383); in a label they are an error.

    Raises:
        UsageError: the header has no ``path`` column.
        OSError: the list cannot be opened.
    """
    with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        columns = _columns(reader, table)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(reader.line_num, "", None, f"a row that is not CSV ({error})")
                continue
            if fields:
                yield _row(reader.line_num, fields, columns)


def _columns(lines: Iterator[list[str]], table: Path) -> list[str]:
    try:
        columns = [name.strip() for name in next(lines, [])]
    except csv.Error:
        columns = []
    if "path" not in columns:
        found = ", ".join(repr(printable(name)) for name in columns[:20]) or "none"
        raise UsageError(
            f"{printable(str(table))}: found the columns {found}, expected one named 'path'; "
            "name it so in the first line, and save the list as comma-separated UTF-8"
        )
    return columns


def _row(line: int, fields: list[str], columns: list[str]) -> Row:
    named = dict(zip(columns, fields, strict=False))
    path, label = named.get("path", ""), named.get("label", "").strip()
    page = named.get("page", "").strip()
    error = None
    if len(fields) > len(columns):
        error = f"a row of {len(fields)} fields under {len(columns)} columns, expected quotes around a comma"
    elif not path.strip():
        error = "a row with an empty path, expected a picture's path"
    elif "\0" in path:
        error = "a path with a zero byte, expected a picture's path; save the list as UTF-8"
    elif _UNDECODABLE & set(label):
        error = f"the label '{printable(label)}' that is not UTF-8; save the list as UTF-8"
    elif page and _PAGE.fullmatch(page) is None:
        error = f"the page '{printable(page[:40])}', expected a number from 0, or nothing for the first"
    number = int(page) if page and not error else None
    return Row(line, path, label or None, error, number, named.get("id", "").strip() or None)
