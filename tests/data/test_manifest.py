import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whycam.data.manifest import Row, read_rows
from whycam.errors import UsageError


def _rows(folder: Path, data: bytes | str) -> list[Row]:
    table = folder / "list.csv"
    table.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_rows(table))


def _pairs(rows: list[Row]) -> list[tuple[str, str | None]]:
    assert [row.error for row in rows] == [None] * len(rows)
    return [(row.path, row.label) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nb.png,\n",
        "\ufeffpath,label\r\na.png,cat\r\nb.png,\r\n",
        '"path","label"\n"a.png","cat"\n"b.png",""',
        "path, label\na.png, cat\n\n\nb.png\n",
        "split,label,path\ntrain,cat,a.png\ntest,,b.png\n",
    ],
)
def test_paths_and_labels_are_read_from_any_usual_csv(text: str, tmp_path: Path) -> None:
    assert _pairs(_rows(tmp_path, text)) == [("a.png", "cat"), ("b.png", None)]


def test_a_list_without_labels_has_none(tmp_path: Path) -> None:
    assert _pairs(_rows(tmp_path, "path\na.png\n")) == [("a.png", None)]


@given(
    pairs=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip),
            st.text(st.characters(codec="utf-8")),
        ),
        min_size=1,
    )
)
def test_whatever_a_csv_writer_writes_comes_back(
    pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label"), *pairs])
    got = _pairs(_rows(tmp_path_factory.getbasetemp(), text.getvalue()))
    assert got == [(path, label.strip() or None) for path, label in pairs]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("file;label\na;b\n", "'file;label'"),
        ("Path,label\na,b\n", "'Path', 'label'"),
        ("a.png\nb.png\n", "'a.png'"),
        ("", "none"),
        ("path\n".encode("utf-16"), "'\\xff\\xfep\\x00a\\x00t\\x00h\\x00'"),
        ('"' + "x" * 200_000, "none"),
    ],
)
def test_a_list_without_a_path_column_names_the_columns_found(
    text: str | bytes, columns: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        _rows(tmp_path, text)
    line = str(caught.value)
    assert f"found the columns {columns}, expected one named 'path'".replace("\\", "\\\\") in line or (
        f"found the columns {columns}, expected one named 'path'" in line
    )
    assert len(line.splitlines()) == 1
    assert "UTF-8" in line


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (b",cat", "a row with an empty path, expected a picture's path"),
        (b'"  ",cat', "a row with an empty path, expected a picture's path"),
        (b"a,b.png,cat", "a row of 3 fields under 2 columns, expected quotes around a comma"),
        (b"a\0.png,cat", "a path with a zero byte, expected a picture's path; save the list as UTF-8"),
        (b"a.png,\xc3\xa8\xe9", "the label 'è\\xe9' that is not UTF-8; save the list as UTF-8"),
        (b'"' + b"x" * 200_000 + b'",cat', "a row that is not CSV (field larger than field limit (131072))"),
    ],
)
def test_a_row_that_names_no_picture_is_an_error_and_the_others_still_come(
    row: bytes, error: str, tmp_path: Path
) -> None:
    before, broken, after = _rows(tmp_path, b"path,label\na.png,cat\n" + row + b"\nb.png,dog\n")
    assert (before.path, before.error) == ("a.png", None)
    assert (broken.line, broken.error) == (3, error)
    assert (after.path, after.label, after.error) == ("b.png", "dog", None)


def test_bytes_of_a_path_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path, b"path\ncaf\xe9.png\n")
    assert row.path.encode("utf-8", "surrogateescape") == b"caf\xe9.png"


def test_rows_are_read_as_they_are_needed(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "a.png\n" * 100_000)
    rows = read_rows(table)
    assert next(rows).line == 2
    rows.close()  # and the file with them: pytest fails on a file left open
