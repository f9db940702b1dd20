"""Small data sets whose classes are colours, and trainings on them that take part of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whycam.data import read_labelled
from whycam.models.new_head import load_with_new_head
from whycam.models.source import ModelOptions
from whycam.training import Listener, TrainingRequest, TrainingSettings, TrainingSummary, train

FACTORY = f"{Path(__file__).with_name('factory.py')}:small"
CLASSES = ("blue", "green", "red")

Train = Callable[..., TrainingSummary]


def write_colours(root: Path, counts: dict[str, int]) -> None:
    """Write images of noise in which one channel is brighter, which is the class."""
    draws = np.random.default_rng(0)
    for split, count in counts.items():
        for channel, name in enumerate(reversed(CLASSES)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 100, (20, 24, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data set with 7 images a class to train, 3 for validation, and a test split of junk."""
    root = tmp_path_factory.mktemp("data") / "colours"
    write_colours(root, {"train": 7, "val": 3})
    for name in CLASSES:
        (root / "test" / name).mkdir(parents=True)
        (root / "test" / name / "junk.png").write_bytes(b"whoever opens this can't read it")
    return root


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread_a_module: None) -> None:
    """A result's last bits depend on the number of threads."""


def run_training(data: Path, folder: Path, **options: Any) -> TrainingSummary:
    """Train the factory's network for two epochs with fast settings, changed by the options."""
    request = {name: options.pop(name) for name in ("workers", "memory", "existing") if name in options}
    reference, size = options.pop("model", FACTORY), options.pop("size", None)
    listener, weights = options.pop("listener", Listener()), options.pop("weights", None)
    labelled = read_labelled(data)
    values = {"epochs": 2, "lr": 0.1, "batch_size": 5, "step": 1, "gamma": 0.5} | options
    settings = TrainingSettings(**values)
    model = load_with_new_head(
        reference, labelled.class_names, ModelOptions(size=size), seed=settings.seed, weights=weights
    )
    return train(
        TrainingRequest(model=model, data=labelled, folder=folder, settings=settings, **request), listener
    )


@pytest.fixture(name="run_training", scope="session")
def _run_training() -> Train:
    return run_training
