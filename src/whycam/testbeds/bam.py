"""The same pixels under two labels: one model reads the digit, the other the photograph behind it."""

import torch
from torch import Tensor

from whycam.demo import demo_network
from whycam.demo.network import DemoNet
from whycam.testbeds.bed import Bed, Check, PictureSet, Trained
from whycam.testbeds.classifier import DIGITS, digit_pictures, single
from whycam.testbeds.scenes import PHOTOGRAPHS, render, stream, uniform
from whycam.testbeds.training import Batch, Schedule, outputs
from whycam.testbeds.workshop import BATCH, Purpose, Workshop, chosen, first_true, share

BACKGROUNDS = tuple(photograph.name for photograph in PHOTOGRAPHS)
SCHEDULE = Schedule(220, learning_rate=3e-3)


def bam(shop: Workshop) -> Bed:
    """Give a model of the digits and one of the photographs, on the same images; the mask is the digit.

    What matters to the one does not to the other: a method's share on the digit must be larger for the
    model of the digits. Source: Yang and Kim 2019 (BAM).
    """
    digits, backgrounds = demo_network().to(shop.device), _background_model(shop)
    scenes = shop.tested()
    said = outputs(digits, scenes.images).argmax(1)
    seen = outputs(backgrounds, scenes.images).argmax(1)
    elsewhere = outputs(digits, _moved_grounds(shop)).argmax(1)
    emptied = outputs(backgrounds, scenes.grounds).argmax(1)
    checks = (
        Check("digits recognised by the model of digits", share(said == scenes.labels), at_least=0.95),
        Check(
            "photographs recognised by the model of photographs",
            share(seen == scenes.photographs),
            at_least=0.9,
        ),
        Check("digits recognised on another photograph", share(elsewhere == scenes.labels), at_least=0.95),
        Check("photographs recognised without the digit", share(emptied == scenes.photographs), at_least=0.9),
    )
    both = (said == scenes.labels) & (seen == scenes.photographs)
    shown = chosen(scenes, first_true(both, shop.effort.shown))
    behind = [BACKGROUNDS[index] for index in shown.photographs.tolist()]
    return Bed(
        "the same pixels labelled by digit and by photograph; the mask is the digit",
        checks,
        [
            Trained("object", digits, "testbed:digits", DIGITS),
            Trained("background", backgrounds, "testbed:digits", BACKGROUNDS),
        ],
        [
            digit_pictures("object", shown),
            PictureSet("background", shown.images, shown.masks, behind, single(shown.photographs)),
        ],
    )


def _background_model(shop: Workshop) -> DemoNet:
    """Train the digits' network further, with a new head, on which photograph lies behind the digit."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(shop.seed)
        network = DemoNet(len(BACKGROUNDS))
    network.features.load_state_dict(demo_network().features.state_dict())
    chances = stream(shop.seed, Purpose.TRAINING)

    def draw(step: int) -> Batch:
        scenes = render(shop.training, uniform(chances, BATCH), dtype=torch.float32)
        return scenes.images, scenes.photographs

    shop.train(network, draw, SCHEDULE)
    return network


def _moved_grounds(shop: Workshop) -> Tensor:
    """Make the tested scenes' digits again, each on the place that the next scene has."""
    chance = shop.chance(Purpose.TESTED, shop.effort.tested)
    chance[:, 2:5] = chance[:, 2:5].roll(1, 0)
    return shop.made(chance).images
