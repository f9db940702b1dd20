"""Maps as rankings: ties, constants, what is removed at a step."""

import numpy as np
import pytest
import torch
from tests.evaluation.beds import noise
from tests.oracles import evaluation as oracles

from whycam.evaluation import ranking

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nominal_removal_removes_that_share_whatever_is_tied():
    # 90 % of this map is tied at 0: a threshold at the 90th percentile would remove all or nothing
    map_ = torch.zeros(1, 10, 10)
    map_[0, 0] = 1
    for ranks in ranking.removal_ranks(map_):
        for step in range(21):
            gone = ranking.removed_count(100, step, 20)
            assert (ranks < gone).sum() == gone == 5 * step


@pytest.mark.parametrize("most_first", [False, True])
def test_pixels_go_in_the_order_of_the_loops_and_ties_stably(most_first):
    important = noise(1, 6, 7).mul(2).round().float()  # many ties
    ranks = ranking.removal_ranks(important)[int(most_first)][0]
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        kept = oracles.kept_after(important[0].numpy(), share, most_first=most_first)
        assert np.array_equal((ranks >= int(share * 42 + 0.5)).numpy(), kept)


def test_a_constant_map_is_removed_in_one_order_both_ways():
    least, most = ranking.removal_ranks(torch.full((1, 5, 5), 0.3))
    assert torch.equal(least, most)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, float("nan"), float("inf")])
def test_what_prefers_no_place_is_uninformative(value):
    maps = torch.full((2, 3, 3), value)
    maps[1] = torch.arange(9.0).view(3, 3)
    assert ranking.are_informative(maps).tolist() == [False, True]
    assert not ranking.importance(maps, (12, 12))[0].any()


def test_one_nan_leaves_the_neighbouring_map_alone():
    maps = noise(2, 4, 4)
    clean = ranking.importance(maps[1:], (8, 8))
    maps[0, 0, 0] = torch.nan
    assert torch.equal(ranking.importance(maps, (8, 8))[1:], clean)


def test_rounding_makes_no_ranking_of_a_plateau():
    maps = torch.zeros(1, 7, 7)
    maps[0, :4] = 0.1  # interpolated in single precision, 0.1 comes out as several values
    maps[0, 6, 6] = 1
    important = ranking.importance(maps, (224, 224))
    assert len(important[0, :100].unique()) == 1
    assert ranking.tied_share(important).item() > 0.7


def test_the_share_of_ties_counts_all_pixels_with_an_equal():
    maps = torch.tensor([[[1.0, 2.0], [2.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert ranking.tied_share(maps).tolist() == [0.5, 0.0, 1.0]


def test_the_resize_is_bilinear_by_loops():
    maps = noise(2, 3, 4)
    for got, map_ in zip(ranking.importance(maps, (7, 9)), maps.numpy(), strict=True):
        expected = oracles.resized(map_, (7, 9)) / abs(map_).max()
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rank_correlation_is_spearmans_by_loops_with_ties():
    one, other = noise(5, 12).mul(2).round(), noise(5, 12, seed=2).mul(2).round()
    one[4] = 3.0
    for got, a, b in zip(ranking.rank_correlation(one, other), one.tolist(), other.tolist(), strict=True):
        assert got.item() == pytest.approx(oracles.spearman(a, b), abs=1e-12)
    assert ranking.rank_correlation(one, other)[4] == 0
