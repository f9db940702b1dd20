"""Trainings in forked lives that are killed, each gone on with by the next; checks what every life leaves.

``kill_driver.py DATA FOLDER``: prints as JSON in how many ways a training died. It fails when a finished
epoch is lost, or when a resumed training ends otherwise than an unbroken one.
"""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import torch

import whycam.training.curves
import whycam.training.loop  # noqa: F401  what every life would import
from conftest import run_training
from whycam.training.folder import TrainingFolder

EPOCHS = 3
MOMENTS = 4


def life(data: Path, folder: Path, die_at: int, existing: str, counts: Path | None = None) -> int:
    """Fork a training that kills itself before its ``die_at``-th rename or sync; return its process."""
    child = os.fork()
    if child:
        return child
    calls = 0

    def mortal(work):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments)

        return call

    os.replace, os.fsync = mortal(os.replace), mortal(os.fsync)
    try:
        run_training(data, folder, epochs=EPOCHS, existing=existing)
        if counts:
            counts.write_text(str(calls))
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_finished(folder: Path, unbroken: Path) -> int:
    """Return how many epochs the state speaks of, which are all there and right."""
    place = TrainingFolder(folder)
    if not place.state.exists():
        return 0
    history = place.read_state().history
    for record in history:
        same = [f"model-{record.epoch}{ending}" for ending in (".pth", ".yaml")]
        assert all((folder / name).read_bytes() == (unbroken / name).read_bytes() for name in same)
    return len(history)


def check_same(folder: Path, unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert {path.name for path in folder.iterdir()} == names
    for name in names - {"history.csv", "training.state", "curves.png"}:
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    ours, theirs = (
        [line.rpartition(",")[0] for line in (place / "history.csv").read_text().splitlines()]
        for place in (folder, unbroken)
    )
    assert ours == theirs


def main(data: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks beside threads
    unbroken, counts = folder / "unbroken", folder / "counts"
    assert ended(life(data, unbroken, 0, "refuse", counts)) == 0
    calls = int(counts.read_text())
    finished = []
    for number in range(MOMENTS):
        out = folder / str(number)
        moment = 3 + number * (calls - 3) // MOMENTS
        assert ended(life(data, out, moment, "refuse")) == -signal.SIGKILL
        finished.append(check_finished(out, unbroken))
        assert ended(life(data, out, 0, "resume")) == 0
        check_same(out, unbroken)
    finished.append(from_outside(data, folder / "outside", unbroken))
    print(json.dumps({"finished": finished}))


def from_outside(data: Path, out: Path, unbroken: Path) -> int:
    """Kill a training at whatever it does when its first epoch is there."""
    child = life(data, out, 0, "refuse")
    while not (out / "best.pth").exists():
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    ended(child)
    finished = check_finished(out, unbroken)
    assert ended(life(data, out, 0, "resume")) == 0
    check_same(out, unbroken)
    return finished


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
