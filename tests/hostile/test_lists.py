"""CSV lists and sources that no one would write by hand. Rows by themselves: tests/data/test_manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.conftest import Whycam


def test_bad_rows_cost_themselves_and_paths_lead_where_the_user_says(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path, tmp_path: Path
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (tmp_path / "outside.txt").write_text("a secret of someone")
    table = lists / "list.csv"
    table.write_bytes(
        b"path,label\n../pictures/good.png,<b>cat</b>\n" + b"x" * 10_000 + b".png,long\n"
        b'"' + b"y" * 1_000_000 + b'",large\na\0b.png,zero\n../outside.txt,text\n../pictures,folder\n'
    )
    done = whycam("explain", "demo", table)
    assert done.code == 1
    found = rows()
    good = found.pop("../pictures/good.png")
    assert (good.error, good.label) == (None, "<b>cat</b>")
    assert Path(tmp_path, "run", good.overlay).resolve().is_relative_to(tmp_path / "run" / "overlays")
    errors = [row.error for row in found.values()]
    assert len(errors) == len(done.lines("failed")) == 5
    expected = ("File name too long", "field limit", "zero byte", "something else", "a folder")
    assert all(any(text in error for error in errors) for text in expected)
    assert "a secret of someone" not in done.err


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x" * 10_000, "no such file or folder"),
        ("x" * 10_000 + "/*.png", "no pictures"),
        ("x" * 10_000 + "#page=1", "no such file or folder"),
        ("a\0b.png", "no such file or folder"),
        ("empty", "no pictures"),
        ("wide.csv", "save the list as comma-separated UTF-8"),
    ],
)
def test_a_source_that_cannot_be_one_stops_the_run_in_one_line(
    source: str, text: str, whycam: Whycam, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wide.csv").write_text("path\npictures/good.png\n", encoding="utf-16")
    done = whycam("explain", "demo", pictures, source)
    assert done.code == 2
    (line,) = done.lines("error")
    assert text in line
    assert "unexpected" not in line
    assert not (tmp_path / "run").exists()
