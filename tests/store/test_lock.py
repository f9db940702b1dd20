"""One writer a run folder, and no lock that outlives its process."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from whycam.errors import RunError
from whycam.store import lock as lock_module
from whycam.store.lock import FolderLock

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")

HOLD = """
    import sys, time
    from pathlib import Path
    from whycam.store.lock import FolderLock
    lock = FolderLock.acquire(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(60)
"""
FORK_AND_HOLD = """
    import os, sys, time
    from pathlib import Path
    from whycam.store.lock import FolderLock
    lock = FolderLock.acquire(Path(sys.argv[1]))
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@contextmanager
def running(code: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs the code, and the first line that it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_second_process_is_refused_in_one_line_that_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with running(HOLD, path) as (process, _):
        with pytest.raises(RunError) as caught:
            FolderLock.acquire(path)
        text = str(caught.value)
        assert f"{str(tmp_path)!r} is being written by process {process.pid}" in text
        assert "wait for its end, or choose another --out" in text
        assert len(text.splitlines()) == 1


def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with running(HOLD, path) as (process, _):
        process.kill()
        process.wait()
        assert path.exists()
        FolderLock.acquire(path).release()


@POSIX
def test_a_forked_worker_that_outlives_its_killed_writer_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with running(FORK_AND_HOLD, path) as (process, child):
        try:
            process.kill()
            process.wait()
            os.kill(int(child), 0)  # it lives
            FolderLock.acquire(path).release()
        finally:
            os.kill(int(child), signal.SIGKILL)


@POSIX
def test_a_forked_child_cannot_give_its_parents_lock_away(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = """
    import os, sys, time
    from pathlib import Path
    from whycam.store.lock import FolderLock
    lock = FolderLock.acquire(Path(sys.argv[1]))
    child = os.fork()
    if not child:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    print("held", flush=True)
    time.sleep(60)
    """
    with running(code, path), pytest.raises(RunError, match="is being written by process"):
        FolderLock.acquire(path)


def test_the_same_process_is_refused_too_and_its_lock_survives_that(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    lock = FolderLock.acquire(path)
    with pytest.raises(RunError, match="is being written by this process"):
        FolderLock.acquire(tmp_path / "." / ".lock")
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(path)]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()}" in other.stderr
    lock.release()


def test_a_released_lock_leaves_no_file_and_can_be_had_again(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(3):
        lock = FolderLock.acquire(path)
        lock.release()
        lock.release()
        assert not path.exists()


@POSIX
def test_a_lock_got_on_a_file_that_its_holder_removed_meanwhile_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    request = lock_module._request
    requests = []

    def late(descriptor: int) -> None:
        requests.append(descriptor)
        if len(requests) == 1:
            path.unlink()  # between this process's open and its lock
        request(descriptor)

    monkeypatch.setattr(lock_module, "_request", late)
    lock = FolderLock.acquire(path)
    assert len(requests) == 2
    assert path.read_text() == str(os.getpid())
    lock.release()


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_module, "_request", unsupported)
    with pytest.warns(UserWarning, match="make sure that only one process writes the run"):
        lock = FolderLock.acquire(tmp_path / ".lock")
    lock.release()


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"cannot lock run folder .*{tmp_path.name}.*: No such file") as caught:
        FolderLock.acquire(tmp_path / "missing" / ".lock")
    assert len(str(caught.value).splitlines()) == 1
