"""What ``whycam.load`` returns, through the public functions."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import whycam
from whycam.demo import demo_images

PICTURE = str(demo_images()[3])


@pytest.fixture(scope="module")
def demo() -> whycam.LoadedModel:
    return whycam.load("demo")


def test_the_layer_is_chosen_for_a_loaded_model_and_its_pictures(demo: whycam.LoadedModel) -> None:
    choice = whycam.choose_layer(demo, [PICTURE])
    assert (choice.path, choice.grid) == ("features", (12, 12))
    assert choice.reason == whycam.explain(demo, [PICTURE]).reason


def test_concepts_of_a_loaded_model(demo: whycam.LoadedModel) -> None:
    found = whycam.concepts(demo, [PICTURE], count=2, top=1)
    assert found.maps.shape == (1, 2, 12, 12)
    assert 3 in found.classes.flatten().tolist()


def test_a_saved_explanation_says_where_the_model_comes_from(tmp_path: Path) -> None:
    model = whycam.load("timm:test_resnet")
    smoothing = whycam.NoiseAverage(n=2)
    whycam.explain(model, [PICTURE], smoothing=smoothing).save(tmp_path / "run")
    manifest = whycam.read_run(tmp_path / "run").manifest
    assert manifest.model.reference == "timm:test_resnet"
    assert "random weights" in manifest.model.provenance
    assert manifest.preprocessing["size"] == [160, 160]
    assert "all evidence passes through" in manifest.layer.reason
    assert "NoiseAverage(n=2" in str(manifest.methods[0].parameters)


def test_layers_are_fused_in_the_order_they_run_in_and_once(demo: whycam.LoadedModel) -> None:
    names = ["features.block3", "features.block6"]
    maps = [
        whycam.explain(demo, [PICTURE], method="layercam", layer=some).maps
        for some in (names, names[::-1], [*names, names[0]])
    ]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


def test_what_is_no_model_is_refused_in_one_line() -> None:
    """In a process of its own: here the shape checker would be the first to refuse."""
    code = """
import torch, whycam
for model in ("timm:resnet18", lambda images: images, None):
    try:
        whycam.explain(model, torch.rand(1, 3, 8, 8))
    except whycam.UsageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(";")[0] for line in lines] == [
        f"the model is a {kind}" for kind in ("str", "function", "NoneType")
    ]
    assert all("give an nn.Module" in line for line in lines)


def test_a_models_own_failure_carries_what_was_expected(demo: whycam.LoadedModel) -> None:
    with pytest.raises(RuntimeError) as caught:
        whycam.explain(demo.module, torch.rand(2, 4, 96, 96), layer="features")
    (note,) = caught.value.__notes__
    assert "[2, 4, 96, 96]" in note
    assert "torch.float32" in note


def test_explanations_compare_by_identity_and_print_short(demo: whycam.LoadedModel) -> None:
    one, other = (whycam.explain(demo, [PICTURE]) for _ in range(2))
    assert one != other
    assert len(repr(one)) < 600
