"""Parts: a digit's four quarters, each cut out in turn, and how far the score falls."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whycam.demo import demo_network
from whycam.demo.network import DemoNet
from whycam.testbeds.bed import Bed, Check, PictureSet, Trained
from whycam.testbeds.classifier import DIGITS, digit_pictures, single
from whycam.testbeds.scenes import Scenes
from whycam.testbeds.training import outputs
from whycam.testbeds.workshop import Workshop, chosen, first_true, share

SLIVER = 8
"""Pixels of the digit under which a quarter is no part of it."""
QUARTERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class Cuts:
    """Scenes with one quarter of the digit cut out each, the photograph showing through."""

    images: Tensor  # uint8 [N, 4, 3, H, W]
    masks: Tensor  # bool [N, 4, H, W]: what was cut out
    drops: Tensor  # float32 [N, 4]: how far the logit of the digit's class fell


def parts(shop: Workshop) -> Bed:
    """Give digits and their quarters; the truth is how far the class's logit falls without each."""
    network = demo_network().to(shop.device)
    scenes = shop.tested()
    before, emptied = (outputs(network, images).argmax(1) for images in (scenes.images, scenes.grounds))
    right = before == scenes.labels
    shown = chosen(scenes, first_true(right, shop.effort.shown))
    cuts = cut_out(network, shown)
    ranked = cuts.drops.sort(1, descending=True).values
    checks = (
        Check(
            "digits no longer recognised once they are taken out",
            share(emptied[right] != scenes.labels[right]),
            at_least=0.8,
        ),
        Check(
            "median lead of the part that matters most over the next, in logits",
            float((ranked[:, 0] - ranked[:, 1]).median()),
            at_least=0.5,
        ),
    )
    pictures, table = _shown(shown, cuts)
    return Bed(
        "a digit's quarters, cut out in turn; the truth is how far the class's logit falls without each",
        checks,
        [Trained("classifier", network, "testbed:digits", DIGITS)],
        pictures,
        tables={"parts.csv": table},
    )


def _shown(scenes: Scenes, cuts: Cuts) -> tuple[list[PictureSet], list[tuple[object, ...]]]:
    """Give the pictures and the table of drops; a quarter with next to nothing of the digit is left out."""
    kept = (cuts.masks.sum((2, 3)) >= SLIVER).nonzero()
    image, quarter = kept[:, 0], kept[:, 1]
    names = [f"{index:03d}-{QUARTERS[part].replace(' ', '-')}" for index, part in kept.tolist()]
    removed = PictureSet(
        "removed",
        cuts.images[image, quarter],
        cuts.masks[image, quarter],
        [DIGITS[label] for label in scenes.labels[image].tolist()],
        single(scenes.photographs[image]),
        names,
    )
    rows = [
        (f"images/whole/{name[:3]}.png", f"images/removed/{name}.png", f"masks/removed/{name}.png", drop)
        for name, drop in zip(names, cuts.drops[image, quarter].tolist(), strict=True)
    ]
    return [digit_pictures("whole", scenes), removed], [("path", "removed", "part", "drop"), *rows]


def cut_out(network: DemoNet, scenes: Scenes) -> Cuts:
    """Cut each quarter of the digits' boxes out, and measure what that costs the class."""
    quarters = quarters_of(scenes.masks)
    images = torch.where(quarters[:, :, None], scenes.grounds[:, None], scenes.images[:, None])
    logits = outputs(network, images.flatten(0, 1)).reshape(len(images), len(QUARTERS), -1)
    whole = outputs(network, scenes.images)
    own = scenes.labels[:, None, None].expand(-1, len(QUARTERS), 1)
    drops = whole.gather(1, scenes.labels[:, None]) - logits.gather(2, own)[:, :, 0]
    return Cuts(images, quarters & scenes.masks[:, None], drops)


def quarters_of(masks: Tensor) -> Tensor:
    """Cut each canvas at the middle of its mask's box: bool [N, H, W] -> [N, 4, H, W].

    Whole quarters of the canvas, since a digit's soft edge reaches a little past its mask.
    """
    below, right = (_past_middle(masks.any(axis)) for axis in (2, 1))
    below, right = below[:, :, None], right[:, None, :]
    return torch.stack([~below & ~right, ~below & right, below & ~right, below & right], 1)


def _past_middle(present: Tensor) -> Tensor:
    """Say which places come after the middle of those that are present: bool [N, L] -> [N, L]."""
    place = torch.arange(present.shape[1])
    first = torch.where(present, place, present.shape[1]).amin(1)
    last = torch.where(present, place, -1).amax(1)
    return place > ((first + last) // 2)[:, None]
