"""A small network and data to train it on, for every library; and what a training must leave as it was."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.left_alone import assert_unchanged, state_of
from torch import Tensor, nn

from whycam import explain
from whycam.callbacks.watch import HeatmapWatch

CLASSES = 3


class SmallNetwork(nn.Module):
    """Running statistics and dropout: what a wrong mode or a draw too many would change."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        # some networks draw from other generators than torch's
        self.drawn = random.random() + np.random.random()
        logits: Tensor = self.head(self.drop(self.features(images).mean((2, 3))))
        return logits


def data(count: int = 12) -> tuple[Tensor, Tensor]:
    """Return noise with a square in the colour of the class."""
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, 3, 24, 24, generator=generator) / 2
    labels = torch.arange(count) % CLASSES
    images[torch.arange(count), labels, 4:12, 10:18] = 1
    return images, labels


def watched() -> Tensor:
    """Return two images of class 1."""
    return data()[0][1::3][:2]


def seed_all() -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)


def random_states() -> tuple[Any, ...]:
    numpy = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist()


def overlay_of(network: nn.Module, position: int, **options: Any) -> np.ndarray:
    """Draw what a callback must have drawn of the watched images, with the network's weights of now."""
    return np.asarray(explain(network, watched(), **options).overlays()[position])


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(
        torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8))
        for name in one
        if one[name].ndim
    )


def events_in(folder: Path) -> Any:
    """Read a TensorBoard folder back, with all of its pictures."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={IMAGES: 0})
    events.Reload()
    return events


def pixels(event: Any) -> np.ndarray:
    import io

    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))


class Checked(HeatmapWatch):
    """Holds the trained module, and the process, to what they were before each picture."""

    looks: int = 0
    contexts: tuple[str, ...] = ()

    def watch(self, root: nn.Module, *others: Any) -> None:
        before, states = state_of(root), random_states()
        super().watch(root, *others)
        assert_unchanged(root, before)
        assert random_states() == states
        self.looks += 1
        self.contexts += (_context(),)


def _context() -> str:
    if torch.is_inference_mode_enabled():
        return "inference_mode"
    return "grad" if torch.is_grad_enabled() else "no_grad"
