"""Reading runs: finished, killed, being written, damaged."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.store.conftest import one_line

from whycam.errors import RunError
from whycam.store import COLUMN_NAMES, Manifest, Row, Run, RunWriter, read_run
from whycam.store.manifest import dump_document
from whycam.store.schema import rows_to_table


def test_a_run_that_is_not_finished_is_read_like_a_finished_one(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(2), make_row(0)])
        writer.write([make_row(1)])
        unfinished = read_run(tmp_path / "run")
        before = unfinished.table()
        assert not unfinished.manifest.finished
        writer.finish()
    finished = read_run(tmp_path / "run")
    assert finished.manifest.finished
    assert before.column("index").to_pylist() == [0, 1, 2]
    assert finished.table().to_pylist() == before.to_pylist()


def test_an_empty_run_is_read_as_no_rows(tmp_path: Path, start: Callable[..., RunWriter]) -> None:
    with start() as writer:
        assert read_run(tmp_path / "run").table().num_rows == 0
        writer.finish()
    run = read_run(tmp_path / "run")
    assert run.table().num_rows == 0
    assert list(run.rows()) == []
    assert tuple(run.table().column_names) == COLUMN_NAMES


def test_some_columns_are_read_in_the_order_asked_for(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(1, error="broken"), make_row(0)])
    table = read_run(tmp_path / "run").table(["error", "id"])
    assert table.column_names == ["error", "id"]
    assert table.column("id").to_pylist() == ["0.jpg", "1.jpg"]
    with pytest.raises(RunError, match="no column 'colour'; expected some of index, id"):
        read_run(tmp_path / "run").table(["colour"])


def test_the_map_of_a_row_and_of_a_record_are_the_same(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0), make_row(1, map=None, error="truncated file")])
    run = read_run(tmp_path / "run")
    row, broken = run.rows()
    record, broken_record = run.table().to_pylist()
    for values in (run.map_of(row), run.map_of(record)):
        assert values.dtype == np.float32
        expected = make_row(0).map
        assert expected is not None
        np.testing.assert_allclose(values, expected, rtol=2**-11)
    for item in (broken, broken_record):
        with pytest.raises(RunError, match=r"'1\.jpg' has no map \(truncated file\)"):
            run.map_of(item)


@pytest.mark.parametrize("batches_read", [0, 1, 2, 3])
@pytest.mark.parametrize("extended", [False, True])
def test_a_reader_in_the_middle_gets_every_row_once_while_the_writer_finishes(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    batches_read: int,
    extended: bool,
) -> None:
    if extended:
        with start() as writer:
            writer.write([make_row(50), make_row(51)])
            writer.finish()
    with start() as writer:
        for index in (7, 3, 5, 1):
            writer.write([make_row(index), make_row(index + 1)])
        batches = read_run(tmp_path / "run").batches(["index"])
        found = [index for _ in range(batches_read) for index in next(batches).column("index").to_pylist()]
        writer.finish()
        found += [index for table in batches for index in table.column("index").to_pylist()]
    assert sorted(found) == [*range(1, 9), *([50, 51] if extended else [])]


def test_a_reader_in_the_middle_does_not_mind_more_rows(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
        writer.write([make_row(1)])
        rows = read_run(tmp_path / "run").rows()
        first = next(rows)
        writer.write([make_row(2)])
        writer.finish()
        found = [first.index, *(row.index for row in rows)]
    assert found in ([0, 1], [0, 1, 2])


def test_a_killed_writers_temporary_files_and_strange_files_are_not_read(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    run = tmp_path / "run"
    (run / ".tmp" / "000009.tmp").write_bytes(b"PAR1 half")
    (run / "rows" / "part-000002.parquet.tmp").write_bytes(b"PAR1 half")
    (run / "rows" / "notes.txt").write_text("hello")
    assert indices(read_run(run)) == [0]


def test_a_missing_folder_one_without_a_run_and_a_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "holiday").mkdir()
    for name, expected in [
        ("nothing", "does not exist"),
        ("holiday", "holds no manifest"),
        ("file", "holds no"),
    ]:
        with pytest.raises(RunError) as caught:
            read_run(tmp_path / name)
        text = one_line(caught)
        assert expected in text
        assert "whycam explain ... --out FOLDER" in text


@pytest.mark.skipif(os.name == "nt", reason="another error there")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("manifest.json", "Is a directory"),
        ("explanations.parquet", "Is a directory"),
        ("rows", "Not a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_with_reason_and_mend(
    tmp_path: Path, start: Callable[..., RunWriter], name: str, reason: str
) -> None:
    start().close()
    path = tmp_path / "run" / name
    if name == "rows":
        path.rmdir()
        path.write_bytes(b"")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    with pytest.raises(RunError) as caught:
        list(read_run(tmp_path / "run").rows())
    assert one_line(caught) == f"cannot read {str(path)!r}: {reason}; check its permissions and its disk"


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_commit_that_leads_nowhere_is_an_error_not_an_endless_search(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    (tmp_path / "run" / "rows" / "part-000002.parquet").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError, match="is listed and cannot be opened; delete it and go on with --resume"):
        list(read_run(tmp_path / "run").rows())


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 3
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "other": b"hello " * 100,
            "flipped": data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :],
            "no tail": data[:-4] + b"XXXX",
        }[kind]
    )


@pytest.mark.parametrize("kind", ["empty", "cut", "other", "flipped", "no tail"])
@pytest.mark.parametrize("part", ["rows/part-000001.parquet", "explanations.parquet"])
def test_a_damaged_file_is_one_line_that_names_it_and_the_mend(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row], kind: str, part: str
) -> None:
    with start() as writer:
        writer.write(make_row(index, map=np.random.default_rng(index).normal(size=64)) for index in range(20))
        if part == "explanations.parquet":
            writer.finish()
    damage(tmp_path / "run" / part, kind)
    with pytest.raises(RunError) as caught:
        list(read_run(tmp_path / "run").rows())
    text = one_line(caught)
    assert part in text
    assert "is damaged" in text
    mend = "delete it and go on with --resume" if part.startswith("rows") else "restore it from a copy"
    assert mend in text


def test_a_damaged_commit_is_made_again_after_the_mend_that_the_error_gives(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
        writer.write([make_row(1)])
    shard = tmp_path / "run" / "rows" / "part-000001.parquet"
    damage(shard, "cut")
    with pytest.raises(RunError, match="delete it"):
        start()
    shard.unlink()
    with start() as writer:
        assert writer.finished == {("1.jpg", "gradcam", "top class")}
        writer.write([make_row(0)])
        writer.finish()
    assert indices(read_run(tmp_path / "run")) == [0, 1]


def test_a_table_that_another_program_wrote_again_is_refused(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
        writer.finish()
    pq.write_table(pa.table({"index": [1]}), tmp_path / "run" / "explanations.parquet")
    with pytest.raises(RunError, match="was not written by whycam"):
        list(read_run(tmp_path / "run").rows())


def test_a_finished_run_without_its_table_is_refused_not_read_as_empty(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
        writer.finish()
    (tmp_path / "run" / "explanations.parquet").unlink()
    with pytest.raises(RunError, match=r"is finished and lacks explanations\.parquet"):
        list(read_run(tmp_path / "run").rows())
    with pytest.raises(RunError, match=r"is finished and lacks explanations\.parquet"):
        start()


def test_rows_of_another_minor_version_are_read_by_the_columns_that_both_know(
    tmp_path: Path, make_manifest: Callable[..., Manifest], make_row: Callable[..., Row]
) -> None:
    run = tmp_path / "run"
    (run / "rows").mkdir(parents=True)
    document = make_manifest().to_document() | {"schema_version": "1.7"}
    (run / "manifest.json").write_bytes(dump_document(document))
    table = rows_to_table([make_row(0, label="cat", overlay="overlays/0.png")], 1)
    later = table.drop_columns(["label"]).append_column("energy", pa.array([3.5]))
    later = later.set_column(1, "id", later.column("id").cast(pa.large_string()))
    pq.write_table(later, run / "rows" / "part-000001.parquet")
    row = next(read_run(run).rows())
    assert (row.id, row.label, row.overlay) == ("0.jpg", None, "overlays/0.png")
    assert tuple(read_run(run).table().column_names) == COLUMN_NAMES
    pq.write_table(table.drop_columns(["path"]), run / "rows" / "part-000002.parquet")
    with pytest.raises(RunError, match="lacks the column 'path'"):
        list(read_run(run).rows())


@pytest.mark.skipif(os.name == "nt", reason="names of any bytes")
def test_a_run_folder_whose_name_is_not_utf8_is_written_and_read(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    name = os.fsdecode(b"caf\xe9")
    with start(name=name) as writer:
        writer.write([make_row(0, id=name)])
        writer.finish()
    assert [row.id for row in read_run(tmp_path / name).rows()] == [name]
    (tmp_path / name / "explanations.parquet").write_bytes(b"")
    with pytest.raises(RunError) as caught:
        list(read_run(tmp_path / name).rows())
    one_line(caught).encode()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts the system's threads")
def test_writing_and_reading_start_no_thread(tmp_path: Path) -> None:
    code = """
    import os, sys
    import numpy as np
    import pyarrow.compute, pyarrow.parquet
    from whycam.store import *
    before = os.listdir("/proc/self/task")
    manifest = Manifest(
        command=(), versions={}, device="cpu", seed=0, target="top class", layer=None, sources=(),
        model=ModelRecord(reference="demo", provenance="shipped", weights_sha256=None),
        image_count=2, preprocessing={}, class_names=None, methods=(MethodRecord(name="gradcam"),),
    )
    for index in range(2):
        with RunWriter.resume(sys.argv[1], manifest) as writer:
            writer.write([Row(index=1 - index, id=str(index), path="a", map=np.ones((3, 3), np.float32))])
            writer.finish()
    list(read_run(sys.argv[1]).rows())
    read_run(sys.argv[1]).table()
    print(len(os.listdir("/proc/self/task")) - len(before))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_reading_leaves_the_folder_as_it_was(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    read_run(tmp_path / "run").table()
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before
