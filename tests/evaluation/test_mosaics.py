"""Mosaics: is the mass in the right cell?"""

import pytest
import torch
from tests.evaluation.beds import noise

from whycam.errors import UsageError
from whycam.evaluation.mosaics import difull, gridpg, mosaic

CELLS = torch.tensor([0, 1, 2, 3])


def in_cells() -> torch.Tensor:
    maps = torch.zeros(4, 6, 6)
    for at, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        maps[at, row : row + 3, column : column + 3] = 1 + at
    return maps


@pytest.mark.parametrize("measure", [gridpg, difull])
def test_a_perfect_map_has_all_an_inverted_one_none_and_a_blank_one_chance(measure):
    maps = in_cells()
    assert measure(maps, CELLS).tolist() == [1, 1, 1, 1]
    assert measure(maps.amax((1, 2), keepdim=True) - maps, CELLS).tolist() == [0, 0, 0, 0]
    for nothing in (0.0, 3.0, -1.0, float("nan")):
        assert measure(torch.full((4, 6, 6), nothing), CELLS).tolist() == pytest.approx([0.25] * 4)


def test_negative_values_are_no_mass_and_the_share_is_that_of_the_loops():
    maps = noise(4, 4, 4)
    positive = maps.clamp(min=0)
    quarters = [(0, 0), (0, 2), (2, 0), (2, 2)]
    for at, (row, column) in enumerate(quarters):
        own = sum(float(positive[at, row + y, column + x]) for y in range(2) for x in range(2))
        assert gridpg(maps, CELLS)[at].item() == pytest.approx(own / float(positive[at].sum()))


def test_a_mosaic_lays_four_images_two_by_two():
    parts = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    assert mosaic(parts)[0, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


def test_a_grid_without_borders_between_the_cells_is_refused():
    with pytest.raises(UsageError, match=r"maps are \[1, 3, 4\]; expected .* an even height"):
        gridpg(torch.ones(1, 3, 4), CELLS[:1])
