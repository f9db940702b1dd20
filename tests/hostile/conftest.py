"""The public command line in this process, a good picture, and a small network that can misbehave."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whycam import cli
from whycam.store import read_run


@dataclass(frozen=True)
class Done:
    """What a call of the command line left."""

    code: int
    out: str
    err: str

    def lines(self, kind: str) -> list[str]:
        """The lines on stderr that begin with ``kind:``."""
        return [line for line in self.err.splitlines() if line.startswith(f"{kind}:")]


Whycam = Callable[..., Done]


@pytest.fixture
def whycam(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> Whycam:
    """Run ``whycam ARGUMENTS...`` in tmp_path; no line that is printed may act on the terminal."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        done = Done(code, *capfd.readouterr())
        assert "Traceback" not in done.err
        assert not set("\x1b\u202e\u2028\x00") & set(done.out + done.err)
        return done

    return call


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Give the rows of the run folder by their id."""
    return lambda folder="run": {row.id: row for row in read_run(tmp_path / folder).rows()}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give a folder with a good picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(2).integers(0, 200, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "good.png")
    return folder


FACTORY = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, spoil=lambda images, logits: logits):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 4)
        self.spoil = spoil

    def forward(self, images):
        return self.spoil(images, self.head(self.features(images).mean((2, 3))))


def white(images):
    return images.mean((1, 2, 3)) > 0.9


def raise_on_white(images, logits):
    if white(images).any():
        raise ValueError("too\\nwhite \\x1b[31m\\u202e")
    return logits


def good():
    return Network()


def nan():
    return Network(lambda images, logits: logits * float("nan"))


def nan_on_white():
    return Network(lambda images, logits: torch.where(white(images)[:, None], float("nan"), logits))


def raising():
    return Network(raise_on_white)
"""


@pytest.fixture
def network(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Give the arguments that name one of the networks above."""
    file = tmp_path / "network.py"
    file.write_text(FACTORY)
    given = ("--size", "32,32", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--device", "cpu")
    return lambda name: (f"{file}:{name}", *given)
