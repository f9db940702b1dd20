"""All commits in one file, in the plan's order, in bounded memory."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from whycam.store import Row, Run, RunWriter, read_run
from whycam.store import merge as merge_module
from whycam.store.folder import RunFolder
from whycam.store.merge import merge


def test_a_finished_run_is_in_the_plans_order_however_it_was_written(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge_module, "GROUP_BYTES", 3000)
    order = list(range(60))
    random.Random(5).shuffle(order)
    with start() as writer:
        for first in range(0, 60, 7):
            writer.write(make_row(index) for index in order[first : first + 7])
        writer.finish()
    run = read_run(tmp_path / "run")
    rows = list(run.rows())
    assert [row.index for row in rows] == list(range(60))
    for row in rows:  # the columns moved together
        assert row.id == f"{row.index}.jpg"
        expected = make_row(row.index).map
        assert row.map is not None
        assert expected is not None
        np.testing.assert_allclose(row.map, expected, rtol=2**-11)
    groups = pq.ParquetFile(tmp_path / "run" / "explanations.parquet").metadata.num_row_groups
    assert groups > 3


def test_rows_of_one_place_in_the_plan_stay_in_the_order_of_writing(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write(make_row(index, method=method) for method in ("z", "y") for index in (1, 0))
        writer.write(make_row(index, method="a") for index in (0, 1))
        writer.finish()
    rows = [(row.index, row.method) for row in read_run(tmp_path / "run").rows()]
    assert rows == [(0, "z"), (0, "y"), (0, "a"), (1, "z"), (1, "y"), (1, "a")]


def test_a_row_group_is_bounded_and_holds_a_row_at_least(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge_module, "GROUP_BYTES", 40_000)
    big, small = np.ones((100, 100), np.float32), np.ones((2, 2), np.float32)
    with start() as writer:
        for index in range(12):
            noise = np.random.default_rng(index).normal(size=(100, 100)).astype(np.float32)
            writer.write([make_row(3 * index, map=noise)])
            writer.write([make_row(3 * index + 1, map=big), make_row(3 * index + 2, map=small)])
        writer.finish()
    metadata = pq.ParquetFile(tmp_path / "run" / "explanations.parquet").metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sum(sizes) == 36
    assert max(sizes) <= 4
    monkeypatch.setattr(merge_module, "GROUP_BYTES", 1)
    with start(name="other") as writer:
        writer.write(make_row(index) for index in range(5))
        writer.finish()
    assert pq.ParquetFile(tmp_path / "other" / "explanations.parquet").metadata.num_row_groups == 5


def test_a_merge_that_has_nothing_new_leaves_the_file_alone(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0), make_row(1, map=None, error="truncated")])
        writer.finish()
    table = tmp_path / "run" / "explanations.parquet"
    before = table.stat()
    merged = merge(RunFolder(tmp_path / "run"))
    assert (merged.through, merged.failures) == (1, 1)
    assert (table.stat().st_ino, table.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_finished_run_that_is_extended_is_one_file_in_the_plans_order(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    for batch in ([4, 0], [3], [1, 5, 2]):
        with start() as writer:
            writer.write(make_row(index) for index in batch)
            writer.finish()
    assert indices(read_run(tmp_path / "run")) == [0, 1, 2, 3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "explanations.parquet",
        "manifest.json",
    ]
