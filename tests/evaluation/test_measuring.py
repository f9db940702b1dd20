"""One batch: nothing waits for the device, nothing is computed twice, a wrong map is refused."""

import pytest
import torch
from tests.engine.test_host_traffic import no_host_traffic  # noqa: F401  (a fixture)
from tests.evaluation.beds import Counted, Small, Weighted, noise, score_by, square

from whycam.errors import UsageError
from whycam.evaluation import METRICS
from whycam.evaluation.measuring import Batch
from whycam.evaluation.twins import twins_of

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES, MAPS = noise(3, 3, 8, 8), {"a": noise(3, 3, 3), "b": noise(3, 8, 8)}
MASKS = square().expand(3, 8, 8)
OF_MAPS = ["srg", "road", "tilecorr", "energy", "enrichment", "pointing", "auprc", "iou", "sparsity"]


def test_figures_keep_their_values_on_the_device(request, seed):
    network = Small()
    batch = Batch(IMAGES, MAPS, score_by(network, IMAGES), masks=MASKS, steps=4)
    request.getfixturevalue("no_host_traffic")
    figures = batch.figures([METRICS[name] for name in OF_MAPS])
    batch.facts("a")
    assert list(figures) == ["a", "b"]


def test_a_method_s_own_is_let_go_of_and_what_is_shared_stays(seed):
    batch = Batch(IMAGES, MAPS, score_by(Small(), IMAGES), steps=4)
    batch.figures([METRICS["srg"]])
    assert {key[0] for key in batch._kept} == {"filler", "removed"}


def test_the_figures_of_a_method_do_not_depend_on_the_others(seed):
    score = score_by(Small(), IMAGES)
    together = Batch(IMAGES, MAPS, score, steps=4).figures([METRICS["srg"]])
    alone = Batch(IMAGES, {"b": MAPS["b"]}, score, steps=4).figures([METRICS["srg"]])
    for column, values in alone["b"].items():
        torch.testing.assert_close(together["b"][column], values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("maps", [noise(2, 3, 3), noise(3, 9), noise(3, 2, 3, 3)])
def test_maps_of_other_images_are_refused(maps, seed):
    with pytest.raises(UsageError, match=r"the maps of 'a' are .*; expected one map an image"):
        Batch(IMAGES, {"a": maps}, score_by(Small(), IMAGES))


@pytest.mark.parametrize("name", ["randomisation", "contrast", "stability"])
def test_a_metric_that_explains_again_says_so_where_there_are_only_maps(name):
    batch = Batch(IMAGES, MAPS, score_by(Weighted(torch.ones(8, 8)), IMAGES))
    with pytest.raises(UsageError, match="explain again; give the model and the method"):
        batch.figures([METRICS[name]])


def test_a_map_that_is_another_s_takes_its_curve_and_changes_no_figure(seed):
    network = Counted(Small())
    score = score_by(network, IMAGES)
    # the first two images' maps are four times those of another method, the third is its own
    partly = torch.cat([4 * MAPS["a"][:2], noise(1, 3, 3, seed=7)])
    maps = {**MAPS, "partly": partly, "whole": MAPS["a"] / 8}
    alone = Batch(IMAGES, maps, score, steps=4).figures([METRICS["srg"]])
    without = network.seen
    twins = twins_of(maps)
    shared = Batch(IMAGES, maps, score, steps=4, twins=twins).figures([METRICS["srg"]])
    assert twins == {"partly": ["a", "a", None], "whole": ["a", "a", "a"]}
    assert network.seen - without == without - (2 + 3) * 2 * 2 * 3
    for method, figures in alone.items():
        for column, values in figures.items():
            torch.testing.assert_close(shared[method][column], values, rtol=0, atol=1e-12)


def test_maps_that_show_nothing_are_one_map_and_an_opposite_map_is_another():
    flat, ramp = torch.ones(1, 3, 3), torch.arange(9.0).view(1, 3, 3)
    broken = ramp.clone()
    broken[0, 0, 0] = torch.nan
    maps = {"flat": flat, "ramp": ramp, "zero": 0 * flat, "broken": broken, "opposite": -ramp}
    assert twins_of(maps) == {"zero": ["flat"], "broken": ["flat"]}
    assert twins_of({"ramp": ramp, "larger": torch.arange(16.0).view(1, 4, 4)}) == {}
