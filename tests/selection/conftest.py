"""A small data set in folders, and checkpoints as ``whycam train`` leaves them."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from whycam.models import Preprocessing
from whycam.models.sidecar import sidecar_path, sidecar_text
from whycam.selection import SelectRequest

CLASSES = ("dog", "owl", "猫")
PREPROCESSING = Preprocessing.for_size((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
MODEL = "timm:test_resnet"


def state(seed: int, classes: int = 3) -> dict[str, Tensor]:
    """Draw weights of the small network; they differ enough to disagree on images."""
    return {name: values.clone() for name, values in _drawn(seed, classes).items()}


@cache
def _drawn(seed: int, classes: int) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model("test_resnet", num_classes=classes)
        drawn: dict[str, Tensor] = network.state_dict()
        drawn["fc.weight"] = torch.randn(drawn["fc.weight"].shape)
    return drawn


def save(file: Path, weights: Mapping[str, Tensor], **changed: Any) -> Path:
    """Write a checkpoint with its own file beside it."""
    torch.save(dict(weights), file)
    said: dict[str, Any] = {
        "model": MODEL,
        "preprocessing": PREPROCESSING,
        "class_names": CLASSES,
        "training": {"epoch": 1},
    }
    sidecar_path(file).write_bytes(sidecar_text(**{**said, **changed}))
    return file


def fill(folder: Path, count: int, seed: int) -> None:
    """Write pictures of noise in a tone of the seed's."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    for number in range(count):
        pixels = draws.integers(0, 160, (40, 50, 3), dtype=np.uint8)
        pixels[..., seed % 3] += 90
        Image.fromarray(pixels).save(folder / f"img{number}.png")


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """Let the small networks run on one thread."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data set of three classes: 24 images to choose on, 3 to train on, 3 for test."""
    folder = tmp_path_factory.mktemp("selection") / "data"
    for split, count in (("train", 1), ("val", 8), ("test", 1)):
        for seed, name in enumerate(CLASSES):
            fill(folder / split / name, count, seed)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Give a folder of three checkpoints with their own files."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for number in (1, 2, 10):
        save(folder / f"model-{number}.pth", state(number))
    return folder


@pytest.fixture
def ask(data: Path, weights: Path, tmp_path: Path) -> Callable[..., SelectRequest]:
    """Give what makes a request on that data and those checkpoints."""

    def make(**changed: Any) -> SelectRequest:
        usual: dict[str, Any] = {
            "weights": weights,
            "data": data,
            "folder": tmp_path / "out",
            "split": "val",
            "batch_size": 16,
        }
        return SelectRequest(**{**usual, **changed})

    return make
