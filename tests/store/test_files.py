"""Whole files or none, and file errors in one line."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from whycam.errors import RunError
from whycam.store.files import make_folders, remove_files, run_errors, sync_folder, write_atomically


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / ".tmp"
    folder.mkdir()
    return folder


def test_a_file_whose_writing_fails_in_the_middle_stays_as_it_was(tmp_path: Path, scratch: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")

    def half(file: BinaryIO) -> None:
        file.write(b"aft")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, scratch, half)
    assert target.read_bytes() == b"before"
    assert not list(scratch.iterdir())


def test_a_file_is_as_readable_for_others_as_any_new_file(tmp_path: Path, scratch: Path) -> None:
    write_atomically(tmp_path / "ours", scratch, lambda file: file.write(b"x"))
    (tmp_path / "theirs").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_content_is_synced_before_its_name_and_the_name_can_be_after(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_sync(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        assert Path(source).read_bytes() == b"content"
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_atomically(tmp_path / "file", scratch, lambda file: file.write(b"content"))
    sync_folder(tmp_path)
    assert [event for event in events if event != "folder"] == ["file", "replace"]
    if os.path.isdir("/proc/self/fd"):
        assert events == ["file", "replace", "folder"]


def test_folders_are_made_with_those_above_them_and_may_exist(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b" / "c")
    make_folders(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_removing_a_folder_leaves_what_is_not_a_file_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_bytes(b"")
    remove_files(folder)
    assert [path.name for path in folder.iterdir()] == ["inner"]
    remove_files(tmp_path / "missing")


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.ENOSPC, "free some space, then go on with --resume"),
        (errno.EFBIG, "free some space, then go on with --resume"),
        (errno.EROFS, "choose a folder that you may write with --out"),
        (errno.EACCES, "choose a folder that you may write with --out"),
        (errno.EIO, "mend the folder or its disk, then go on with --resume"),
    ],
)
def test_a_file_error_is_one_line_with_reason_and_mend(code: int, mend: str) -> None:
    with pytest.raises(RunError) as caught, run_errors("write 'a\nb'"):
        raise OSError(code, os.strerror(code), "file")
    text = str(caught.value)
    assert text.startswith(f"cannot write 'a b': {os.strerror(code)}; ")
    assert text.endswith(mend) or mend in text
    assert len(text.splitlines()) == 1


def test_a_disk_that_fails_on_a_folder_is_an_error_and_one_that_cannot_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(code: int) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    failing(errno.EINVAL)
    sync_folder(tmp_path)
    failing(errno.EIO)
    if os.name != "nt":
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            sync_folder(tmp_path)
