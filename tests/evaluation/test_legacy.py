"""Measures as others report them, held to loops."""

import pytest
import torch
from tests.evaluation.beds import noise, square
from tests.oracles import evaluation as oracles

from whycam.evaluation import legacy

CLEAN = torch.tensor([0.8, 0.5, 0.2, 1.0, 0.0]).double()
FADED = torch.tensor([0.4, 0.5, 0.6, 1.0, 0.0]).double()


def test_drop_increase_and_gain_are_shares_of_what_there_was_and_what_was_missing():
    assert legacy.averagedrop(CLEAN, FADED).tolist() == pytest.approx([0.5, 0, 0, 0, 0])
    assert legacy.increase(CLEAN, FADED).tolist() == [0, 0, 1, 0, 0]
    assert legacy.gain(CLEAN, FADED).tolist() == pytest.approx([0, 0, 0.5, 0, 0])


def test_the_image_is_multiplied_by_the_rectified_map_of_one_channel():
    images = noise(2, 3, 4, 4)
    maps = torch.tensor([[[2.0, -1.0], [0.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]]).double()
    found = legacy.faded(images, maps)
    by_loops = oracles.resized(maps[0].clamp(min=0).numpy() / 2, (4, 4))
    torch.testing.assert_close(found[0], images[0] * torch.from_numpy(by_loops), rtol=0, atol=1e-6)
    assert not found[1].any()  # constant: it shows nothing, and keeping all would be a perfect score


def test_adcc_is_the_harmonic_mean_of_the_loops():
    shown, again = noise(3, 5, 5).abs().clamp(max=1), noise(3, 5, 5, seed=2).abs().clamp(max=1)
    found = legacy.adcc(shown.float(), again.float(), CLEAN[:3], FADED[:3])
    for at in range(3):
        expected = oracles.adcc(shown[at].numpy(), again[at].numpy(), float(CLEAN[at]), float(FADED[at]))
        assert found[at].item() == pytest.approx(expected, abs=1e-6)


def test_adcc_of_a_perfect_an_inverted_and_a_blank_map():
    mask = square().float()[None]
    one = CLEAN[3:4]
    assert legacy.adcc(mask, mask, one, one).item() == pytest.approx(3 / (2 + 1 / (1 - 9 / 64)))
    assert legacy.adcc(mask, 1 - mask, one, one).item() == 0  # coherency 0
    assert legacy.adcc(0 * mask, 0 * mask, one, one).item() == 0
