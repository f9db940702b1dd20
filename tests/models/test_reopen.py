"""A run's model is opened again from its manifest, and nobody's code is run for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whycam.errors import ModelError, UsageError
from whycam.models import load
from whycam.models.reopen import reopen
from whycam.runs import RunRequest
from whycam.runs.local import _manifest
from whycam.store import LayerRecord, Manifest, ModelRecord

LAYER = LayerRecord(paths=("layer4",), reason="given")


def manifest_of(model, recipe) -> Manifest:
    request = RunRequest(model=model, sources=("x.png",), folder=Path("run"), recipe=recipe)
    return _manifest(request, LAYER, 1)


def test_weights_classes_and_preprocessing_come_back_as_they_were(tmp_path):
    weights, names = tmp_path / "w.pth", tmp_path / "names.txt"
    torch.manual_seed(1)
    torch.save(load("timm:resnet10t", num_classes=3).module.state_dict(), weights)
    names.write_text("ant\nbee\n猫\n")
    model = load("timm:resnet10t", weights=weights, classes=names, size=64)
    again = reopen(manifest_of(model, {"weights": str(weights), "num_classes": None, "allow_partial": False}))
    assert again.provenance.sha256 == model.provenance.sha256
    assert again.class_names == ("ant", "bee", "猫")
    assert again.preprocessing == model.preprocessing
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.module(image), model.module(image))


def test_weights_that_moved_are_asked_for(tmp_path):
    model = load("timm:resnet10t", num_classes=3)
    with pytest.raises(UsageError, match=r"gone.pth.* is not there; give it with --weights FILE"):
        reopen(manifest_of(model, {"weights": str(tmp_path / "gone.pth")}))


@pytest.mark.parametrize("reference", ["evil.py:make", "os:system", "demo.py:make", "demos.py:make"])
def test_code_that_a_manifest_names_is_not_run(reference, tmp_path, monkeypatch):
    (tmp_path / reference.partition(":")[0]).write_text("raise SystemExit('ran')\n")
    monkeypatch.chdir(tmp_path)
    manifest = manifest_of(load("demo"), {})
    record = ModelRecord(reference=reference, provenance="", weights_sha256=None)
    with pytest.raises(ModelError, match="whose code would be run"):
        reopen(replace(manifest, model=record))


def test_the_demo_of_a_run_without_a_recipe_is_opened():
    again = reopen(replace(manifest_of(load("demo"), {}), settings={}))
    assert again.reference == "demo"
