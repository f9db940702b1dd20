"""The script that makes the demo: its scenes again to the bit, its training repeatable."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.demo import demo_expectation, demo_images, demo_masks, demo_metadata, demo_network
from whycam.testbeds import scenes

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def make_demo() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        return importlib.import_module("make_demo")


@pytest.fixture(scope="module")
def sources() -> tuple:
    return scenes.load_sources(demo_metadata()["seed"])


def same_pixels(one: Path, other: Path) -> bool:
    with Image.open(one) as first, Image.open(other) as second:
        return first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))


def test_the_bundled_photographs_decode_to_the_pixels_that_were_used():
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


def test_the_seed_decides_the_weights(make_demo: ModuleType, sources: tuple):
    recipe = make_demo.Recipe(small_steps=3, full_steps=1, batch=10)
    first, second = (make_demo.train(sources[0], 5, recipe).state_dict() for _ in range(2))
    other = make_demo.train(sources[0], 6, recipe).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_poor_network_is_not_shipped(make_demo: ModuleType, sources: tuple):
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
