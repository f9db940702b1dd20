"""A comparison explains, measures and recommends; the same again at each call, and after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import whycam
from whycam.data.masks import read_masks
from whycam.demo import demo_images, demo_masks
from whycam.demo.network import DemoNet
from whycam.errors import MethodError, RunError
from whycam.evaluation import CONTROLS
from whycam.evaluation.compare import COMPARISON_NAME, Comparison, compare
from whycam.models import LoadedModel, Provenance
from whycam.runs import RunRequest
from whycam.store import read_run
from whycam.targets import Value

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 12
METHODS = ("gradcam", "hirescam", "eigencam", "rollout")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return whycam.load("demo")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with images and their masks."""
    place = tmp_path_factory.mktemp("compared")
    for kind, paths in (("images", demo_images()), ("masks", demo_masks())):
        (place / kind).mkdir()
        for path in paths[:COUNT]:
            shutil.copy(path, place / kind)
    return place


def compared(
    model: LoadedModel, place: Path, folder: Path, *, seed: int = 0, masks: bool = False, **changes: Any
) -> Comparison:
    asked: dict[str, Any] = {"methods": METHODS, "sources": (place / "images",)} | changes
    truth = read_masks(place / "masks") if masks else None
    return compare(RunRequest(model=model, folder=folder, **asked), masks=truth, steps=3, seed=seed)


@pytest.fixture(scope="module")
def found(model: LoadedModel, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    # a fixture of the module, so that it has to take its own single thread
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return compared(model, place, tmp_path_factory.mktemp("found") / "run", masks=True)
    finally:
        torch.set_num_threads(threads)


def document_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / COMPARISON_NAME).read_text()))


def repeatable(folder: Path) -> dict[str, Any]:
    """Return all that must be the same at each call."""
    document = document_of(folder)
    del document["times"]
    return document


def test_the_recommended_method_knows_the_class_and_its_reason_is_in_the_folder(found: Comparison) -> None:
    recommended = found.recommendation
    assert recommended.method == "gradcam"
    assert recommended.leaders == ("gradcam",)
    blind = next(one for one in recommended.standings if one.method == "eigencam")
    assert "blind to the class" in blind.objection
    document = document_of(found.folder)
    assert document == dict(found.document)
    assert (document["recommended"], document["reason"]) == ("gradcam", recommended.reason)
    assert document["images"] == COUNT
    lines = {line["method"]: line for line in document["methods"]}
    assert set(lines) == {"gradcam", "hirescam", "eigencam", *CONTROLS}
    assert all(lines[control] == lines[control] | {"control": True} for control in CONTROLS)
    assert lines["gradcam"]["same_maps_as"] == ["hirescam"]  # behind an averaging head they are one method
    assert lines["gradcam"]["srg"]["mean"] > max(lines[control]["srg"]["mean"] for control in CONTROLS)
    assert lines["gradcam"]["figures"]["energy"]["mean"] > lines["centre"]["figures"]["energy"]["mean"]


def test_a_method_that_does_not_run_on_the_model_is_left_out_with_its_reason(found: Comparison) -> None:
    ((method, reason),) = found.tried.left_out
    assert method == "rollout"
    assert "attention" in reason
    assert document_of(found.folder)["left_out"] == [{"method": method, "reason": reason}]
    assert "rollout" not in found.evaluation.methods


def test_every_method_is_timed_beside_a_forward(found: Comparison) -> None:
    assert set(found.tried.times) == {"gradcam", "hirescam", "eigencam"}
    assert all(time > 0 for time in found.tried.times.values())
    assert found.tried.forward_seconds > 0


def test_the_folder_is_a_run_that_everything_else_reads(found: Comparison) -> None:
    run = read_run(found.folder)
    assert run.manifest.finished
    assert {row.method for row in run.rows()} == {"gradcam", "hirescam", "eigencam"}
    assert whycam.store.read_metrics(found.folder) is not None


def test_a_seed_gives_the_same_comparison_to_the_digit(
    model: LoadedModel, place: Path, found: Comparison, tmp_path: Path
) -> None:
    compared(model, place, tmp_path / "run", masks=True)
    assert repeatable(tmp_path / "run") == repeatable(found.folder)


