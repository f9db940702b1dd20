"""An image as the network sees it in training: a random crop, mirrored or not, settled by numbers alone."""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whycam.errors import UsageError
from whycam.models import Preprocessing

Box: TypeAlias = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels."""

_ASPECTS = (3 / 4, 4 / 3)
_TRIES = 10


ORDER, VIEW, STEP = 1, 2, 3
"""What is drawn: an epoch's order of the images, an image's view, a step of the network (dropout)."""


def drawn_for(purpose: int, *numbers: int) -> np.random.Generator:
    """Return a generator that these numbers settle, another one for each purpose."""
    return np.random.default_rng([purpose, *numbers])


@dataclass(frozen=True)
class TrainingView:
    """Crop, resize, mirror and normalise, as a value.

    What is drawn for an image depends on the seed, the epoch and the image's place in the list alone, not on
    what was drawn before: a training that goes on needs no random state. Raises UsageError for a
    preprocessing whose views differ in size.
    """

    preprocessing: Preprocessing
    crop_scale: tuple[float, float]
    flip: float
    seed: int

    def __post_init__(self) -> None:
        """Refuse views that cannot be stacked."""
        if self.preprocessing.resize == "bounded":
            raise UsageError(
                "the preprocessing keeps each image's own shape (resize='bounded'), and a batch needs one "
                "shape; give --resize shorter or squash"
            )

    def of(self, picture: Image.Image, epoch: int, index: int) -> Tensor:
        """Return the view [C, H, W] of the image with this index in this epoch."""
        draws = drawn_for(VIEW, self.seed, epoch, index)
        box = random_box(picture.size, self.crop_scale, draws)
        size = self.preprocessing.size
        whole = replace(self.preprocessing, resize="squash", resize_to=size)
        view, _ = whole.apply(picture.crop(box))
        return torch.flip(view, (2,)) if draws.random() < self.flip else view


def random_box(size: tuple[int, int], scale: tuple[float, float], draws: np.random.Generator) -> Box:
    """Draw a box in an image of ``size`` (width, height).

    Its area is a share of the image's, uniform in ``scale``, its aspect log-uniform from 3/4 to 4/3. Where
    none fits in ten tries, it is the largest box at the centre whose aspect is allowed. Source: Szegedy
    2015, section 6.
    """
    width, height = size
    for _ in range(_TRIES):
        area = width * height * draws.uniform(*scale)
        aspect = math.exp(draws.uniform(math.log(_ASPECTS[0]), math.log(_ASPECTS[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, upper = int(draws.integers(width - wide + 1)), int(draws.integers(height - high + 1))
            return left, upper, left + wide, upper + high
    wide = min(width, max(1, round(height * _ASPECTS[1])))
    high = min(height, max(1, round(width / _ASPECTS[0])))
    left, upper = (width - wide) // 2, (height - high) // 2
    return left, upper, left + wide, upper + high
