"""The classifier: digits on photographs, and where each digit lies."""

import torch
from torch import Tensor

from whycam.demo.network import CLASSES, DemoNet
from whycam.testbeds.bed import Bed, Check, PictureSet, Trained
from whycam.testbeds.scenes import SIDE, Scenes, render, stream, uniform
from whycam.testbeds.training import Batch, Schedule, outputs
from whycam.testbeds.workshop import BATCH, Purpose, Workshop, chosen, first_true, share

DIGITS = tuple(str(digit) for digit in range(CLASSES))
SMALL_SIDE = 56
SMALL_SHARE = 0.7
"""Share of the steps on a small canvas: on a full one from the start, the loss stays at chance for long."""
SCHEDULE = Schedule(650)


def classifier(shop: Workshop) -> Bed:
    """Train from nothing; the truth is the mask of the digit."""
    network = _trained(shop)
    scenes = shop.tested()
    right = outputs(network, scenes.images).argmax(1) == scenes.labels
    without = outputs(network, scenes.grounds).argmax(1) == scenes.labels
    checks = (
        Check("held-out digits recognised", share(right), at_least=0.95),
        Check("digits recognised once they are taken out", share(without), at_most=0.2),
    )
    shown = chosen(scenes, first_true(right, shop.effort.shown))
    return Bed(
        "digits on photographs, all recognised; the truth is where the digit lies",
        checks,
        [Trained("classifier", network, "testbed:digits", DIGITS)],
        [digit_pictures("digits", shown)],
    )


def digit_pictures(name: str, scenes: Scenes) -> PictureSet:
    """Give the scenes with their digits' places and classes as the truth."""
    labels = [DIGITS[label] for label in scenes.labels.tolist()]
    return PictureSet(name, scenes.images, scenes.masks, labels, single(scenes.photographs))


def single(photographs: Tensor) -> list[tuple[int]]:
    """Give the photographs of pictures that have one each."""
    return [(index,) for index in photographs.tolist()]


def _trained(shop: Workshop) -> DemoNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(shop.seed)
        network = DemoNet()
    chances = stream(shop.seed, Purpose.TRAINING)
    small = SMALL_SHARE * shop.steps(SCHEDULE)

    def draw(step: int) -> Batch:
        side = SMALL_SIDE if step < small else SIDE
        scenes = render(shop.training, uniform(chances, BATCH), side=side, dtype=torch.float32)
        return scenes.images, scenes.labels

    shop.train(network, draw, SCHEDULE)
    return network
