"""A small model of its own making, and folders of small pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whycam.models import LoadedModel, Preprocessing, Provenance

CLASSES = ("ant", "bee", "cat", "dog")


class Network(nn.Module):
    """A small classifier that keeps what it was called with, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(16, len(CLASSES))
        self.batches: list[int] = []
        self.fail: Callable[[torch.Tensor], None] = lambda images: None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        self.fail(images)
        logits: torch.Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


@pytest.fixture
def network(seed: int) -> Network:
    return Network().eval()


@pytest.fixture
def model(network: Network) -> LoadedModel:
    half = (0.5, 0.5, 0.5)
    return LoadedModel(
        module=network,
        preprocessing=Preprocessing.for_size((32, 32), half, half),
        class_names=CLASSES,
        reference="tests:network",
        provenance=Provenance("random"),
        device=torch.device("cpu"),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give a folder of twelve pictures, the first of which is white."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draws = np.random.default_rng(5)
    for number in range(12):
        pixels = draws.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    Image.new("RGB", (48, 40), "white").save(folder / "00.png")
    return folder
