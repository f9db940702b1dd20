"""Writes runs in processes that die: the program behind test_kill.py.

Each life is a forked child. ``steps FOLDER START MODE`` ends one life at its n-th system call that changes
the disk, for every n: by death, by an error of the disk, or (every second n) by an interrupt. ``random FOLDER
SEED`` kills lives by a signal at random moments until one gets through. After every end the run is read, and
at last it must be whole. Prints one JSON object.
"""

import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute  # before the forks, so that a life is short
import pyarrow.parquet  # noqa: F401

from whycam.errors import RunError
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, RunWriter, read_run
from whycam.store import files as files_module

MANIFEST = Manifest(
    command=("whycam", "explain"),
    versions={},
    device="cpu",
    seed=0,
    model=ModelRecord(reference="demo", provenance="shipped", weights_sha256="ab"),
    preprocessing={},
    class_names=None,
    methods=(MethodRecord(name="gradcam"),),
    target="top class",
    layer=LayerRecord(paths=("layer4",), reason="given"),
    sources=("images",),
    image_count=0,
)
DIED, REFUSED, PASSED = 9, 8, 0


def row(index: int, overlay: str | None = None) -> Row:
    values = np.full((3, 3), index + 1, np.float32)
    names = {"id": f"{index}.png", "path": f"images/{index}.png", "method": "gradcam", "target": "top class"}
    return Row(index=index, map=values, overlay=overlay, **names)


def live(folder: Path, total: int, batch: int) -> None:
    """Do what is left of the run: in batches, from the end of the plan to its start."""
    with RunWriter.resume(folder, MANIFEST) as writer:
        left = [index for index in reversed(range(total)) if row(index).key not in writer.finished]
        for first in range(0, len(left), batch):
            rows = [row(index) for index in left[first : first + batch]]
            overlay = writer.save_picture(f"overlays/{rows[0].index}.png", picture(rows[0].index))
            writer.write([row(rows[0].index, overlay), *rows[1:]])
        writer.finish()


def picture(index: int) -> bytes:
    return b"PNG" + bytes([index % 251]) * 3000


def check(folder: Path, at_least: set[int]) -> set[int]:
    """Read the run as it is; every row once, with its map and its picture; none that was there is gone."""
    if not (folder / "manifest.json").exists():
        assert not at_least
        return set()
    run = read_run(folder)
    rows = list(run.rows())
    indices = [item.index for item in rows]
    assert len(indices) == len(set(indices)), f"twice: {indices}"
    assert at_least <= set(indices), f"lost: {at_least - set(indices)}"
    for item in rows:
        assert (run.map_of(item) == item.index + 1).all()
        if item.overlay is not None:
            assert (folder / item.overlay).read_bytes() == picture(item.index)
    if run.manifest.finished:
        assert indices == sorted(indices)
    return set(indices)


def check_finished(folder: Path, total: int) -> None:
    assert check(folder, set()) == set(range(total))
    assert read_run(folder).manifest.finished
    assert sorted(os.listdir(folder)) == ["explanations.parquet", "manifest.json", "overlays"]


def in_child(life: Callable[[], None]) -> int:
    """Run a life in a process of its own; its process id."""
    child = os.fork()
    if child:
        return child
    code = DIED + 1
    try:
        life()
        code = PASSED
    except RunError as error:
        code = REFUSED if len(str(error).splitlines()) == 1 else code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    status = os.waitpid(child, 0)[1]
    return DIED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


# death at the n-th system call


class Fuse:
    """Counts the calls that change the disk and does something at the n-th."""

    CALLS = ("mkdir", "rmdir", "unlink", "replace", "fsync", "ftruncate", "write", "open")

    def __init__(self, n: int, mode: str) -> None:
        self.count = 0
        self._n = n
        self._mode = mode

    def install(self) -> None:
        for name in self.CALLS:
            setattr(os, name, self._guarded(getattr(os, name)))
        vars(files_module)["open"] = self._open

    def burnt(self) -> bool:
        self.count += 1
        return self.count == self._n

    def go(self) -> None:
        if self._mode == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._mode == "interrupt":
            raise KeyboardInterrupt
        os._exit(DIED)

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            if self.burnt():
                self.go()
            return call(*args, **options)

        return guarded

    def _open(self, path: Path, mode: str) -> Any:
        if self.burnt():
            self.go()
        raw = WatchedFile(path, mode)
        raw.fuse = self
        return io.BufferedWriter(raw)


