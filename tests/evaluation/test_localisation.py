"""Maps against true masks, held to loops, and to maps whose worth is known."""

import math

import pytest
import torch
from tests.evaluation.beds import noise, square
from tests.oracles import evaluation as oracles

from whycam.errors import UsageError
from whycam.evaluation import localisation
from whycam.evaluation.ranking import importance

pytestmark = pytest.mark.usefixtures("one_thread")

MASK = square(8)
AREA = 9 / 64
PERFECT, INVERTED = MASK.double(), 1 - MASK.double()
NOTHING = [
    torch.zeros(8, 8),
    torch.full((8, 8), 0.4),
    torch.full((8, 8), -2.0),
    torch.full((8, 8), torch.nan),
]
MEASURES = {
    "enrichment": (localisation.enrichment, 1.0),
    "energy": (localisation.energy, AREA),
    "pointing": (localisation.pointing, AREA),
    "auprc": (localisation.auprc, AREA),
}


def stacked(*maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack(maps), MASK.expand(len(maps), 8, 8)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("map_", NOTHING, ids=["zero", "constant", "negative", "nan"])
def test_a_map_that_shows_nothing_scores_chance_and_not_a_hit(name, map_):
    measure, chance = MEASURES[name]
    assert measure(*stacked(map_)).item() == pytest.approx(chance)
    assert localisation.iou(*stacked(map_)).flatten().tolist() == pytest.approx([AREA] * 19)


@pytest.mark.parametrize(
    ("name", "perfect", "inverted"),
    [("enrichment", 1 / AREA, 0), ("energy", 1, 0), ("pointing", 1, 16 / 55), ("auprc", 1, AREA)],
)
def test_a_perfect_map_scores_the_most_and_an_inverted_one_less_than_chance(name, perfect, inverted):
    measure, chance = MEASURES[name]
    found = measure(*stacked(PERFECT, INVERTED)).tolist()
    assert found[0] == pytest.approx(perfect)
    assert found[1] == pytest.approx(inverted)
    assert found[1] <= chance or name == "pointing"  # the tolerance reaches over the border


def test_energy_is_that_of_the_loops():
    maps = noise(3, 8, 8)
    for got, map_ in zip(localisation.energy(maps, MASK.expand(3, 8, 8)), maps.clamp(min=0), strict=True):
        assert got.item() == pytest.approx(oracles.energy(map_.numpy(), MASK.numpy()), abs=1e-6)


@pytest.mark.parametrize("grid", [(8, 8), (4, 2), (3, 3)])
def test_pointing_is_that_of_the_loops_with_a_tolerance_of_one_cell(grid):
    maps = noise(40, *grid).mul(2).round()
    found = localisation.pointing(maps, MASK.expand(40, 8, 8))
    heats = importance(maps, (8, 8)).numpy()
    reach = [round(8 / cells) for cells in grid]
    for got, heat in zip(found, heats, strict=True):
        expected = oracles.pointing(heat, MASK.numpy(), reach) if heat.max() > 0 else AREA
        assert got.item() == pytest.approx(expected, abs=1e-6)


def test_auprc_is_that_of_the_loops_with_ties():
    maps = noise(4, 8, 8).mul(2).round()
    for got, map_ in zip(localisation.auprc(maps, MASK.expand(4, 8, 8)), maps.numpy(), strict=True):
        assert got.item() == pytest.approx(oracles.average_precision(map_, MASK.numpy()), abs=1e-6)


def test_iou_is_that_of_the_loops_at_every_threshold():
    maps = noise(3, 8, 8).clamp(min=0)
    found = localisation.iou(maps, MASK.expand(3, 8, 8))
    for got, map_ in zip(found, maps.numpy(), strict=True):
        expected = [oracles.iou(map_, MASK.numpy(), share) for share in localisation.THRESHOLDS]
        assert got.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_threshold_is_the_best_of_the_images_given_and_images_without_an_object_dont_count():
    overlaps = torch.tensor([[0.1, 0.6, 0.2], [0.1, 0.5, 0.9], [math.nan] * 3])
    assert localisation.tuned_threshold(overlaps[:1]) == 1
    assert localisation.tuned_threshold(overlaps) == 1 + (0.55 > 0.55)
    with pytest.raises(UsageError, match="no image with a mask"):
        localisation.tuned_threshold(overlaps[2:])


@pytest.mark.parametrize("name", ["enrichment", "pointing", "auprc"])
def test_an_image_without_an_object_has_no_figure(name):
    measure, _ = MEASURES[name]
    masks = torch.stack([MASK, torch.zeros_like(MASK)])
    found = measure(noise(2, 4, 4), masks)
    assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize("name", MEASURES)
def test_no_figure_depends_on_the_batch(name):
    measure, _ = MEASURES[name]
    maps, masks = noise(5, 3, 3), torch.stack([square(8, top, top) for top in range(5)])
    apart = torch.cat([measure(maps[at : at + 1], masks[at : at + 1]) for at in range(5)])
    assert torch.equal(measure(maps, masks), apart)
