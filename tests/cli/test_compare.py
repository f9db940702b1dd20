"""``whycam compare``: a table people can read, one name with its reason, and one line for what is wrong."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import whycam as package
from whycam.demo import demo_images, demo_masks

QUICK = ("--methods", "gradcam,eigencam,rollout", "--steps", 4)
COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with images and their masks."""
    place = tmp_path_factory.mktemp("compare")
    for kind, paths in (("images", demo_images()), ("masks", demo_masks())):
        (place / kind).mkdir()
        for path in paths[:COUNT]:
            shutil.copy(path, place / kind)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


def test_a_table_shows_methods_and_controls_and_a_sentence_names_one_with_its_reason(
    whycam: Any, place: Path
) -> None:
    done = whycam("compare", "demo", "images", "--masks", "masks", *QUICK, "--out", "run", cwd=place)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{COUNT} images, layer features, target top class, seed 0")
    assert lines[2].split() == ["method", "SRG", "energy", "contrast", "randomisation", "cost", "x"]
    rows = [line.split("  ")[0] for line in lines[3:9]]
    assert rows == ["gradcam", "eigencam", "random", "blurred random", "centre", "edges"]
    assert lines[3].endswith("recommended")
    assert "is blind to the class" in lines[4]
    assert all(line.endswith("control") for line in lines[5:9])
    assert any(line.startswith("left out: rollout: the model has no softmax attention") for line in lines)
    assert any(
        line.startswith("gradcam is recommended (F + s-backward, about 1.05 forwards)") for line in lines
    )


def test_without_images_the_demo_brings_its_own_with_their_masks(whycam: Any, tmp_path: Path) -> None:
    found = whycam("compare", "demo", "--methods", "gradcam", "--steps", 4, "--json", cwd=tmp_path).json
    assert (found["images"], found["recommended"]) == (len(demo_images()), "gradcam")
    assert "energy" in found["methods"][0]["figures"]
    assert json.loads((tmp_path / "comparison" / "comparison.json").read_text()) == {
        key: value for key, value in found.items() if key != "comparison"
    }


def test_a_broken_image_is_said_once_and_the_others_are_compared(whycam: Any, place: Path) -> None:
    (place / "images" / "broken.png").write_bytes(demo_images()[0].read_bytes()[:1000])
    done = whycam("compare", "demo", "images", *QUICK, "--json", cwd=place)
    assert done.code == 1
    assert done.err.count("broken.png") == 1
    assert (done.json["images"], done.json["failed"]) == (COUNT, 1)


def test_what_was_compared_is_evaluated_and_reported_from_its_folder_with_its_own_weights(
    whycam: Any, place: Path
) -> None:
    torch.manual_seed(0)
    torch.save(package.load("timm:resnet10t", num_classes=4).module.state_dict(), place / "w.pth")
    model = ("timm:resnet10t", "images", "--weights", "w.pth", "--size", "32,32", "--target", "1-2")
    done = whycam("compare", *model, "--methods", "gradcam", "--steps", 2, "--out", "run", cwd=place)
    assert done.code == 0, done.err
    again = whycam("evaluate", "run", "--metric", "sparsity", "--restart", cwd=place)
    assert again.code == 0, again.err
    assert f"{COUNT} images measured" in again.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("timm:resnet10t",), "there is no SOURCE; give images: whycam compare timm:resnet10t IMAGES..."),
        (("demo", "nowhere.jpg"), "'nowhere.jpg': found no such file or folder"),
        (("demo", "--methods", "layerca"), "method 'layerca' is unknown; did you mean layercam"),
        (("demo", "--methods", "rollout,chefer"), "none of the 2 methods runs on this model; the first says"),
        (
            ("demo", "--masks", "nowhere"),
            "'nowhere': found no such file or folder, expected a folder of masks",
        ),
        (("demo", "images", "--category", "cat"), "--category 'cat' chooses among true masks; give them"),
        (("demo", "--layer", "nothing"), "layer 'nothing' does not exist"),
        (("demo", "--target", "77"), "class 77 does not exist"),
        (("demo", "--steps", "1"), "--steps"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    whycam: Any, place: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = whycam("compare", *arguments, "--out", "run", cwd=place)
    assert done.code == 2
    assert said in done.error_line
    assert not (place / "run").exists()


def test_after_ctrl_c_the_same_command_goes_on(whycam: Any, place: Path) -> None:
    log = place / "run" / ".measurements.jsonl"
    command = ("compare", "demo", "images", "--methods", "gradcam", "--steps", 12, "--out", "run")
    started = whycam.start(*command, "--batch-size", 1, cwd=place)
    end = time.monotonic() + 120
    while not (log.exists() and len(log.read_bytes().splitlines()) > 1):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(started.process, signal.SIGINT)
    done = whycam.wait(started)
    assert done.code == 130, done.out + done.err
    assert "--resume" in done.err
    again = whycam(*command, "--batch-size", 1, "--resume", "--json", cwd=place)
    assert again.code == 0, again.err
    assert again.json["images"] == COUNT
