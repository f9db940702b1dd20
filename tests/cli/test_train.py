"""``whycam train`` as a user types it."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whycam.cli import run

FACTORY = f"{Path(__file__).parents[1] / 'training' / 'factory.py'}:small"

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder a class, not split."""
    root = tmp_path_factory.mktemp("colours")
    draws = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (root / name).mkdir()
        for number in range(10):
            pixels = draws.integers(0, 100, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["whycam", *words])
        return run(words)

    return call


def asked(colours: Path, out: Path) -> tuple[object, ...]:
    options = "--epochs 2 --lr 0.1 --batch-size 4 --split-seed 2 --shares 0.6,0.3,0.1 --crop-scale 0.5,1"
    return ("train", colours, "--model", FACTORY, "--out", out, *options.split())


def test_a_folder_by_class_becomes_checkpoints_and_a_table(
    typed: Callable[..., int], colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (colours / "red" / "broken.png").write_bytes(b"")
    out = tmp_path / "my weights"
    assert typed(*asked(colours, out)) == 0
    (colours / "red" / "broken.png").unlink()
    said = capsys.readouterr()
    assert "images of 2 classes" in said.out
    assert "test was not looked at" in said.out
    assert f"whycam select {shlex.quote(str(out))} --data {colours}" in said.out
    assert said.out.count("  best\n") == 1
    assert "epoch 0: loss" in said.err
    assert "warning: left out:" in said.err
    assert "broken.png: found an empty file" in said.err
    assert {"model-0.pth", "model-1.pth", "best.pth"} <= {path.name for path in out.iterdir()}


def test_ctrl_c_exits_with_130_says_how_to_go_on_and_that_goes_on(
    typed: Callable[..., int],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "weights"
    monkeypatch.setenv("INTERRUPT", "5")  # of 3 or 4 steps an epoch: in the second
    assert typed(*asked(colours, out)) == 130
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert f"finished epochs are kept in '{out}'" in error
    monkeypatch.delenv("INTERRUPT")
    again = shlex.split(error.partition("go on with: ")[2])
    assert again[0] == "whycam"
    assert typed(*again[1:], "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["reused"], len(data["epochs"])) == (1, 2)
    assert data["class_names"] == ["green", "red"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--optimizer", "lion"], "--optimizer is 'lion'; expected one of sgd, adamw"),
        (["--crop-scale", "0.5"], "--crop-scale is '0.5'; expected two shares"),
        (["--lr", "0"], "lr is 0.0; expected a number above 0"),
        (["--shares", "1,0,0"], "has no split 'val'"),
        (["--weights", "no.pth"], "weights file 'no.pth' does not exist"),
        (["--device", "warp"], "device 'warp' cannot be used"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    typed: Callable[..., int],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    assert typed(*asked(colours, tmp_path / "weights"), *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert words in errors[0]
    assert not (tmp_path / "weights").exists()
