import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whycam.errors import RunError
from whycam.store import EVALUATION_NAME, METRICS_NAME, METRICS_VERSION, Metrics, read_metrics
from whycam.store.schema import safe_text

DOCUMENT: dict[str, Any] = {
    "schema_version": METRICS_VERSION, "settings": {}, "images": 2, "skipped": {"count": 0, "first": []},
    "controls": ["centre"], "maps": {}, "columns": {},
}  # fmt: skip
IDS = ["一.jpg", "\udc80.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with an evaluation of two images."""
    table = pa.table(
        {
            "index": [0, 1],
            "id": [safe_text(name) for name in IDS],
            "energy": pa.array([0.5, None], pa.float64()),
            "least_blur": pa.array([[1.0, 0.5], None], pa.list_(pa.float64())),
        }
    )
    pq.write_table(table, tmp_path / METRICS_NAME, write_page_checksum=True)
    (tmp_path / EVALUATION_NAME).write_text(json.dumps(DOCUMENT))
    return tmp_path


def opened(folder: Path) -> Metrics:
    found = read_metrics(folder)
    assert found is not None
    return found


def test_a_run_that_was_not_evaluated_has_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) is None


def test_an_evaluation_that_is_still_being_made_is_none(folder: Path) -> None:
    (folder / EVALUATION_NAME).unlink()
    assert read_metrics(folder) is None


def test_rows_come_with_their_ids_and_what_is_undefined_as_none(folder: Path) -> None:
    found = opened(folder)
    assert found.document == DOCUMENT
    assert [row["id"] for row in found.rows()] == IDS
    assert list(found.rows(["energy", "least_blur"])) == [
        {"energy": 0.5, "least_blur": [1.0, 0.5]},
        {"energy": None, "least_blur": None},
    ]


def test_a_table_has_the_columns_that_are_asked_for(folder: Path) -> None:
    assert opened(folder).table(["energy", "index"]).column_names == ["energy", "index"]
    assert opened(folder).table().column_names == list(opened(folder).columns)
    with pytest.raises(RunError, match="no column 'srg'; expected some of index, id"):
        opened(folder).table(["srg"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", r"evaluation\.json' is damaged"),
        (b"\xff", r"evaluation\.json' is damaged"),
        (b"[]", "holds a list; expected an object"),
        (b'{"images": NaN}', "NaN is no JSON number"),
        (json.dumps({**DOCUMENT, "schema_version": "2.0"}).encode(), "install a newer whycam"),
        (json.dumps({**DOCUMENT, "columns": None}).encode(), "no 'columns'"),
    ],
)
def test_a_damaged_or_later_evaluation_is_refused_in_one_line(
    folder: Path, content: bytes, said: str
) -> None:
    (folder / EVALUATION_NAME).write_bytes(content)
    with pytest.raises(RunError, match=said) as caught:
        read_metrics(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_later_minor_version_is_read(folder: Path) -> None:
    (folder / EVALUATION_NAME).write_text(json.dumps({**DOCUMENT, "schema_version": "1.7", "more": 1}))
    assert opened(folder).document["more"] == 1


def test_a_missing_or_damaged_table_is_refused_in_one_line(folder: Path) -> None:
    whole = (folder / METRICS_NAME).read_bytes()
    (folder / METRICS_NAME).write_bytes(whole[:-20])
    with pytest.raises(RunError, match=r"metrics\.parquet' is damaged") as caught:
        read_metrics(folder)
    assert len(str(caught.value).splitlines()) == 1
    (folder / METRICS_NAME).unlink()
    with pytest.raises(RunError, match=r"metrics\.parquet' is missing beside evaluation\.json"):
        read_metrics(folder)


def test_a_flipped_bit_is_found_when_the_rows_are_read(folder: Path) -> None:
    content = bytearray((folder / METRICS_NAME).read_bytes())
    content[40] ^= 1
    (folder / METRICS_NAME).write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.parquet' is damaged"):
        list(opened(folder).rows())
