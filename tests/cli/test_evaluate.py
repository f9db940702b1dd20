"""``whycam evaluate``: a table people can read, figures programs can, and one line for what is wrong."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from whycam.demo import demo_images, demo_masks

QUICK = ("--metric", "srg", "--metric", "energy", "--steps", 2)


@pytest.fixture(scope="module")
def made(whycam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four images, their masks and a run."""
    place = tmp_path_factory.mktemp("evaluate")
    for kind, paths in (("images", demo_images()), ("masks", demo_masks())):
        (place / kind).mkdir()
        for path in paths[:4]:
            shutil.copy(path, place / kind)
    done = whycam("explain", "demo", "images", "-m", "gradcam", "--target", "top", "--out", "run", cwd=place)
    assert done.code == 0, done.err
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


def test_the_table_has_methods_and_controls_and_a_sentence_says_what_may_be_concluded(
    whycam: Any, place: Path
) -> None:
    done = whycam("evaluate", "run", "--masks", "masks", *QUICK, cwd=place)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:2] == ["method", "srg_blur_logit"]
    assert lines[0].split()[-5:] == ["energy", "n", "ties", "blank", "broken"]
    first = [line.split("  ")[0] for line in lines[1:6]]
    assert first == ["gradcam", "(random)", "(blurred random)", "(centre)", "(edges)"]
    assert " to " in lines[1]
    assert any("energy: gradcam beats all controls" in line for line in lines)
    assert "4 images measured; in brackets: controls, which ask no model" in lines
    assert {"evaluation.json", "metrics.parquet"} <= {path.name for path in (place / "run").iterdir()}


def test_json_is_the_evaluation_and_a_second_call_measures_nothing(whycam: Any, place: Path) -> None:
    first = whycam("evaluate", "run", "--masks", "masks", *QUICK, "--json", cwd=place).json
    again = whycam("evaluate", "run", "--masks", "masks", *QUICK, "--json", cwd=place).json
    kept = json.loads((place / "run" / "evaluation.json").read_text())
    assert (first["reused"], again["reused"]) == (0, 4)
    assert first["columns"] == again["columns"] == kept["columns"]
    assert set(first["columns"]["energy"]["figures"]) == {
        "gradcam", "random", "blurred random", "centre", "edges",
    }  # fmt: skip


def test_an_image_that_is_gone_is_named_and_the_others_are_measured(whycam: Any, place: Path) -> None:
    gone = sorted((place / "images").iterdir())[0]
    gone.unlink()
    done = whycam("evaluate", "run", *QUICK[:2], "--steps", 2, cwd=place)
    assert done.code == 1
    assert f"skipped: {gone.name}" in done.err or f"skipped: images/{gone.name}" in done.err
    assert "3 images measured, 1 skipped" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "run folder 'nowhere' does not exist"),
        (("images",), "holds no manifest.json"),
        (("run", "--masks", "nowhere"), "nowhere"),
        (("run", "--metric", "srgg"), "metric 'srgg' is unknown; did you mean srg?"),
        (("run", "--metric", "energy"), "needs true masks; give masks"),
        (("run", "--weights", "nowhere.pth"), "demo brings its own weights"),
        (("run", "--target", "eleven"), "eleven"),
        (("run", "--steps", "1"), "--steps"),
        (("run", "--device", "abacus"), "abacus"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    whycam: Any, place: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = whycam("evaluate", *arguments, cwd=place)
    assert done.code == 2
    assert said in done.error_line
    assert not (place / "run" / "evaluation.json").exists()


def test_other_weights_than_the_run_s_are_refused(whycam: Any, place: Path) -> None:
    import torch

    import whycam as package

    torch.save(package.load("timm:resnet10t", num_classes=10).module.state_dict(), place / "w.pth")
    done = whycam("evaluate", "run", "--model", "timm:resnet10t", "--weights", "w.pth", cwd=place)
    assert done.code == 2
    assert "the run's weights are" in done.error_line


def test_after_ctrl_c_the_same_command_goes_on(whycam: Any, place: Path) -> None:
    log = place / "run" / ".measurements.jsonl"
    started = whycam.start("evaluate", "run", "--metric", "srg", "--steps", 12, "--batch-size", 1, cwd=place)
    end = time.monotonic() + 120
    while not (log.exists() and len(log.read_bytes().splitlines()) > 1):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(started.process, signal.SIGINT)
    done = whycam.wait(started)
    if done.code == 0:
        pytest.skip("all was measured before the signal came")
    assert done.code == 130
    assert "what was measured is kept in 'run'; go on with: whycam evaluate run --metric srg" in done.err
    again = whycam("evaluate", "run", "--metric", "srg", "--steps", 12, "--json", cwd=place)
    assert again.json["reused"] >= 1
