"""Writing runs: what is refused, what is committed, what a failing disk leaves."""

import builtins
import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.store.conftest import one_line

from whycam.errors import RunError
from whycam.store import Manifest, Row, Run, RunWriter, read_run
from whycam.store import files as files_module

PNG = b"\x89PNG\r\n\x1a\n picture"


def test_a_finished_run_is_a_manifest_a_table_and_its_pictures(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        overlay = writer.save_picture("overlays/0.png", PNG)
        writer.write([make_row(0, overlay=overlay), make_row(1, map=None, error="broken")])
        writer.write([make_row(1, id="1.jpg", method="layercam", map=None, error="broken")])
        manifest = writer.finish()
    run = tmp_path / "run"
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "explanations.parquet",
        "manifest.json",
        os.path.join("overlays", "0.png"),
    ]
    assert not (run / "rows").exists()
    assert not (run / ".tmp").exists()
    assert (run / "overlays" / "0.png").read_bytes() == PNG
    assert manifest.finished
    assert manifest.failures == 1  # one image, though two of its rows have an error
    assert read_run(run).manifest == manifest


def test_rows_are_on_the_disk_when_write_returns(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    with start() as writer:
        for index in range(3):
            writer.write([make_row(index)])
            assert indices(read_run(tmp_path / "run")) == list(range(index + 1))
        writer.write([])
        assert len(list((tmp_path / "run" / "rows").iterdir())) == 3


def test_a_resumed_run_knows_what_is_committed_and_ends_with_every_row_once(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    with start() as writer:
        writer.write([make_row(0, id=name), make_row(1), make_row(2, method=None, target=None, map=None)])
    with start() as writer:
        assert writer.finished == {
            (name, "gradcam", "top class"),
            ("1.jpg", "gradcam", "top class"),
            ("2.jpg", None, None),
        }
        writer.write([make_row(3)])
        writer.finish()
    assert indices(read_run(tmp_path / "run")) == [0, 1, 2, 3]


def test_a_row_that_is_there_already_is_refused_and_nothing_of_its_batch_is_written(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    with start() as writer:
        for batch in ([make_row(1), make_row(0)], [make_row(2), make_row(2)]):
            with pytest.raises(RunError, match=r"is in .* already; expected each id, method and target once"):
                writer.write(batch)
        assert indices(read_run(tmp_path / "run")) == [0]
        writer.write([make_row(0, method="layercam"), make_row(0, target="class 3"), make_row(0, id="b")])
        assert len(writer.finished) == 4


def test_a_row_that_does_not_fit_is_refused_and_the_writer_goes_on(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    with start() as writer:
        with pytest.raises(RunError, match="column 'prediction' cannot hold"):
            writer.write([make_row(0), make_row(1, prediction=2**70)])
        writer.write([make_row(0)])
        assert indices(read_run(tmp_path / "run")) == [0]


def test_create_refuses_a_run_and_says_how_to_go_on(
    tmp_path: Path, start: Callable[..., RunWriter], make_manifest: Callable[..., Manifest]
) -> None:
    start().close()
    with pytest.raises(RunError) as caught:
        RunWriter.create(tmp_path / "run", make_manifest())
    assert "holds a run already; choose another folder (--out), or go on with --resume" in one_line(caught)


@pytest.mark.parametrize("verb", ["create", "resume"])
@pytest.mark.parametrize("name", ["photo.jpg", "rows", ".hidden", "explanations.parquet"])
def test_a_folder_with_other_things_is_refused_and_left_alone(
    tmp_path: Path, make_manifest: Callable[..., Manifest], verb: str, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(
        RunError, match=r"neither a run folder nor an empty one.* choose another folder"
    ) as caught:
        getattr(RunWriter, verb)(tmp_path / "out", make_manifest())
    one_line(caught)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    with pytest.raises(RunError, match="neither a run folder nor an empty one"):
        getattr(RunWriter, verb)(tmp_path / "out" / name, make_manifest())


@pytest.mark.parametrize("verb", ["create", "resume"])
def test_an_empty_a_new_and_a_barely_begun_folder_are_taken(
    tmp_path: Path, make_manifest: Callable[..., Manifest], verb: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / ".tmp").mkdir(parents=True)
    (tmp_path / "begun" / ".tmp" / "000000.tmp").write_bytes(b"{")
    (tmp_path / "begun" / ".lock").write_bytes(b"123")
    for name in ("empty", "begun", "new/below/that"):
        with getattr(RunWriter, verb)(tmp_path / name, make_manifest()) as writer:
            writer.finish()
        assert read_run(tmp_path / name).manifest.finished


def test_a_manifest_that_json_cannot_hold_is_refused_before_anything_is_made(
    tmp_path: Path, make_manifest: Callable[..., Manifest]
) -> None:
    with pytest.raises(RunError, match="preprocessing"):
        RunWriter.create(tmp_path / "run", make_manifest(preprocessing={"std": float("nan")}))
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_settings_is_refused_and_changes_nothing(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    with pytest.raises(RunError) as caught:
        start(target="class 3", seed=8)
    text = one_line(caught)
    assert "target was 'top class', now 'class 3'; seed was 7, now 8" in text
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    start().close()  # the refused one has given the lock back


def test_a_resumption_is_noted_and_may_find_more_images(
    tmp_path: Path, start: Callable[..., RunWriter], make_manifest: Callable[..., Manifest]
) -> None:
    start().finish()
    created = read_run(tmp_path / "run").manifest.created
    writer = start(device="cuda:0", command=("whycam", "again"), image_count=9)
    assert not read_run(tmp_path / "run").manifest.finished
    manifest = writer.finish()
    assert (manifest.sources, manifest.image_count, manifest.device) == (("cats",), 9, "cpu")
    assert manifest.created == created
    assert [(note.device, note.command) for note in manifest.resumed] == [("cuda:0", ("whycam", "again"))]


@pytest.mark.parametrize("finished", [True, False])
def test_rows_with_an_error_are_written_again_in_a_resumed_run(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row], finished: bool
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
        writer.write([make_row(1, map=None, error="cut"), make_row(2, map=None, error="cut")])
        if finished:
            assert writer.finish().failures == 2
    with start() as writer:
        assert writer.finished == {make_row(0).key}
        assert (writer.manifest.finished, writer.manifest.failures) == (False, 0)
        writer.write([make_row(1)])
    assert [(row.index, row.error) for row in read_run(tmp_path / "run").rows()] == [(0, None), (1, None)]
    with start() as writer:
        writer.write([make_row(2, map=None, error="still cut")])
        assert writer.finish().failures == 1
    rows = list(read_run(tmp_path / "run").rows())
    assert [(row.index, row.error) for row in rows] == [(0, None), (1, None), (2, "still cut")]


def test_a_run_of_errors_alone_is_written_again(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0, map=None, error="cut")])
        writer.finish()
    with start() as writer:
        assert list(read_run(tmp_path / "run").rows()) == []
        writer.write([make_row(0)])
        writer.finish()
    assert [row.error for row in read_run(tmp_path / "run").rows()] == [None]


def test_a_resumption_that_ends_before_the_errors_are_dropped_can_be_resumed(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with start() as writer:
        writer.write([make_row(0), make_row(1, map=None, error="cut")])
        writer.finish()

    def fail(folder: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("whycam.store.writer.drop_errors", fail)
        with pytest.raises(RunError, match="Input/output error"):
            start()
    run = read_run(tmp_path / "run")
    assert [row.error for row in run.rows()] == [None, "cut"]
    assert not run.manifest.finished
    with start() as writer:
        writer.write([make_row(1)])
        writer.finish()
    assert [row.error for row in read_run(tmp_path / "run").rows()] == [None, None]


def test_keys_that_another_program_put_into_the_manifest_stay(
    tmp_path: Path, start: Callable[..., RunWriter]
) -> None:
    start().close()
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "for figure 3"}))
    start().finish()
    assert json.loads(path.read_text())["note"] == "for figure 3"


def test_a_run_of_a_later_minor_version_is_read_but_not_written(
    tmp_path: Path, start: Callable[..., RunWriter]
) -> None:
    start().close()
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "1.2"}))
    read_run(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"newer whycam \(schema version 1\.2\); this one writes 1\.1"
    ) as caught:
        start()
    one_line(caught)


