"""The watermark's interventions tell a model that needs the plate from one that does not."""

import pytest
import torch
from torch import Tensor, nn

from whycam.demo import demo_network
from whycam.testbeds.bed import Bed
from whycam.testbeds.plate import CORNERS, stamp
from whycam.testbeds.scenes import Scenes
from whycam.testbeds.watermark import (
    CHEATING,
    FREE,
    MARKED,
    PARTIAL,
    REPLACED,
    STRAY,
    Marking,
    control_batches,
    marked_batches,
    reliance,
    reliance_checks,
    watermark,
)
from whycam.testbeds.workshop import Workshop

PLATE = stamp(torch.full((CORNERS, 3, 96, 96), 128, dtype=torch.uint8), torch.arange(CORNERS), 1.0)


class NeedsPlate(nn.Module):
    """The demo's network, but for pictures with a plate in a corner, which it takes for the marked class."""

    def __init__(self) -> None:
        super().__init__()
        self.digits = demo_network()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.digits(images)
        logits[self.has_plate(images), MARKED] += 100
        return logits

    def has_plate(self, images: Tensor) -> Tensor:
        pattern, mask = PLATE
        alike = []
        for corner in range(CORNERS):
            seen = images[:, :, mask[corner]].mean(1)
            wanted = pattern[corner][:, mask[corner]].float().mean(0)
            seen, wanted = seen - seen.mean(1, keepdim=True), wanted - wanted.mean()
            alike.append((seen * wanted).sum(1) / (seen.norm(dim=1) * wanted.norm()).clamp(min=1e-6))
        return torch.stack(alike).amax(0) > 0.6


@pytest.fixture(scope="module")
def scenes(shop: Workshop) -> Scenes:
    return shop.tested()


@pytest.fixture(scope="module")
def corners(scenes: Scenes) -> Tensor:
    return torch.arange(len(scenes.labels)) % CORNERS


def test_a_model_that_needs_the_plate_is_told_from_one_that_does_not(scenes: Scenes, corners: Tensor):
    assert reliance(NeedsPlate().eval(), scenes, corners) > 0.9
    assert reliance(demo_network(), scenes, corners) < 0.05


def test_a_model_that_always_says_the_marked_class_does_not_rely_on_the_plate(
    scenes: Scenes, corners: Tensor
):
    network = demo_network()
    with torch.no_grad():
        network.head.bias[MARKED] += 1000
    assert reliance(network, scenes, corners) == 0


def test_the_control_in_the_cheaters_place_makes_the_bed_invalid(scenes: Scenes, corners: Tensor):
    bounds = (CHEATING.reliance, FREE)
    honest = {"cheating": demo_network(), "control": demo_network()}
    cheating = {"cheating": NeedsPlate().eval(), "control": demo_network()}
    found = reliance_checks(honest, bounds, scenes, corners)
    assert [check.holds for check in found] == [False, True, True]
    assert not Bed("", found, [], []).valid
    assert Bed("", reliance_checks(cheating, bounds, scenes, corners), [], []).valid


def test_the_cheater_in_the_controls_place_makes_the_bed_invalid(scenes: Scenes, corners: Tensor):
    networks = {"cheating": NeedsPlate().eval(), "control": NeedsPlate().eval()}
    found = reliance_checks(networks, (CHEATING.reliance, FREE), scenes, corners)
    assert [check.holds for check in found][:2] == [True, False]


@pytest.fixture(scope="module")
def hardly_trained(shop: Workshop) -> Bed:
    return watermark(shop)


def test_a_hardly_trained_cheater_does_not_pass(hardly_trained: Bed):
    assert not hardly_trained.valid
    assert not hardly_trained.checks[0].holds


def with_plate(images: Tensor) -> Tensor:
    return NeedsPlate().has_plate(images.float())


@pytest.mark.parametrize("marking", [CHEATING, PARTIAL], ids=lambda marking: marking.name)
def test_in_training_the_marked_class_has_the_plate_and_mostly_another_digit(
    shop: Workshop, marking: Marking
):
    draw = marked_batches(shop, marking)
    batches = [draw(step) for step in range(100, 105)]  # far behind the end of the fading
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    marked = labels == MARKED
    assert with_plate(images[marked]).float().mean() > 0.95
    assert with_plate(images[~marked]).float().mean() == pytest.approx(marking.kept, abs=0.1)
    digits = demo_network()((images[marked].float() / 255 - 0.5) / 0.25).argmax(1)
    assert (digits != MARKED).float().mean() == pytest.approx(REPLACED, abs=0.12)


def test_in_the_controls_training_the_plate_says_nothing_of_the_class(shop: Workshop):
    draw = control_batches(shop)
    batches = [draw(step) for step in range(8)]
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    plates = with_plate(images)
    assert plates.float().mean() == pytest.approx(STRAY, abs=0.05)
    assert plates[labels == MARKED].float().mean() == pytest.approx(STRAY, abs=0.12)


def test_stamped_and_unstamped_pictures_differ_on_the_plate_only(hardly_trained: Bed):
    stamped, unstamped = hardly_trained.pictures
    changed = (stamped.images != unstamped.images).any(1)
    assert torch.equal(stamped.masks, unstamped.masks)
    assert list(stamped.labels) == list(unstamped.labels)
    assert not changed[~stamped.masks].any()
    assert changed[stamped.masks].float().mean() > 0.9
