"""Weights, networks and class names that were made to harm. The readers by themselves: tests/models."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.hostile.conftest import Whycam

Network = Callable[[str], tuple[str, ...]]


class _Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("packed", [True, False])
def test_weights_that_would_run_code_are_refused_unrun(
    packed: bool, whycam: Whycam, network: Network, pictures: Path, tmp_path: Path
) -> None:
    marker, weights = tmp_path / "was-run", tmp_path / "evil.pth"
    content = {"state_dict": {"head.bias": _Runs(f"touch {marker}")}}
    if packed:
        torch.save(content, weights)
    else:
        weights.write_bytes(pickle.dumps(content))
    done = whycam("explain", *network("good"), pictures, "--weights", weights)
    assert done.code == 2
    (line,) = done.lines("error")
    assert "refused" in line
    assert not marker.exists()


def test_a_checkpoint_that_unpacks_to_gigabytes_is_refused(
    whycam: Whycam, network: Network, pictures: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "bomb.pth"
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(300_000_000))
    done = whycam("explain", *network("good"), pictures, "--weights", weights)
    assert done.code == 2
    assert len(done.lines("error")) == 1


def test_weights_with_nan_are_refused(
    whycam: Whycam, network: Network, pictures: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "nan.pth"
    torch.save(
        {
            "features.0.weight": torch.zeros(8, 3, 3, 3),
            "features.0.bias": torch.zeros(8),
            "head.weight": torch.full((4, 8), torch.nan),
            "head.bias": torch.zeros(4),
        },
        weights,
    )
    done = whycam("explain", *network("good"), pictures, "--weights", weights)
    assert done.code == 2
    (line,) = done.lines("error")
    assert "no finite numbers" in line


@pytest.mark.parametrize(("name", "text"), [("nan_on_white", "NaN"), ("raising", "ValueError: too white")])
def test_an_image_on_which_the_network_fails_is_an_error_and_not_drawn(
    name: str,
    text: str,
    whycam: Whycam,
    network: Network,
    rows: Callable[..., dict[str, Any]],
    pictures: Path,
) -> None:
    Image.new("RGB", (40, 40), "white").save(pictures / "white.png")
    done = whycam("explain", *network(name), pictures)
    assert done.code == 1
    assert rows()["good.png"].error is None
    assert text in rows()["white.png"].error
    assert rows()["white.png"].overlay is None
    assert len(done.lines("failed")) == 1
    assert done.lines("warning") == []


def test_a_network_that_answers_nan_to_everything_draws_nothing(
    whycam: Whycam, network: Network, rows: Callable[..., dict[str, Any]], pictures: Path, tmp_path: Path
) -> None:
    done = whycam("explain", *network("nan"), pictures)
    assert done.code == 1
    (line,) = done.lines("failed")
    assert "NaN" in line
    assert "; check the weights" in line
    assert rows()["good.png"].overlay is None
    assert list(tmp_path.glob("run/**/*.png")) == []


def test_class_names_cannot_act_on_a_terminal_or_turn_a_line_around(
    whycam: Whycam, network: Network, rows: Callable[..., dict[str, Any]], pictures: Path, tmp_path: Path
) -> None:
    evil = ["<script>alert(1)</script>", "\x1b[31mred\x07", "two\nlines", "evil\u202etxt.exe\u200f"]
    names = tmp_path / "names.json"
    names.write_text(json.dumps(evil))
    done = whycam("explain", *network("good"), pictures, "--classes", names, "--target", "prob:3")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    assert len(manifest["class_names"]) == 4
    for name in [*manifest["class_names"], rows()["good.png"].prediction_name]:
        assert name.isprintable()
    assert manifest["class_names"][0] == evil[0]  # a name is text; escaping is the page's, when it is shown