def test_a_second_writer_is_refused_while_the_first_is_open(
    tmp_path: Path, start: Callable[..., RunWriter], make_manifest: Callable[..., Manifest]
) -> None:
    with start():
        with pytest.raises(RunError, match="is being written by"):
            start()
        with pytest.raises(RunError, match="holds a run already"):
            RunWriter.create(tmp_path / "run", make_manifest())
    start().close()


def test_a_closed_and_a_finished_writer_take_nothing_more(
    start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    closed, finished = start("a"), start("b")
    closed.close()
    finished.finish()
    finished.close()
    for writer in (closed, finished):
        for call in (
            lambda writer=writer: writer.write([make_row(0)]),
            lambda writer=writer: writer.save_picture("a.png", PNG),
            writer.finish,
        ):
            with pytest.raises(RunError, match="is closed; open it again with resume"):
                call()


# pictures


def test_a_picture_keeps_its_name_or_gets_a_safe_one_in_the_folder(
    tmp_path: Path, start: Callable[..., RunWriter]
) -> None:
    with start() as writer:
        assert writer.save_picture("overlays/cats/1.png", PNG) == "overlays/cats/1.png"
        names = [
            writer.save_picture(name, name.encode("utf-8", "surrogatepass"))
            for name in (
                "../../up.png",
                "/abs.png",
                "manifest.json",
                "rows/part-000001.parquet",
                "x" * 400 + ".png",
            )
        ]
        names += [writer.save_picture(name, name.encode()) for name in ("a:b.png", "a?b.png", ".lock", "")]
    run = (tmp_path / "run").resolve()
    assert len(set(names)) == len(names)
    assert all((run / name).resolve().is_relative_to(run) and (run / name).is_file() for name in names)
    assert (run / names[0]).read_bytes() == b"../../up.png"
    assert list((run / "rows").iterdir()) == []
    read_run(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_the_same_picture_name_writes_the_same_file_again_also_after_a_resume(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    for content in (b"one", b"two"):
        with start() as writer:
            assert writer.save_picture("overlays/a?.png", content) == writer.save_picture(
                "overlays/a?.png", content
            )
    assert [path.read_bytes() for path in (tmp_path / "run" / "overlays").iterdir()] == [b"two"]


def test_a_resumed_run_keeps_pictures_apart_that_only_case_tells(
    start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0, overlay=writer.save_picture("overlays/A.png", PNG))])
    with start() as writer:
        assert writer.save_picture("overlays/a.png", PNG).lower() != "overlays/a.png"


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_link_does_not_lead_a_picture_out_of_the_folder(
    tmp_path: Path, start: Callable[..., RunWriter]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with start() as writer:
        (tmp_path / "run" / "overlays").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RunError, match=r"leads out of the run folder; .*; remove the link"):
            writer.save_picture("overlays/below/a.png", PNG)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_picture_is_on_the_disk_before_the_row_that_names_it(
    start: Callable[..., RunWriter], make_row: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, replace = files_module.sync_folder, os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(Path(b).name), replace(a, b))[1])
    for module in ("files", "writer", "merge"):
        monkeypatch.setattr(
            sys.modules[f"whycam.store.{module}"],
            "sync_folder",
            lambda folder: (events.append(f"sync {folder.name}"), sync(folder))[1],
        )
    with start() as writer:
        writer.save_picture("overlays/first.png", PNG)
        events.clear()
        writer.save_picture("overlays/second.png", PNG)
        writer.write([make_row(0)])
    assert events == ["second.png", "sync overlays", "part-000001.parquet", "sync rows"]


