"""Curves as pixels are removed, held to loops, and to maps whose worth is known."""

import itertools

import numpy as np
import pytest
import torch
from tests.evaluation.beds import Counted, Small, Weighted, noise, on_arrays, score_by
from tests.oracles import evaluation as oracles

from whycam.evaluation import curves, fills
from whycam.evaluation.curves import Curves, curves_of
from whycam.evaluation.ranking import importance, removal_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 5
LOOPS = {
    "push-pull": oracles.push_pull,
    "blur": lambda image, kept: np.where(kept, image, oracles.blurred(image, 0.1)),
}


def measured(network, images, maps, fill="push-pull", steps=STEPS) -> Curves:
    score, filler = score_by(network, images), fills.fill_named(fill)(images)
    ranks = removal_ranks(importance(maps, images.shape[2:]))
    clean = curves.clean_scores(score, images)
    rows = torch.arange(len(images))
    return curves_of(score, filler, ranks, rows, clean, curves.removed_scores(score, filler, images), steps)


@pytest.mark.parametrize("fill", LOOPS)
def test_both_curves_are_those_of_the_loops(fill, seed):
    network, images, maps = Small(), noise(2, 3, 7, 6), noise(2, 3, 3)
    found = measured(network, images, maps, fill)
    important = importance(maps, (7, 6)).double().numpy()
    for at, image in enumerate(images.numpy()):
        for most_first, course in ((False, found.least), (True, found.most)):
            by_loops = oracles.curve(
                image, important[at], on_arrays(network), LOOPS[fill], STEPS, most_first=most_first
            )
            np.testing.assert_allclose(course[0, at], by_loops, atol=1e-10)


def test_figures_are_the_areas_of_the_loops():
    least, most = noise(2, 3, 6), noise(2, 3, 6, seed=2)
    both = Curves(least, most)
    for scale, image in itertools.product(range(2), range(3)):
        low, high = least[scale, image].tolist(), most[scale, image].tolist()
        areas = oracles.area(low), oracles.area(high)
        gaps = [(a - b) / 2 for a, b in zip(low, high, strict=True)][1:-1]
        assert curves.insertion(both)[scale, image].item() == pytest.approx(areas[0])
        assert curves.deletion(both)[scale, image].item() == pytest.approx(areas[1])
        assert curves.srg(both)[scale, image].item() == pytest.approx(areas[0] - areas[1])
        assert curves.road(both)[scale, image].item() == pytest.approx(sum(gaps) / len(gaps))


def bright_on(weights: torch.Tensor, count: int) -> torch.Tensor:
    """Images that are 1 where the model weighs them, on a dark ground."""
    return (weights > 0).double().expand(count, 3, *weights.shape).contiguous()


@pytest.mark.parametrize("fill", ["push-pull", "blur", "linear"])
def test_a_perfect_map_gains_an_inverted_one_loses_and_a_constant_one_neither(fill):
    weights = torch.zeros(12, 12)
    weights[3:6, 4:8] = torch.arange(1.0, 13).view(3, 4) / 78
    images = bright_on(weights, 3)
    maps = torch.stack([weights.double(), -weights.double(), torch.full((12, 12), 0.7).double()])
    found = measured(Weighted(weights), images, maps, fill, steps=10)
    perfect, inverted, constant = curves.srg(found)[0].tolist()
    assert perfect > 0.3
    assert inverted < -0.3
    assert constant == 0
    road = curves.road(found)[0].tolist()
    assert road[0] > 0.1 > -0.1 > road[1]
    assert road[2] == 0
    assert curves.deletion(found)[0, 0] < curves.deletion(found)[0, 2] < curves.deletion(found)[0, 1]
    assert curves.insertion(found)[0, 0] > curves.insertion(found)[0, 2] > curves.insertion(found)[0, 1]


def test_tilecorr_is_that_of_the_loops(seed):
    network, images, maps = Small(), noise(2, 3, 9, 8), noise(2, 3, 3)
    score, filler = score_by(network, images), fills.push_pull(images)
    drops = curves.tile_drops(score, filler, images, curves.clean_scores(score, images))
    important = importance(maps, (9, 8))
    for at, image in enumerate(images.numpy()):
        by_loops = oracles.tilecorr(
            image, important[at].double().numpy(), on_arrays(network), oracles.push_pull
        )
        assert curves.tilecorr(important, drops)[0, at].item() == pytest.approx(by_loops, abs=1e-6)


def test_tilecorr_knows_a_perfect_an_inverted_and_a_constant_map():
    drops = noise(1, 3, 16)
    perfect = drops[0, 0].view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1).float()
    maps = torch.stack([perfect, -perfect, torch.zeros(8, 8)])
    found = curves.tilecorr(maps, drops[:, :1].expand(1, 3, 16))
    np.testing.assert_allclose(found[0], [1, -1, 0], atol=1e-12)
    assert curves.tilecorr(perfect[None], torch.zeros(1, 1, 16)).item() == 0


def test_a_fill_costs_two_forwards_a_step_less_two_and_they_go_through_in_chunks(seed):
    network = Counted(Small())
    images, maps = noise(4, 3, 8, 8), noise(4, 4, 4)
    measured(network, images, maps, steps=20)
    # 2 S - 1 a fill, and the clean image once
    assert network.seen == 4 * (1 + 2 * 20 - 1)
    assert network.largest > 100  # images, steps and orders together, not step by step


def test_steps_of_a_volume_and_of_a_signal_are_removed_alike(seed):
    for size in ((6,), (3, 4, 4)):
        weights = torch.zeros(*size)
        weights.view(-1)[2:4] = 1
        found = measured(Weighted(weights), bright_on(weights, 1), weights[None].double(), "blur")
        assert curves.srg(found).item() > 0
