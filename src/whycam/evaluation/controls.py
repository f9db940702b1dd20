"""The controls of every evaluation: maps that know nothing of the model, which a method must beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from whycam.evaluation.fills import blurred
from whycam.methods.controls import centre, edges, uniform
from whycam.types import Images, Map


@dataclass(frozen=True)
class Drawing:
    """What a control may use: the methods' grid, a seed, and each image's number in the whole run."""

    grid: tuple[int, ...]
    numbers: Sequence[int]
    seed: int = 0


Control: TypeAlias = Callable[[Images, Drawing], Map]

BLURRED_RANDOM = "blurred random"


def random(images: Images, drawing: Drawing) -> Map:
    """Draw each cell of the methods' grid uniformly, by the image's number: no batch changes its map."""
    return _noise(images, drawing.grid, drawing, stream=0)


def blurred_random(images: Images, drawing: Drawing) -> Map:
    """Draw each pixel, and blur: blobs in random places, as smooth as many methods' maps."""
    return blurred(_noise(images, images.shape[2:], drawing, stream=1).unsqueeze(1)).squeeze(1)


def _noise(images: Images, size: Sequence[int], drawing: Drawing, stream: int) -> Map:
    """Draw by number and not by pixels: the same noise where a metric changes an image."""
    numbers = torch.tensor(list(drawing.numbers), device=images.device)
    return uniform(2 * numbers + stream, size, seed=drawing.seed).to(images)


CONTROLS: Mapping[str, Control] = {
    "random": random,
    BLURRED_RANDOM: blurred_random,
    "centre": lambda images, drawing: centre(images),
    "edges": lambda images, drawing: edges(images),
}


def control_maps(images: Images, drawing: Drawing) -> dict[str, Map]:
    """Return every control's maps of these images."""
    return {name: control(images, drawing) for name, control in CONTROLS.items()}