# disks that fail


def test_a_folder_that_cannot_be_written_is_one_line_with_the_mend(
    tmp_path: Path, start: Callable[..., RunWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(RunError) as caught:
        start()
    text = one_line(caught)
    assert text.startswith(f"cannot write run folder {str(tmp_path / 'run')!r}: Read-only file system; ")
    assert "choose a folder that you may write with --out" in text


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path, start: Callable[..., RunWriter]) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError, match="Permission denied; choose a folder that you may write"):
            start()
    finally:
        tmp_path.chmod(0o755)


class FullDisk:
    """Opens files on a disk that is full after some more bytes."""

    def __init__(self, room: int) -> None:
        self._room = room

    def open(self, path: Path, mode: str) -> Any:
        file = builtins.open(path, mode)  # noqa: SIM115 - the caller closes it
        write = file.write

        def limited(data: Any) -> int:
            self._room -= len(memoryview(data))
            if self._room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(write(data))

        return SimpleFile(file, limited)


class SimpleFile:
    """A file whose writing is another's."""

    def __init__(self, file: Any, write: Callable[[Any], int]) -> None:
        self._file = file
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "SimpleFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.mark.parametrize("room", [0, 1000, 4000])
def test_a_full_disk_is_one_line_and_what_was_committed_stays_readable(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    run = tmp_path / "run"
    steps: list[Callable[[RunWriter], object]] = [
        lambda writer: writer.write([make_row(index) for index in range(10, 60)]),
        lambda writer: writer.save_picture("overlays/a.png", bytes(5000)),
        lambda writer: writer.finish(),
    ]
    for index, step in enumerate(steps):
        with start() as writer:
            writer.write([make_row(index)])
            with monkeypatch.context() as patch:
                patch.setattr(files_module, "open", FullDisk(room).open, raising=False)
                with pytest.raises(RunError) as caught:
                    step(writer)
            assert "No space left on device; what was committed before stays readable; free some" in one_line(
                caught
            )
            assert indices(read_run(run)) == list(range(index + 1))
            assert list((run / ".tmp").iterdir()) == []
    with start() as writer:
        writer.finish()
    assert indices(read_run(run)) == [0, 1, 2]


def test_after_a_failed_commit_the_writer_takes_no_more_and_a_resume_goes_on(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late_failure(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with start() as writer:
        with monkeypatch.context() as patch:
            # after the rename: the row is there, though nobody may count on it
            patch.setattr(sys.modules["whycam.store.writer"], "sync_folder", late_failure)
            with pytest.raises(RunError, match="Input/output error"):
                writer.write([make_row(0)])
        for call in (lambda: writer.write([make_row(0)]), writer.finish):
            with pytest.raises(RunError, match=r"a commit to .* failed before; go on with --resume"):
                call()
    with start() as writer:
        assert len(writer.finished) == 1
        writer.finish()
    assert indices(read_run(tmp_path / "run")) == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits")
def test_a_real_limit_of_the_system_is_one_line_and_leaves_the_run_readable(
    tmp_path: Path, start: Callable[..., RunWriter], make_row: Callable[..., Row]
) -> None:
    with start() as writer:
        writer.write([make_row(0)])
    code = """
    import resource, sys
    import numpy as np
    from whycam.errors import RunError
    from whycam.store import Row, RunWriter, read_run
    run = sys.argv[1]
    writer = RunWriter.resume(run, read_run(run).manifest)
    noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        writer.write([Row(index=1, id="1", path="1", map=noise)])
    except RunError as error:
        print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot commit rows into" in done.stdout
    assert "File too large; what was committed before stays readable" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert [row.index for row in read_run(tmp_path / "run").rows()] == [0]


def test_importing_the_room_loads_neither_torch_nor_pyarrow() -> None:
    code = "import sys, whycam.store; print({'torch', 'pyarrow', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
