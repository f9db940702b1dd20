"""Real processes for the command line, without waiting for PyTorch in each of them.

One process imports everything that is heavy, and forks for every call: each runs ``whycam.cli.main`` with its
own arguments, files and exit code. What must not be imported is tested with new ones.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SERVER = """
import contextlib, gc, io, json, os, signal, sys, warnings
import torch, torchvision, timm, pyarrow.parquet, matplotlib, PIL.Image, rich.progress
import whycam.runs, whycam.cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    whycam.cli.run(["layers", "--all", "timm:"])  # what the parser imports at its first call
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks beside threads
gc.freeze()  # a child that collects would copy every page of its parent
print("ready", flush=True)
for line in sys.stdin:
    call = json.loads(line)
    if "wait" in call:
        print(os.waitstatus_to_exitcode(os.waitpid(call["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        os.chdir(call["folder"])
        for number, name in ((0, os.devnull), (1, call["stdout"]), (2, call["stderr"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(name, flags), number)
        os.environ.update(call["environment"])
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["whycam", *call["arguments"]]
        torch.set_num_threads(2)
        try:
            whycam.cli.main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    print(child, flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Done:
    """What a call of the command line left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout; nothing else may be there."""
        return json.loads(self.out)

    @property
    def error_line(self) -> str:
        """The one line that begins with ``error:``."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("error:"))
        return line


@dataclass(frozen=True)
class Started:
    """A call that may still be running, as a process of its own."""

    process: int
    out: Path
    err: Path


class Whycam:
    """Runs ``whycam ARGUMENTS...``: call it for what the command left, or ``start`` it and ``wait``."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._calls = 0
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def __call__(self, *arguments: object, **options: Any) -> Done:
        return self.wait(self.start(*arguments, **options))

    def start(
        self, *arguments: object, cwd: Path | None = None, stderr: str | None = None, **environment: str
    ) -> Started:
        self._calls += 1
        out, err = (self._logs / f"{self._calls}.{kind}" for kind in ("out", "err"))
        err.touch()
        request = {
            "folder": str(cwd or self._logs),
            "stdout": str(out),
            "stderr": stderr or str(err),
            "environment": environment,
            "arguments": [str(argument) for argument in arguments],
        }
        return Started(int(self._ask(request)), out, err)

    def wait(self, started: Started) -> Done:
        code = int(self._ask({"wait": started.process}))
        return Done(code, started.out.read_text(), started.err.read_text())

    def close(self) -> None:
        self._server.communicate(timeout=30)

    def _ask(self, request: dict[str, Any]) -> str:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


@pytest.fixture(scope="session")
def whycam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whycam]:
    """Give the command line."""
    command = Whycam(tmp_path_factory.mktemp("logs"))
    yield command
    command.close()


@pytest.fixture(scope="session")
def photograph() -> Path:
    """Give a real photograph, a cat of 451 x 300 pixels."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of ten pictures: four are broken in four ways, two are of unusual modes."""
    folder = tmp_path_factory.mktemp("mixed")
    draws = np.random.default_rng(3)
    pixels = draws.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(np.roll(pixels, 10 * number, 1)).save(folder / f"good{number}.png")
    Image.fromarray(draws.integers(0, 65536, (70, 90), dtype=np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    whole = (folder / "good0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("this is no picture\n")
    (folder / "html.jpg").write_text("<html>404</html>")
    return folder


FACTORY = '''
"""A small network for tests; HOLD is the forward that waits to be interrupted."""

import os
import time

from torch import nn


class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(8, num_classes)
        self.forwards = 0

    def forward(self, images):
        self.forwards += 1
        if self.forwards == int(os.environ.get("HOLD", "0")):
            time.sleep(120)
        return self.head(self.features(images).mean((2, 3)))


def small(num_classes=4):
    print("a factory that talks on stdout")
    return Network(num_classes)


def broken():
    raise KeyError("no such layer")
'''


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Give the arguments that name a small network of the user's own, with its preprocessing."""
    file = tmp_path_factory.mktemp("factory") / "network.py"
    file.write_text(FACTORY)
    return f"{file}:small", "--size", "32,32", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"
