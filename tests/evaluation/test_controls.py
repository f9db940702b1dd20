"""The controls: maps that know nothing of the model, and don't depend on the batch."""

import pytest
import torch
from tests.evaluation.beds import noise

from whycam.evaluation.controls import CONTROLS, Drawing, control_maps
from whycam.evaluation.ranking import are_informative

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise(4, 3, 12, 10)


def test_all_four_run_and_prefer_some_place():
    maps = control_maps(IMAGES, Drawing((3, 3), range(len(IMAGES))))
    assert list(maps) == list(CONTROLS) == ["random", "blurred random", "centre", "edges"]
    for each in maps.values():
        assert each.dtype == torch.float64
        assert are_informative(each).all()
    assert maps["random"].shape == (4, 3, 3)
    assert maps["blurred random"].shape == (4, 12, 10)


def test_a_control_of_an_image_is_the_same_in_any_batch():
    whole = control_maps(IMAGES, Drawing((3, 3), range(len(IMAGES)), seed=5))
    for name, maps in control_maps(IMAGES[2:], Drawing((3, 3), range(2, len(IMAGES)), seed=5)).items():
        torch.testing.assert_close(maps, whole[name][2:], rtol=0, atol=1e-15)


def test_no_two_images_share_their_noise_and_the_seed_changes_it():
    for name in ("random", "blurred random"):
        maps = control_maps(IMAGES, Drawing((3, 3), range(len(IMAGES))))[name]
        assert len({tuple(each.flatten().tolist()) for each in maps}) == 4
        assert not torch.equal(maps, control_maps(IMAGES, Drawing((3, 3), range(len(IMAGES)), seed=1))[name])


def test_the_global_random_state_stays():
    before = torch.get_rng_state()
    control_maps(IMAGES, Drawing((3, 3), range(len(IMAGES))))
    assert torch.equal(before, torch.get_rng_state())
