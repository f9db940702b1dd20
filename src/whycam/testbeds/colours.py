"""A data set to train on: digits in three colours on grey photographs, in folders by class, with their masks.

The class is the colour, and nothing but the digit has any: a small network learns it in seconds, and it is
known where it must look.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from whycam.testbeds.bed import Bed, Check, PictureSet
from whycam.testbeds.classifier import single
from whycam.testbeds.scenes import LUMA, Scenes, Sources, render, stream, uniform
from whycam.testbeds.workshop import Purpose, Workshop, share

SIDE = 96
"""A picture's height and width in pixels."""
TINTS = {"blue": (0.15, 0.2, 0.9), "green": (0.1, 0.65, 0.15), "red": (0.85, 0.1, 0.1)}
COUNTS = {"train": 100, "val": 30, "test": 30}
"""Pictures of each class in each split."""


def colours(shop: Workshop) -> Bed:
    """Make the three splits; val and test share no digit and no photograph's region with train."""
    chances = stream(shop.seed, Purpose.COLOURS)
    made = {
        split: _scenes(shop.training if split == "train" else shop.held_out, chances, count)
        for split, count in COUNTS.items()
    }
    scenes = made["test"]
    right = _nearest_tint(scenes.images, scenes.masks) == scenes.labels
    colour_left = scenes.grounds.double().std(1).amax() / 255
    checks = (
        Check("told apart by the digits' mean colour", share(right), at_least=1.0),
        Check("colour without the digits, of 1", float(colour_left), at_most=0.0),
    )
    return Bed(
        "digits in three colours on grey photographs, in folders by class; the truth is where the digit lies",
        checks,
        [],
        [_pictures(split, scenes) for split, scenes in made.items()],
    )


def _scenes(sources: Sources, chances: np.random.RandomState, count: int) -> Scenes:
    """Make ``count`` scenes of each colour; which digit it is says nothing."""
    labels = torch.arange(len(TINTS)).repeat_interleave(count)
    drawn = render(sources, uniform(chances, len(labels)), side=SIDE)
    tints = torch.tensor(list(TINTS.values()), dtype=torch.float64)[labels]
    luma = torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)
    grey = (drawn.grounds.double() * luma).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    edge = F.avg_pool2d(drawn.masks[:, None].double(), 3, stride=1, padding=1)
    images = torch.lerp(grey, 255 * tints[:, :, None, None], edge)
    return Scenes(
        images=images.round().to(torch.uint8),
        grounds=grey.round().to(torch.uint8),
        masks=drawn.masks,
        labels=labels,
        digits=drawn.digits,
        photographs=drawn.photographs,
    )


def _nearest_tint(images: Tensor, masks: Tensor) -> Tensor:
    """Return whose tint is nearest to the mean colour on the mask: int64 [B]."""
    on = masks[:, None].double()
    means = (images.double() * on).sum((2, 3)) / on.sum((2, 3)) / 255
    return torch.cdist(means, torch.tensor(list(TINTS.values()), dtype=torch.float64)).argmin(1)


def _pictures(split: str, scenes: Scenes) -> PictureSet:
    labels = [list(TINTS)[label] for label in scenes.labels.tolist()]
    names = [f"{label}/{index:03d}" for index, label in enumerate(labels)]
    return PictureSet(split, scenes.images, scenes.masks, labels, single(scenes.photographs), names)
