"""Runs whose process dies: nothing lost, nothing twice, nothing half-written read.

The lives and deaths are in ``kill_driver.py``, which checks the run after each and fails when it is wrong.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from whycam.errors import RunError
from whycam.store import Row, Run, RunWriter, read_run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")
DRIVER = Path(__file__).with_name("kill_driver.py")


def drive(*arguments: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(DRIVER), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("start", ["fresh", "worn"])
def test_a_run_killed_at_any_system_call_is_readable_and_ends_with_every_row_once(
    tmp_path: Path, start: str
) -> None:
    ends = drive("steps", str(tmp_path), start, "kill")
    assert ends["died"] >= 40
    assert ends["passed"] == ends["refused"] == 0


def test_a_run_interrupted_at_a_system_call_is_readable_and_ends_with_every_row_once(
    tmp_path: Path,
) -> None:
    ends = drive("steps", str(tmp_path), "worn", "interrupt")
    assert ends["died"] >= 20
    assert ends["passed"] == ends["refused"] == 0


def test_a_disk_that_fails_at_any_system_call_is_one_line_or_was_only_cleaning_up(tmp_path: Path) -> None:
    ends = drive("steps", str(tmp_path), "worn", "error")
    assert ends["refused"] >= 25
    assert ends["died"] == 0


def test_a_run_killed_at_random_moments_again_and_again_gets_through(tmp_path: Path) -> None:
    assert drive("random", str(tmp_path), "1")["kills"] >= 3


def test_reading_never_fails_while_a_run_is_written_finished_and_extended(
    tmp_path: Path,
    start: Callable[..., RunWriter],
    make_row: Callable[..., Row],
    indices: Callable[[Run], list[int]],
) -> None:
    start().close()
    done = threading.Event()
    problems: list[str] = []
    reads = []

    def read() -> None:
        seen: set[int] = set()
        while not done.is_set():
            try:
                found = indices(read_run(tmp_path / "run"))
            except RunError as error:
                problems.append(str(error))
                return
            if len(found) != len(set(found)) or not seen <= set(found):
                problems.append(f"after {sorted(seen)}: {found}")
                return
            seen = set(found)
            reads.append(len(found))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(6):
            with start() as writer:
                for batch in range(4):
                    first = 100 * turn + 10 * batch
                    writer.write(make_row(index) for index in range(first, first + 3))
                writer.finish()
    finally:
        done.set()
        reader.join()
    assert problems == []
    assert len(set(reads)) > 3
    assert len(indices(read_run(tmp_path / "run"))) == 72
