"""The script that makes the demo: its scenes again to the bit, its splits apart, its training repeatable."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.demo import demo_expectation, demo_images, demo_masks, demo_metadata, demo_network

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def make_demo() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        return importlib.import_module("make_demo")


@pytest.fixture(scope="module")
def scenes(make_demo: ModuleType) -> ModuleType:
    return importlib.import_module("demo_scenes")


@pytest.fixture(scope="module")
def sources(scenes: ModuleType) -> tuple:
    return scenes.load_sources(demo_metadata()["seed"])


def same_pixels(one: Path, other: Path) -> bool:
    with Image.open(one) as first, Image.open(other) as second:
        return first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))


def test_the_bundled_photographs_decode_to_the_pixels_that_were_used(scenes: ModuleType):
    assert scenes.photograph_digests() == demo_metadata()["photographs"]


@pytest.mark.parametrize("index", [0, 13, 23])
def test_a_scene_made_again_from_the_seed_is_the_shipped_one_to_the_bit(
    make_demo: ModuleType, tmp_path: Path, index: int
):
    seed = demo_metadata()["seed"]
    make_demo.main(["--seed", str(seed), "--scene", str(index), "--out", str(tmp_path)])
    image, mask = demo_images()[index], demo_masks()[index]
    assert same_pixels(tmp_path / "images" / image.name, image)
    assert same_pixels(tmp_path / "masks" / mask.name, mask)


def test_another_seed_gives_other_scenes(scenes: ModuleType, sources: tuple):
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


def test_the_splits_share_no_photograph_pixel_and_lose_none(scenes: ModuleType, sources: tuple):
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


def test_outside_the_digits_edge_every_pixel_is_the_photographs(scenes: ModuleType, sources: tuple):
    seed = demo_metadata()["seed"]
    chance = scenes.uniform(scenes.stream(seed, 9), 20)
    made = scenes.render(sources[0], chance)
    crops = sources[0].backdrops.crops(made.photographs, chance[:, 3:5], scenes.SIDE)
    near = torch.nn.functional.max_pool2d(made.masks.float()[:, None], 7, stride=1, padding=3) > 0
    assert torch.equal(made.images.where(~near, 0), crops.where(~near, 0))
    assert near.float().mean() < 0.4


@pytest.mark.parametrize("side", [56, 96])
def test_the_whole_digit_stays_on_the_canvas_at_the_stated_height(
    scenes: ModuleType, sources: tuple, side: int
):
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


def test_every_ten_scenes_hold_each_class_once(scenes: ModuleType):
    labels = scenes.balanced_classes(torch.rand(200, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(labels.reshape(20, 10).sort(dim=1).values, torch.arange(10).expand(20, 10))


def test_a_held_out_scene_does_not_depend_on_how_many_are_made(scenes: ModuleType, sources: tuple):
    seed = demo_metadata()["seed"]
    few, many = (
        scenes.held_out_scenes(sources[1], seed, 20)[0],
        scenes.held_out_scenes(sources[1], seed, 60)[0],
    )
    assert torch.equal(few.images, many.images[:20])
    assert torch.equal(few.masks, many.masks[:20])


def test_shrinking_averages_blocks_and_rounds_half_up(scenes: ModuleType):
    pixels = np.array([[0, 1, 9], [0, 1, 9], [7, 7, 7]], dtype=np.uint8)[:, :, None].repeat(3, axis=2)
    assert scenes.shrink(pixels, 2).tolist() == [[[1, 1, 1]]]
    np.testing.assert_array_equal(scenes.shrink(pixels, 1), pixels)


def test_the_seed_decides_the_weights(make_demo: ModuleType, sources: tuple):
    recipe = make_demo.Recipe(small_steps=3, full_steps=1, batch=10)
    first, second = (make_demo.train(sources[0], 5, recipe).state_dict() for _ in range(2))
    other = make_demo.train(sources[0], 6, recipe).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_poor_network_is_not_shipped(make_demo: ModuleType, scenes: ModuleType, sources: tuple):
    lots = scenes.held_out_scenes(sources[1], 0, 20)
    with pytest.raises(SystemExit, match=r"below 0\.97"):
        make_demo.measure(make_demo.DemoNet().eval(), lots, 0)


def test_a_scene_is_not_written_over_the_package(make_demo: ModuleType, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        make_demo.main(["--scene", "3"])
    assert "needs a number from 0 on, and --out" in capsys.readouterr().err


def test_what_doctor_expects_is_what_the_script_writes(make_demo: ModuleType, tmp_path: Path):
    image = demo_images()[0]
    with Image.open(image) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    make_demo.write_expected(tmp_path, demo_network(), pixels, image.name)
    found, shipped = json.loads((tmp_path / "expected.json").read_text()), demo_expectation()
    assert found.keys() == shipped.keys()
    np.testing.assert_allclose(found.pop("map"), shipped.pop("map"), atol=2e-4)
    assert found == pytest.approx(shipped, abs=1e-3)
