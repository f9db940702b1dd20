"""Whether maps move with the weights and the class, and not with noise."""

import math

import pytest
import torch
from tests.evaluation.beds import Small, noise
from tests.oracles import evaluation as oracles

from whycam.evaluation import sanity

pytestmark = pytest.mark.usefixtures("one_thread")

MAPS, OTHERS = noise(4, 3, 5), noise(4, 3, 5, seed=2)


@pytest.mark.parametrize(("measure", "change"), [(sanity.randomisation, abs), (sanity.contrast, lambda m: m)])
def test_movement_is_one_less_the_rank_correlation_of_the_loops(measure, change):
    for got, one, other in zip(measure(MAPS, OTHERS), change(MAPS), change(OTHERS), strict=True):
        expected = 1 - oracles.spearman(one.flatten().tolist(), other.flatten().tolist())
        assert got.item() == pytest.approx(expected, abs=1e-12)


def test_a_map_that_stays_did_not_move_and_one_turned_round_moved_the_most():
    assert sanity.contrast(MAPS, MAPS).abs().max() < 1e-12
    assert (sanity.contrast(MAPS, -MAPS) - 2).abs().max() < 1e-12
    assert sanity.randomisation(MAPS, -MAPS).abs().max() < 1e-12  # a turned sign is no new place


@pytest.mark.parametrize("value", [0.0, 2.0, math.nan])
def test_a_map_that_shows_nothing_did_not_move_and_is_not_stable(value):
    nothing = torch.full_like(MAPS, value)
    assert not sanity.randomisation(nothing, MAPS).any()
    assert not sanity.contrast(MAPS, nothing).any()
    same = torch.ones(2, 4, dtype=torch.bool)
    assert sanity.stability(nothing, torch.stack([nothing, nothing]), same).tolist() == [1] * 4
    assert not sanity.sparsity(nothing).any()


def test_stability_is_the_largest_relative_change_where_the_prediction_stays():
    noisy = torch.stack([MAPS, 1.5 * MAPS, 4 * MAPS])
    same = torch.ones(3, 4, dtype=torch.bool)
    same[2, 1:] = False
    same[:, 3] = False
    found = sanity.stability(MAPS, noisy, same).tolist()
    assert found[:3] == pytest.approx([3, 0.5, 0.5])
    assert math.isnan(found[3])


def test_a_map_that_breaks_under_noise_is_as_unstable_as_can_be():
    same = torch.ones(1, 4, dtype=torch.bool)
    assert sanity.stability(MAPS, torch.full_like(MAPS, math.nan)[None], same).tolist() == [math.inf] * 4


def test_sparsity_is_the_gini_index_of_the_loops():
    for got, map_ in zip(sanity.sparsity(MAPS), MAPS, strict=True):
        assert got.item() == pytest.approx(oracles.gini(map_.flatten().tolist()), abs=1e-12)
    one_cell = torch.zeros(1, 10, 10)
    one_cell[0, 3, 3] = 5
    assert sanity.sparsity(one_cell).item() == pytest.approx(0.99)


def test_the_noise_is_the_same_for_all_images_and_in_the_units_of_each():
    images = noise(2, 3, 6, 6)
    images[1] = 100 * images[0]
    change = sanity.noisy(images, 3, seed=0) - images
    torch.testing.assert_close(change[1], 100 * change[0])
    torch.testing.assert_close(sanity.noisy(images[1:], 3, seed=0) - images[1:], change[1:])
    assert not torch.equal(change, sanity.noisy(images, 4, seed=0) - images)


def test_a_randomised_copy_keeps_the_scale_of_each_weight_and_leaves_the_model_alone(seed):
    network = Small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy, again = sanity.randomised(network, seed=1), sanity.randomised(network, seed=1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(copy.state_dict()[name], again.state_dict()[name])
        assert not torch.equal(copy.state_dict()[name], value)
    weight = copy.features[0].weight
    assert weight.std().item() == pytest.approx(network.features[0].weight.std().item(), rel=0.3)
    assert not torch.equal(weight, sanity.randomised(network, seed=2).features[0].weight)


def test_the_cascade_goes_from_the_last_layer_to_the_first_and_ends_all_random(seed):
    network = Small()
    whole = sanity.randomised(network, seed=1).state_dict()
    steps = []
    for name, copy in sanity.cascade(network, seed=1):
        state, own = copy.state_dict(), network.state_dict()
        steps.append((name, sorted(key for key in state if not torch.equal(state[key], own[key]))))
        last = state
    assert steps == [
        ("head", ["head.bias", "head.weight"]),
        ("features.0", ["features.0.bias", "features.0.weight", "head.bias", "head.weight"]),
    ]
    assert all(torch.equal(last[name], whole[name]) for name in whole)
