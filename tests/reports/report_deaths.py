"""Writes reports in processes that are killed: the program behind test_report.py.

``report_deaths.py RUN FOLDER PART...``: each life is a forked child that is sent SIGKILL at its n-th call
that changes the disk, for every n, and after each death a whole life follows. Its files must be those of a
report that was never killed. Prints one JSON object: how many lives died, and how many files the lives after
them kept.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  # before the forks, so that a life is short

from whycam.reports import ReportOptions, ReportSummary, write_report
from whycam.store import read_run

CALLS = ("mkdir", "unlink", "replace", "fsync")


def live(run: Path, folder: Path, parts: Any) -> ReportSummary:
    return write_report([read_run(run)], folder, ReportOptions(parts=parts, width=3.5))


def kill_at(n: int) -> None:
    """Send this process SIGKILL at its n-th call that changes the disk."""
    calls = 0

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return counted

    for name in CALLS:
        setattr(os, name, guarded(getattr(os, name)))


def died(life: Callable[[], object]) -> bool:
    """Run a life in a process of its own; whether it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            life()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def one_death(run: Path, place: Path, parts: Any, n: int) -> tuple[bool, set[str]]:
    """Die at the n-th call and go on; whether it died, and which files the second life kept."""

    def life() -> None:
        kill_at(n)
        live(run, place, parts)

    shutil.rmtree(place, ignore_errors=True)
    killed = died(life)
    left = content(place)
    kept = {path.name for path in live(run, place, parts).kept}
    after = content(place)
    torn = [name for name in left.keys() & after.keys() - {"report.json"} if left[name] != after[name]]
    assert not torn, f"{torn} not whole after death {n}"
    return killed, kept


def main(run: Path, folder: Path, parts: Any) -> dict[str, int]:
    os.fsync = lambda descriptor: None  # what a dead process has written is there without
    live(run, folder / "whole", parts)
    place, kept, deaths, n = folder / "killed", 0, 0, 1
    while True:
        killed, found = one_death(run, place, parts, n)
        assert content(place) == content(folder / "whole"), f"other files after death {n}"
        assert len(os.listdir(place)) == len(content(place)), f"a folder is left after death {n}"
        if not killed:
            return {"died": deaths, "kept": kept}
        deaths, kept, n = deaths + 1, kept + len(found), n + 1


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
