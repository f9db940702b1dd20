"""Mosaics of four pictures, for a network that sees them whole and one that can't mix the cells."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whycam.demo import demo_network
from whycam.demo.network import CLASSES, SeparateCells
from whycam.testbeds.bed import Bed, Check, PictureSet, Trained
from whycam.testbeds.classifier import DIGITS
from whycam.testbeds.scenes import SIDE, Scenes
from whycam.testbeds.training import outputs
from whycam.testbeds.workshop import Purpose, Workshop, share

CELLS = ("upper left", "upper right", "lower left", "lower right")
CONFIDENCE = 0.99
"""Least probability with which a cell's picture is recognised on its own."""


@dataclass(frozen=True)
class Mosaics:
    """2 x 2 mosaics of four classes each: which scenes they are made of, left to right, then down."""

    scenes: Scenes
    members: Tensor  # int64 [N, 4]: index among the scenes

    @property
    def images(self) -> Tensor:
        """The mosaics, uint8 [N, 3, 2 side, 2 side]."""
        return tiled(self.scenes.images[self.members])

    @property
    def classes(self) -> Tensor:
        """The class in each cell, int64 [N, 4]."""
        return self.scenes.labels[self.members]

    def without(self, cell: int) -> Tensor:
        """The mosaics with one cell's digit taken out."""
        parts = self.scenes.images[self.members]
        parts[:, cell] = self.scenes.grounds[self.members[:, cell]]
        return tiled(parts)

    def only(self, cell: int) -> Tensor:
        """The mosaics with the digits of all cells but one taken out."""
        parts = self.scenes.grounds[self.members]
        parts[:, cell] = self.scenes.images[self.members[:, cell]]
        return tiled(parts)


def gridpg(shop: Workshop) -> Bed:
    """Give mosaics that the classifier sees as a whole; the truth of a class is its cell.

    Source: Zhang 2018 (the pointing game), Bohle 2021 (GridPG).
    """
    mosaics = _drawn(shop)
    network = demo_network().to(shop.device)
    images, classes = mosaics.images, mosaics.classes
    whole = outputs(network, images)
    fell = [_falls(whole, outputs(network, mosaics.without(cell)), classes[:, cell]) for cell in range(4)]
    strongest = whole.topk(4).indices
    among = (classes[:, :, None] == strongest[:, None]).any(2)
    checks = (
        Check(
            "class scores that fall when their own digit is taken out",
            share(torch.stack(fell)),
            at_least=0.95,
        ),
        Check("classes in a mosaic among its four strongest", share(among), at_least=0.5),
    )
    model = Trained("classifier", network, "testbed:digits", DIGITS, (2 * SIDE, 2 * SIDE))
    labels = [[DIGITS[label] for label in row] for row in classes.tolist()]
    return _bed(
        "mosaics that the network sees whole; the truth of a class is its cell",
        checks,
        model,
        mosaics,
        labels,
    )


def difull(shop: Workshop) -> Bed:
    """Give mosaics to a network whose cells can't see each other; the truth of an output is its cell.

    Source: Rao 2022 (DiFull).
    """
    mosaics = _drawn(shop)
    network = SeparateCells(demo_network()).to(shop.device).eval()
    classes = mosaics.classes
    whole = outputs(network, mosaics.images)
    fell, moved = [], []
    for cell in range(4):
        own = cell * CLASSES + classes[:, cell]
        fell.append(_falls(whole, outputs(network, mosaics.without(cell)), own))
        moved.append((_scores(whole, own) - _scores(outputs(network, mosaics.only(cell)), own)).abs().max())
    checks = (
        Check(
            "class scores that fall when their own digit is taken out",
            share(torch.stack(fell)),
            at_least=0.95,
        ),
        Check(
            "largest move of a class's score when the other cells are emptied",
            float(max(moved)),
            at_most=1e-4,
        ),
    )
    names = [f"{cell} {digit}" for cell in CELLS for digit in DIGITS]
    model = Trained("cells", network, "testbed:cells", names, (2 * SIDE, 2 * SIDE))
    labels = [[names[10 * cell + label] for cell, label in enumerate(row)] for row in classes.tolist()]
    return _bed(
        "mosaics whose cells the network can't mix; the truth of an output is its cell",
        checks,
        model,
        mosaics,
        labels,
    )


def tiled(parts: Tensor) -> Tensor:
    """Lay [N, 4, C, H, W] out as [N, C, 2 H, 2 W], left to right, then down."""
    rows = [torch.cat([parts[:, first], parts[:, first + 1]], -1) for first in (0, 2)]
    return torch.cat(rows, -2)


def _falls(whole: Tensor, changed: Tensor, outputs_of: Tensor) -> Tensor:
    return _scores(changed, outputs_of) < _scores(whole, outputs_of)


def _scores(logits: Tensor, of: Tensor) -> Tensor:
    return logits.gather(1, of[:, None])[:, 0]


def _drawn(shop: Workshop) -> Mosaics:
    """Draw mosaics of scenes that the demo's network is sure of and right on, no class twice in one."""
    scenes = shop.tested()
    sure, classes = outputs(demo_network().to(shop.device), scenes.images).softmax(1).max(1)
    usable = (sure >= CONFIDENCE) & (classes == scenes.labels)
    count = max(1, shop.effort.shown // 4)
    chance = shop.chance(Purpose.MOSAICS, count, CLASSES + 4)
    members = []
    for row in chance:
        picked = []
        for cell, digit in enumerate(row[:CLASSES].argsort(stable=True)[:4].tolist()):
            able = (usable & (scenes.labels == digit)).nonzero()[:, 0]
            picked.append(able[int(row[CLASSES + cell] * len(able))])
        members.append(torch.stack(picked))
    return Mosaics(scenes, torch.stack(members))


def _bed(
    what: str, checks: tuple[Check, ...], model: Trained, mosaics: Mosaics, labels: list[list[str]]
) -> Bed:
    """Show each mosaic four times: once for each cell, under its class's name and its cell's mask."""
    count = len(mosaics.members)
    masks = torch.zeros(4, 1, 2 * SIDE, 2 * SIDE, dtype=torch.bool)
    for cell in range(4):
        top, left = cell // 2 * SIDE, cell % 2 * SIDE
        masks[cell, :, top : top + SIDE, left : left + SIDE] = True
    pictures = PictureSet(
        "mosaics",
        mosaics.images.repeat_interleave(4, 0),
        masks[:, 0].repeat(count, 1, 1),
        [label for row in labels for label in row],
        [set(row) for row in mosaics.scenes.photographs[mosaics.members].tolist() for _ in range(4)],
        [f"{index:03d}-{cell.replace(' ', '-')}" for index in range(count) for cell in CELLS],
    )
    return Bed(what, checks, [model], [pictures])