def test_five_seeds_recommend_the_same_method(
    model: LoadedModel, place: Path, found: Comparison, tmp_path: Path
) -> None:
    others = [
        compared(model, place, tmp_path / str(seed), seed=seed, methods=METHODS[:3]) for seed in range(1, 5)
    ]
    assert {other.recommendation.method for other in others} == {found.recommendation.method}
    # the seed counts: controls and intervals are drawn by it
    assert len({other.evaluation.figure("random", "srg_blur_logit").mean for other in others}) == 4


def test_masks_are_measured_where_there_are_some_and_change_no_recommendation(
    model: LoadedModel, place: Path, found: Comparison, tmp_path: Path
) -> None:
    without = compared(model, place, tmp_path / "run")
    assert "energy" in found.evaluation.columns
    assert "energy" not in without.evaluation.columns
    assert without.recommendation.method == found.recommendation.method
    assert without.recommendation.leaders == found.recommendation.leaders


def test_on_random_weights_no_method_is_recommended(place: Path, tmp_path: Path) -> None:
    demo = whycam.load("demo")
    torch.manual_seed(1)
    untrained = replace(demo, module=DemoNet().eval(), provenance=Provenance(kind="random"))
    found = compared(untrained, place, tmp_path / "run", methods=METHODS[:3])
    assert found.recommendation.method is None
    assert document_of(found.folder)["recommended"] is None
    assert "nothing can be concluded: the model's probability falls by only" in found.recommendation.reason


class Brightness(nn.Module):
    """Gives one number, as a regression does: how much red there is."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.head = nn.Linear(8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.head(self.features(images).relu().mean((2, 3)))
        return values


def test_a_model_without_classes_is_compared_without_contrast(place: Path, tmp_path: Path) -> None:
    demo = whycam.load("demo")
    torch.manual_seed(1)
    regression = replace(demo, module=Brightness().eval(), class_names=None)
    found = compared(regression, place, tmp_path / "run", methods=("gradcam", "layercam"), target=Value(0))
    assert "contrast" not in found.evaluation.columns
    assert "srg_blur_logit" in found.evaluation.columns
    assert found.evaluation.evidence is None


def test_methods_of_which_none_runs_are_one_error_and_nothing_is_written(
    model: LoadedModel, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(MethodError, match="none of the 2 methods runs on this model; the first says"):
        compared(model, place, tmp_path / "run", methods=("rollout", "chefer"))
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_refused(model: LoadedModel, place: Path, found: Comparison) -> None:
    before = sorted(path.name for path in found.folder.iterdir())
    with pytest.raises(RunError):
        compared(model, place, found.folder)
    assert sorted(path.name for path in found.folder.iterdir()) == before


KILLED = """
import sys
import torch
from pathlib import Path
import whycam
from whycam.data.masks import read_masks
from whycam.evaluation.compare import compare
from whycam.runs import RunRequest

torch.set_num_threads(1)
place, folder = map(Path, sys.argv[1:3])
steps = []
def advance(what, finished, planned):
    if what != (steps[-1] if steps else None):
        steps.append(what)
        print(what, flush=True)
        if len(sys.argv) > 3 and what == sys.argv[3]:
            print("now", flush=True)
            sys.stdin.read()  # here the signal comes
compare(
    RunRequest(model=whycam.load("demo"), sources=(place / "images",), folder=folder,
               methods=("gradcam", "hirescam", "eigencam", "rollout"), existing="resume"),
    masks=read_masks(place / "masks"), steps=3, seed=0, advance=advance,
)
"""


@pytest.mark.parametrize("moment", ["explaining", "measuring"])
def test_after_a_kill_the_same_call_ends_as_an_unbroken_one(
    place: Path, found: Comparison, tmp_path: Path, moment: str
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(place), str(tmp_path / "run")]
    killed = subprocess.Popen([*command, moment], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    while killed.stdout.readline().strip() != "now":
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert killed.stdin is not None
    killed.stdin.close()
    assert not (tmp_path / "run" / COMPARISON_NAME).exists()
    subprocess.run(command, check=True, capture_output=True)
    assert repeatable(tmp_path / "run") == repeatable(found.folder)
