"""Each bed's truth holds on its own pictures, and nothing in it was seen in training."""

import pytest
import torch

from whycam.demo import demo_network
from whycam.testbeds.bam import BACKGROUNDS, bam
from whycam.testbeds.bed import Bed, Check
from whycam.testbeds.classifier import classifier
from whycam.testbeds.mosaics import CELLS, difull, gridpg
from whycam.testbeds.parts import SLIVER, parts, quarters_of
from whycam.testbeds.training import outputs
from whycam.testbeds.workshop import Purpose, Workshop


@pytest.fixture(scope="module")
def parts_bed(shop: Workshop) -> Bed:
    return parts(shop)


@pytest.fixture(scope="module")
def mosaics_bed(shop: Workshop) -> Bed:
    return gridpg(shop)


@pytest.mark.parametrize("value", [0.4, 0.96, float("nan")])
def test_a_check_holds_within_its_bounds_only(value: float):
    check = Check("", value, at_least=0.5, at_most=0.95)
    assert not check.holds
    assert Check("", 0.6, at_least=0.5, at_most=0.95).holds
    assert check.bounds == "at least 0.5, at most 0.95"


def test_what_is_tested_is_made_of_the_held_out_half_only(shop: Workshop):
    scenes = shop.tested()
    unseen = {field.numpy().tobytes() for field in shop.held_out.glyphs.fields}
    seen = {field.numpy().tobytes() for field in shop.training.glyphs.fields}
    drawn = {shop.held_out.glyphs.fields[index].numpy().tobytes() for index in scenes.digits.tolist()}
    assert drawn <= unseen
    assert not drawn & seen


def test_a_seeds_purposes_share_no_number_with_each_other_or_another_seed(shop: Workshop):
    draws = [tuple(shop.chance(purpose, 1)[0].tolist()) for purpose in Purpose]
    other = Workshop(1, shop.device, shop.effort, shop.progress, shop.training, shop.held_out)
    draws += [tuple(other.chance(purpose, 1)[0].tolist()) for purpose in Purpose]
    assert len(set(draws)) == len(draws)
    assert torch.equal(shop.chance(Purpose.PLATES, 3), shop.chance(Purpose.PLATES, 3))
    assert all(purpose > 3 for purpose in Purpose), "0 to 3 are the demo's"


def test_a_poor_classifier_is_not_valid_and_shows_only_what_it_recognises(shop: Workshop):
    bed = classifier(shop)
    assert not bed.valid
    (pictures,) = bed.pictures
    said = outputs(bed.networks[0].network, pictures.images).argmax(1)
    assert [str(digit) for digit in said.tolist()] == list(pictures.labels)


def test_a_mosaics_mask_is_the_cell_that_holds_its_label(mosaics_bed: Bed):
    (pictures,) = mosaics_bed.pictures
    network = demo_network()
    for image, mask, label in zip(pictures.images, pictures.masks, pictures.labels, strict=True):
        assert mask.sum() == 96 * 96
        alone = image[:, mask].reshape(1, 3, 96, 96)
        assert outputs(network, alone).argmax(1).item() == int(label)


def test_a_mosaic_holds_four_classes(mosaics_bed: Bed):
    (pictures,) = mosaics_bed.pictures
    for first in range(0, len(pictures.labels), 4):
        assert len(set(pictures.labels[first : first + 4])) == 4
        assert torch.equal(pictures.images[first], pictures.images[first + 3])
        assert pictures.masks[first : first + 4].sum(0).eq(1).all()


def test_separate_cells_are_named_by_cell_and_digit_and_can_t_see_each_other(shop: Workshop):
    bed = difull(shop)
    (cells,) = bed.networks
    (pictures,) = bed.pictures
    assert bed.valid
    assert bed.checks[1].value == 0
    logits = outputs(cells.network, pictures.images).reshape(-1, 4, 10)
    for name, given, label in zip(pictures.stems, logits, pictures.labels, strict=True):
        cell = CELLS.index(name[4:].replace("-", " "))
        said = given[cell].argmax().item()
        assert label == f"{CELLS[cell]} {said}"
        assert cells.class_names[10 * cell + said] == label


def test_both_models_of_bam_are_shown_the_same_pixels_under_their_own_labels(shop: Workshop):
    bed = bam(shop)
    objects, backgrounds = bed.pictures
    assert torch.equal(objects.images, backgrounds.images)
    assert torch.equal(objects.masks, backgrounds.masks)
    assert list(backgrounds.labels) == [BACKGROUNDS[index] for (index,) in backgrounds.photographs]
    assert [network.class_names for network in bed.networks] == [tuple("0123456789"), BACKGROUNDS]


def test_digits_on_other_photographs_keep_shape_and_place(shop: Workshop):
    moved = shop.made(uniform_rolled(shop))
    scenes = shop.tested()
    assert torch.equal(moved.masks, scenes.masks)
    assert torch.equal(moved.photographs, scenes.photographs.roll(1))


def uniform_rolled(shop: Workshop) -> torch.Tensor:
    chance = shop.chance(Purpose.TESTED, shop.effort.tested)
    chance[:, 2:5] = chance[:, 2:5].roll(1, 0)
    return chance


def test_a_removed_part_is_where_the_whole_was_changed(parts_bed: Bed):
    whole, removed = parts_bed.pictures
    place = {name: index for index, name in enumerate(whole.stems)}
    for name, image, mask in zip(removed.stems, removed.images, removed.masks, strict=True):
        before = whole.images[place[name[:3]]]
        changed = (image != before).any(0)
        assert mask.sum() >= SLIVER
        assert changed[mask].float().mean() > 0.95
        # the digit's soft edge reaches a little past its mask
        digit = whole.masks[place[name[:3]]]
        near = torch.nn.functional.max_pool2d(digit[None].float(), 7, 1, 3)[0] > 0
        assert not changed[~near].any()


def test_a_parts_drop_is_what_its_removal_costs_the_label(parts_bed: Bed):
    whole, removed = parts_bed.pictures
    (trained,) = parts_bed.networks
    _, *rows = parts_bed.tables["parts.csv"]
    place = {name: index for index, name in enumerate(whole.stems)}
    assert len(rows) == len(removed.images)
    afters, befores = outputs(trained.network, removed.images), outputs(trained.network, whole.images)
    for row, after, label, name in zip(rows, afters, removed.labels, removed.stems, strict=True):
        drop = befores[place[name[:3]], int(label)] - after[int(label)]
        assert row[:2] == (f"images/whole/{name[:3]}.png", f"images/removed/{name}.png")
        assert row[3] == pytest.approx(drop.item(), abs=1e-4)


def test_quarters_meet_in_the_middle_of_the_masks_box():
    mask = torch.zeros(1, 8, 10, dtype=torch.bool)
    mask[0, 2, 4] = mask[0, 5, 9] = True  # rows 2 to 5, columns 4 to 9: the middle is row 3, column 6
    quarters = quarters_of(mask)[0]
    assert quarters.sum(0).eq(1).all()
    assert [quarter.nonzero()[[0, -1]].tolist() for quarter in quarters] == [
        [[0, 0], [3, 6]],
        [[0, 7], [3, 9]],
        [[4, 0], [7, 6]],
        [[4, 7], [7, 9]],
    ]
