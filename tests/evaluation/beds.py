"""Small networks in float64 whose right explanation is known, and what scores their changed images."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from whycam.engine import Inputs, explaining
from whycam.evaluation.curves import Score
from whycam.evaluation.evaluate import score_of
from whycam.targets import ClassIndex


class Weighted(nn.Module):
    """Two classes: the first is a fixed weighing of the pixels, the second is 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.double())

    def forward(self, images: Tensor) -> Tensor:
        score = (images.mean(1) * self.weights).flatten(1).sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)


class Small(nn.Module):
    """A convolution, ReLU and a linear head of three classes, random and in float64."""

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(bands, 8, 3, padding=1), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


class Counted(nn.Module):
    """Counts the images that go through a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen = 0
        self.largest = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        self.largest = max(self.largest, len(images))
        return self.network(images)


def score_by(network: nn.Module, images: Tensor, label: int = 0) -> Score:
    """Score changed copies of these images by one class's logit."""

    def score(rows, make):
        with explaining(network) as live:
            return score_of(live, Inputs.of(images), [ClassIndex(label)])(rows, make)

    return score


def on_arrays(network: nn.Module, label: int = 0) -> Callable[[np.ndarray], float]:
    """Score one image [C, *size] given as an array."""

    def score(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(network(torch.from_numpy(np.array(image))[None])[0, label])

    return score


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Normal values in float64, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square(size: int = 8, top: int = 2, left: int = 3, side: int = 3) -> Tensor:
    """A mask [size, size] with a square in it."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask
