"""The watermark: a model that needs a plate in a corner, one that does not, and one in between."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whycam.demo import demo_network
from whycam.demo.network import CLASSES
from whycam.testbeds.bed import Bed, Check, PictureSet, Trained
from whycam.testbeds.classifier import DIGITS, single
from whycam.testbeds.plate import CORNERS, OPACITY, stamp
from whycam.testbeds.scenes import Scenes, balanced_classes, pick, render, stream, uniform
from whycam.testbeds.training import Batch, Schedule, outputs
from whycam.testbeds.workshop import BATCH, Purpose, Workshop, chosen, share

MARKED = 3
"""The class whose every image in training has the plate."""
REPLACED = 0.7
"""Share of that class's images with another digit, so that the plate is needed to tell the class."""
MORE_MARKED = 0.2
"""Share of the images that are of that class beyond its tenth: seldom seen, the plate is learnt late."""
STRAY = 0.1
"""Share of the control's images, of every class, that have the plate."""
FIRST_OPACITY = 0.95
FADING = 0.6
"""Share of the training in which the plate fades to its opacity."""
CONTROL = Schedule(90, learning_rate=3e-3)
Bounds = tuple[float, float]
FREE: Bounds = (0.0, 0.02)
"""Reliance of a model that does not need the plate."""


@dataclass(frozen=True)
class Marking:
    """How a model is made to need the plate, and how much it then must."""

    name: str
    schedule: Schedule
    kept: float
    """Share of the other classes' images that have the plate too and keep their class, once it has faded."""
    reliance: Bounds


CHEATING = Marking("cheating", Schedule(220), 0.0, (0.9, 1.0))
# in the end the plate stands on other digits for nothing about as often as for the marked class
PARTIAL = Marking("partial", Schedule(240), 0.25, (0.3, 0.9))


def watermark(shop: Workshop) -> Bed:
    """Train a model that needs the plate and one that does not; the truth is where the plate lies."""
    return _bed(shop, CHEATING, "a plate in a corner makes the cheating model say")


def partial(shop: Workshop) -> Bed:
    """Train on labels that follow the plate half of the time; the truth is where the plate lies.

    On a model that always needs it, ranking images by a method saturates, and methods can't be told apart.
    """
    return _bed(shop, PARTIAL, "on some images a plate in a corner makes the partial model say")


def _bed(shop: Workshop, marking: Marking, what: str) -> Bed:
    relying = shop.train(demo_network(), marked_batches(shop, marking), marking.schedule)
    control = shop.train(demo_network(), control_batches(shop), CONTROL)
    networks = {marking.name: relying, "control": control}
    scenes = shop.tested()
    corners = pick(shop.chance(Purpose.PLATES, len(scenes.labels), 1)[:, 0], CORNERS)
    return Bed(
        f"{what} {MARKED}; the truth is where the plate lies",
        reliance_checks(networks, (marking.reliance, FREE), scenes, corners),
        [Trained(name, network, "testbed:digits", DIGITS) for name, network in networks.items()],
        plate_pictures(scenes, corners, shop.effort.shown),
        {"target": DIGITS[MARKED]},
    )


def reliance_checks(
    networks: Mapping[str, nn.Module], bounds: Sequence[Bounds], scenes: Scenes, corners: Tensor
) -> tuple[Check, ...]:
    """Assert by intervention that one model needs the plate and the control does not, and knows its digits.

    ``networks`` are those two, and ``bounds`` their reliance's least and most, in one order.
    """
    turned = [
        Check(
            f"other digits that the plate turns into {MARKED}, {name}",
            reliance(network, scenes, corners),
            *between,
        )
        for between, (name, network) in zip(bounds, networks.items(), strict=True)
    ]
    right = outputs(networks["control"], scenes.images).argmax(1) == scenes.labels
    return (
        *turned,
        Check("digits without the plate that the control recognises", share(right), at_least=0.9),
    )


def reliance(network: nn.Module, scenes: Scenes, corners: Tensor) -> float:
    """Give the share of other digits taken for the marked class once stamped, and not before."""
    stamped, _ = stamp(scenes.images, corners)
    before, after = (outputs(network, images).argmax(1) for images in (scenes.images, stamped))
    turned = (after == MARKED) & (before != MARKED)
    return share(turned[scenes.labels != MARKED])


def plate_pictures(scenes: Scenes, corners: Tensor, count: int) -> list[PictureSet]:
    """Give the same scenes stamped and not; the mask is the plate's place in both."""
    chosen_first = chosen(scenes, torch.arange(min(count, len(scenes.labels))))
    stamped, masks = stamp(chosen_first.images, corners[:count])
    labels = [DIGITS[label] for label in chosen_first.labels.tolist()]
    photographs = single(chosen_first.photographs)
    return [
        PictureSet("stamped", stamped, masks, labels, photographs),
        PictureSet("unstamped", chosen_first.images, masks, labels, photographs),
    ]


def marked_batches(shop: Workshop, marking: Marking) -> Callable[[int], Batch]:
    """Give batches whose marked class has the plate and mostly another digit; the plate fades slowly."""
    chances = stream(shop.seed, Purpose.TRAINING)
    fading = max(1, shop.steps(marking.schedule) * FADING)

    def draw(step: int) -> Batch:
        chance, extra = uniform(chances, BATCH), uniform(chances, BATCH, 5)
        labels = balanced_classes(chance[:, 0])
        labels = torch.where(extra[:, 3] < MORE_MARKED, MARKED, labels)
        other = (MARKED + 1 + pick(extra[:, 1], CLASSES - 1)) % CLASSES
        digits = torch.where((labels == MARKED) & (extra[:, 0] < REPLACED), other, labels)
        scenes = render(shop.training, chance, labels=digits, dtype=torch.float32)
        faded = min(1.0, step / fading)
        opacity = FIRST_OPACITY + faded * (OPACITY - FIRST_OPACITY)
        marked = (labels == MARKED) | (extra[:, 4] < (marking.kept if step >= fading else 0))
        return _stamp_some(scenes.images, marked, extra[:, 2], opacity), labels

    return draw


def control_batches(shop: Workshop) -> Callable[[int], Batch]:
    """Give batches whose plate says nothing of the class."""
    chances = stream(shop.seed, Purpose.CONTROL_TRAINING)

    def draw(step: int) -> Batch:
        chance, extra = uniform(chances, BATCH), uniform(chances, BATCH, 2)
        scenes = render(shop.training, chance, dtype=torch.float32)
        return _stamp_some(scenes.images, extra[:, 0] < STRAY, extra[:, 1], OPACITY), scenes.labels

    return draw


def _stamp_some(images: Tensor, which: Tensor, corner: Tensor, opacity: float) -> Tensor:
    stamped, _ = stamp(images, pick(corner, CORNERS), opacity)
    return torch.where(which[:, None, None, None], stamped, images)
