"""Parts, boxes and weak localisation, held to flooding by loops."""

import numpy as np
import pytest
import torch
from tests.evaluation.beds import noise, square
from tests.oracles import evaluation as oracles

from whycam.errors import UsageError
from whycam.evaluation import boxes
from whycam.evaluation.boxes import PixelCounts

pytestmark = pytest.mark.usefixtures("one_thread")

RANDOM = torch.rand(6, 9, 11, generator=torch.Generator().manual_seed(4)) < 0.45


def spiral(size: int = 15) -> torch.Tensor:
    """One long winding part, which touches itself nowhere."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    return mask


@pytest.mark.parametrize("mask", [*RANDOM, spiral(), torch.zeros(3, 4) > 0, torch.ones(3, 4) > 0])
def test_parts_are_those_of_flooding(mask):
    labels = boxes.components(mask[None])[0]
    found = {frozenset(map(tuple, (labels == n).nonzero().tolist())) for n in labels.unique() if n}
    assert found == {frozenset(part) for part in oracles.parts(mask.numpy())}


def test_boxes_are_around_the_parts_the_largest_first():
    found = boxes.boxes_of(RANDOM)
    for its, mask in zip(found, RANDOM.numpy(), strict=True):
        parts = sorted(oracles.parts(mask), key=len, reverse=True)
        known = its[its.isfinite().all(1)].tolist()
        assert sorted(map(tuple, known)) == sorted(map(oracles.box, parts))
        largest = [oracles.box(part) for part in parts if len(part) == len(parts[0])]
        assert tuple(known[0]) in largest


def test_an_empty_mask_has_no_box():
    assert boxes.boxes_of(torch.zeros(2, 4, 4, dtype=torch.bool)).isnan().all()


def test_marked_is_the_mask_at_a_share_of_the_maximum_and_empty_for_a_blank_map():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert boxes.marked(maps, (2, 2), 0.5).tolist() == [[[False, False], [True, True]], [[False] * 2] * 2]
    assert not boxes.marked(maps, (2, 2), 0.0)[1].any()


def test_overlap_is_intersection_over_union():
    one = torch.tensor([[[0.0, 0, 4, 4], [np.nan] * 4]])
    other = torch.tensor([[[0.0, 0, 4, 2], [2, 2, 6, 6], [5, 5, 6, 6]]])
    assert boxes.overlap(one, other)[0].flatten().tolist() == pytest.approx([0.5, 4 / 28, 0, 0, 0, 0])


def bed(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps that are exactly the object, and its box."""
    masks = torch.stack([square(12, 2 + at % 3, 3, 5) for at in range(count)])
    return masks.double(), boxes.boxes_of(masks)


@pytest.mark.parametrize("version", [1, 2])
def test_a_perfect_map_finds_its_box_an_inverted_and_a_blank_one_do_not(version):
    maps, true = bed(1)
    three, boxes_of_three = torch.cat([maps, 1 - maps, 0 * maps]), true.expand(3, 1, 4)
    hits = boxes.box_hits(three, boxes_of_three, (12, 12), version=version)
    assert hits[:, 1:].unique(dim=1).flatten().tolist() == [1, 0, 0]


def test_the_second_version_takes_any_part_and_grades_the_overlap():
    maps, true = bed(1)
    with_larger = torch.zeros(1, 12, 12).double()
    with_larger[0, :, 9:] = 1  # larger than the object, and apart from it
    with_larger += maps
    assert boxes.box_hits(with_larger, true, (12, 12), version=1)[0, 10] == 0
    assert boxes.box_hits(with_larger, true, (12, 12), version=2)[0, 10] == 1
    partly = maps.clone()
    partly[0, 5:] = 0  # three of five rows: overlap 0.6
    assert boxes.box_hits(partly, true, (12, 12), version=2)[0, 10].item() == pytest.approx(2 / 3)


def test_the_threshold_is_tuned_on_one_part_and_used_on_the_other():
    tuning, test = torch.zeros(3, 50), torch.zeros(4, 50)
    tuning[:, 20] = 1
    test[:2, 20] = 1
    test[:, 30] = 1  # better on the test part, and not taken
    found = boxes.tuned_accuracy(tuning, test)
    assert (found.threshold, found.accuracy, found.n) == (0.4, 0.5, 4)
    with pytest.raises(UsageError, match="tuned on the images it is tested on"):
        boxes.tuned_accuracy(test, test)
    with pytest.raises(UsageError, match="0 images to tune"):
        boxes.tuned_accuracy(tuning[:0], test)


def test_pixel_counts_add_up_to_the_same_whatever_the_batches():
    maps, masks = noise(5, 6, 6), torch.stack([square(6, 1, 1, n) for n in range(1, 6)])
    whole = PixelCounts.of(maps, masks)
    parts = PixelCounts.of(maps[:2], masks[:2]) + PixelCounts.of(maps[2:], masks[2:])
    assert torch.equal(whole.on, parts.on)
    assert whole.average_precision() == parts.average_precision()


def test_pixel_average_precision_is_that_of_the_loops_over_all_images():
    maps = noise(3, 6, 6).clamp(min=0)
    maps = (maps / maps.amax((1, 2), keepdim=True) * 20).round() / 20  # far apart from one another's bins
    masks = torch.stack([square(6, 1, 1, n) for n in (1, 2, 3)])
    expected = oracles.average_precision(maps.flatten(0, 1).numpy(), masks.flatten(0, 1).numpy())
    assert PixelCounts.of(maps, masks).average_precision() == pytest.approx(expected)


def test_pixel_average_precision_of_a_perfect_an_inverted_and_a_constant_map():
    maps, masks = square().double()[None], square()[None]
    assert PixelCounts.of(maps, masks).average_precision() == pytest.approx(1)
    assert PixelCounts.of(1 - maps, masks).average_precision() == pytest.approx(9 / 64)
    assert PixelCounts.of(0 * maps, masks).average_precision() == pytest.approx(9 / 64)
    assert np.isnan(PixelCounts.of(maps, masks & False).average_precision())
