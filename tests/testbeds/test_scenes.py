"""The scenes that demo and test beds are made of: exact truth, and splits that share nothing."""

import sys

import numpy as np
import pytest
import torch

from whycam.demo import demo_metadata
from whycam.errors import MissingExtraError
from whycam.testbeds import scenes


@pytest.fixture(scope="module")
def sources() -> tuple:
    return scenes.load_sources(demo_metadata()["seed"])


def test_another_seed_gives_other_scenes(sources: tuple):
    seed = demo_metadata()["seed"]
    image, _, _ = scenes.held_out_scene(sources[1], seed, 5)
    other, _, _ = scenes.held_out_scene(sources[1], seed + 1, 5)
    assert not torch.equal(image, other)


def test_no_digit_is_in_both_splits_and_none_is_lost(sources: tuple):
    from sklearn.datasets import load_digits

    training, held_out = (source.glyphs for source in sources)
    assert len(training.fields) + len(held_out.fields) == len(load_digits().target)
    seen, unseen = ({field.tobytes() for field in part.fields.numpy()} for part in (training, held_out))
    assert not seen & unseen


def test_the_splits_share_no_photograph_pixel_and_lose_none(sources: tuple):
    training, held_out = (source.backdrops for source in sources)
    for index, photograph in enumerate(scenes.PHOTOGRAPHS):
        pixels = scenes.photograph_pixels(photograph)
        parts = [
            part.pixels[part.start[index] :][: part.height[index] * part.width[index]].reshape(
                part.height[index], part.width[index], 3
            )
            for part in (training, held_out)
        ]
        np.testing.assert_array_equal(torch.cat(parts, dim=1).numpy(), pixels)


def test_outside_the_digits_edge_every_pixel_is_the_photographs(sources: tuple):
    seed = demo_metadata()["seed"]
    chance = scenes.uniform(scenes.stream(seed, 9), 20)
    made = scenes.render(sources[0], chance)
    crops = sources[0].backdrops.crops(made.photographs, chance[:, 3:5], scenes.SIDE)
    near = torch.nn.functional.max_pool2d(made.masks.float()[:, None], 7, stride=1, padding=3) > 0
    assert torch.equal(made.images.where(~near, 0), crops.where(~near, 0))
    assert near.float().mean() < 0.4


@pytest.mark.parametrize("side", [56, 96])
def test_the_whole_digit_stays_on_the_canvas_at_the_stated_height(sources: tuple, side: int):
    glyphs = sources[0].glyphs
    solid = torch.zeros(40, *glyphs.fields.shape[1:], dtype=torch.float64)
    ring = scenes.FINE
    solid[:, ring:-ring, ring:-ring] = 1  # a digit that fills its box
    chance = torch.rand(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round()
    chance[:, 1] = 0.5  # upright
    cover = scenes.ink_coverage(solid, chance, side) >= 0.5
    heights = cover.any(2).sum(1)
    expected = scenes.SMALLEST + chance[:, 0] * (min(side, scenes.LARGEST) - scenes.SMALLEST)
    assert (heights - expected).abs().max() <= 2
    assert torch.equal(heights, cover.any(1).sum(1))


def test_every_ten_scenes_hold_each_class_once():
    labels = scenes.balanced_classes(torch.rand(200, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(labels.reshape(20, 10).sort(dim=1).values, torch.arange(10).expand(20, 10))


def test_a_held_out_scene_does_not_depend_on_how_many_are_made(sources: tuple):
    seed = demo_metadata()["seed"]
    few, many = (
        scenes.held_out_scenes(sources[1], seed, 20)[0],
        scenes.held_out_scenes(sources[1], seed, 60)[0],
    )
    assert torch.equal(few.images, many.images[:20])
    assert torch.equal(few.masks, many.masks[:20])


def test_shrinking_averages_blocks_and_rounds_half_up():
    pixels = np.array([[0, 1, 9], [0, 1, 9], [7, 7, 7]], dtype=np.uint8)[:, :, None].repeat(3, axis=2)
    assert scenes.shrink(pixels, 2).tolist() == [[[1, 1, 1]]]
    np.testing.assert_array_equal(scenes.shrink(pixels, 1), pixels)


def test_without_its_digit_a_scene_is_the_photograph_alone(sources: tuple):
    chance = scenes.uniform(scenes.stream(3, 9), 20)
    made = scenes.render(sources[1], chance)
    assert torch.equal(
        made.grounds, sources[1].backdrops.crops(made.photographs, chance[:, 3:5], scenes.SIDE)
    )
    # the mask is where the digit covers: there nearly every pixel differs from the photograph
    differs = (made.images != made.grounds).any(1)
    assert differs[made.masks].float().mean() > 0.99


def test_labels_say_which_digits_are_drawn(sources: tuple):
    chance = scenes.uniform(scenes.stream(3, 9), 7)
    made = scenes.render(sources[0], chance, labels=torch.full((7,), 4))
    glyphs = sources[0].glyphs
    assert made.labels.tolist() == [4] * 7
    assert (made.digits >= glyphs.first[4]).all()
    assert (made.digits < glyphs.first[4] + glyphs.count[4]).all()


def test_an_absent_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*pip install 'whycam\[demo-source\]'"):
        scenes.load_glyphs(0)
    monkeypatch.setattr(scenes, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"skimage.*pip install 'whycam\[demo-source\]'"):
        scenes.load_backdrops()