class WatchedFile(io.FileIO):
    """A raw file, each write of which is a step; one that fails has written half."""

    fuse: Fuse

    def write(self, data: Any) -> int:
        if self.fuse.burnt():
            super().write(memoryview(data)[: len(memoryview(data)) // 2])
            self.fuse.go()
        return super().write(data)


def fresh(folder: Path) -> None:
    """Nothing is there yet."""


def worn(folder: Path) -> None:
    """A run that was finished, extended, and killed while its last commit was written."""
    live(folder, 2, batch=2)
    with RunWriter.resume(folder, MANIFEST) as writer:
        writer.write([row(3)])
    for number in range(3):
        (folder / ".tmp" / f"{number:06d}.tmp").write_bytes(b"PAR1")


def end_at_every_step(folder: Path, before: Callable[[Path], None], mode: str) -> dict[str, int]:
    os.fsync = lambda descriptor: None  # what a dead process has written is there without
    ends = {DIED: 0, REFUSED: 0, PASSED: 0}
    start = folder.with_name("start")
    shutil.rmtree(start, ignore_errors=True)
    before(start)
    stride = 2 if mode == "interrupt" else 1
    for n in range(1, count_steps(folder, start) + 1, stride):
        there, code = one_life(folder, start, n, mode)
        ends[code] += 1
        # one row more, so that a life that had finished is extended
        live(folder, 5, batch=2)
        assert there <= set(range(4))
        check_finished(folder, 5)
    return {"died": ends[DIED], "refused": ends[REFUSED], "passed": ends[PASSED]}


def one_life(folder: Path, start: Path, n: int, mode: str) -> tuple[set[int], int]:
    renew(folder, start)
    at_least = check(folder, set())

    def life() -> None:
        Fuse(n, mode).install()
        try:
            live(folder, 4, batch=2)
        except KeyboardInterrupt:
            os._exit(DIED)

    code = exit_code(in_child(life))
    return check(folder, at_least), code


def count_steps(folder: Path, start: Path) -> int:
    renew(folder, start)
    answer = folder.with_name("steps")

    def life() -> None:
        fuse = Fuse(0, "kill")
        fuse.install()
        live(folder, 4, batch=2)
        answer.write_text(str(fuse.count))

    assert exit_code(in_child(life)) == PASSED
    return int(answer.read_text())


def renew(folder: Path, start: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if start.exists():
        shutil.copytree(start, folder)


# death at random moments


def die_at_random(folder: Path, seed: int, total: int = 48, batch: int = 3) -> dict[str, int]:
    draw = random.Random(seed)
    there: set[int] = set()
    for kills in range(500):
        child = in_child(lambda: live(folder, total, batch))
        # longer with time: a slow machine gets through too
        deadline = time.monotonic() + draw.uniform(0, 0.01 + 0.006 * kills)
        while time.monotonic() < deadline and kills % 3 == 0:
            there = check(folder, there)  # while it is being written
        time.sleep(max(0.0, deadline - time.monotonic()))
        os.kill(child, signal.SIGKILL)
        code = exit_code(child)
        there = check(folder, there)
        if code == PASSED:
            break
        assert code == DIED
    assert exit_code(in_child(lambda: live(folder, total, batch))) == PASSED
    check_finished(folder, total)
    return {"kills": kills}


if __name__ == "__main__":
    place = Path(sys.argv[2]) / "run"
    if sys.argv[1] == "random":
        print(json.dumps(die_at_random(place, int(sys.argv[3]))))
    else:
        start_of = {"fresh": fresh, "worn": worn}[sys.argv[3]]
        print(json.dumps(end_at_every_step(place, start_of, sys.argv[4])))
