"""A run folder is measured as it is: its own maps, its images read again, nothing lost by a kill."""

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

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import whycam
from whycam.data.masks import read_masks
from whycam.demo import demo_images, demo_masks
from whycam.errors import RunError, UsageError
from whycam.evaluation import CONTROLS, evaluate, evaluate_run
from whycam.evaluation.run import LOG_NAME
from whycam.methods import FlipAverage
from whycam.models import LoadedModel, Provenance
from whycam.runs import RunRequest, run_explain
from whycam.store import read_metrics
from whycam.targets import Contrast

COUNT = 6
QUICK: dict[str, Any] = {"metrics": ["srg", "energy", "iou"], "steps": 3}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return whycam.load("demo")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Give a folder with images, their masks, and a run of two methods and a control on them."""
    place = tmp_path_factory.mktemp("evaluated")
    for kind, paths in (("images", demo_images()), ("masks", demo_masks())):
        (place / kind).mkdir()
        for path in paths[:COUNT]:
            shutil.copy(path, place / kind)
    explain(whycam.load("demo"), place)
    return place


def explain(model: LoadedModel, place: Path, **changes: Any) -> None:
    methods = ("gradcam", "layercam", "random")
    run_explain(
        RunRequest(model=model, sources=(place / "images",), folder=place / "run", methods=methods, **changes)
    )


@pytest.fixture
def run(place, tmp_path) -> Path:
    """Give a copy of the run, beside copies of its images at another place: the run knows the first."""
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def masks_of(place: Path) -> Any:
    return read_masks(place / "masks")


def test_the_figures_are_those_of_the_same_maps_measured_in_memory(model, place, run):
    found = evaluate_run(run, model, masks=masks_of(place), **QUICK)
    truth = torch.stack(
        [torch.from_numpy(np.array(Image.open(path))) for path in sorted((place / "masks").iterdir())]
    )
    images = sorted((place / "images").iterdir())
    again = evaluate(model, images, ["gradcam", "layercam"], masks=truth, layer="features", **QUICK)
    assert found.evaluation.methods == again.methods == ("gradcam", "layercam", *CONTROLS)
    for method in again.methods:
        for column, values in again.measured.of(method).figures.items():
            # a run folder keeps a map's values to three digits, which may swap pixels of one value
            assert found.evaluation.measured.of(method).figures[column] == pytest.approx(values, abs=0.02)


def test_the_folder_holds_a_row_an_image_and_method_and_what_may_be_concluded(model, place, run):
    found = evaluate_run(run, model, masks=masks_of(place), command=("whycam", "evaluate"), **QUICK)
    kept = read_metrics(run)
    table = kept.table().to_pylist()
    assert [(row["index"], row["method"]) for row in table] == [
        (number, method) for number in range(COUNT) for method in found.evaluation.methods
    ]
    assert {row["method"] for row in table if row["control"]} == set(CONTROLS)
    assert [row["energy"] for row in table[: len(found.evaluation.methods)]] == [
        found.evaluation.values(method, "energy")[0] for method in found.evaluation.methods
    ]
    assert len(table[0]["most_blur"]) == 4
    document = kept.document
    assert document["columns"] == json.loads(json.dumps(found.evaluation.to_document()["columns"]))
    assert (document["images"], document["command"]) == (COUNT, ["whycam", "evaluate"])
    assert document["settings"]["metrics"] == QUICK["metrics"]
    assert document["settings"]["masks"] == masks_of(place).describe()
    assert not (run / LOG_NAME).exists()


def test_no_batch_size_changes_a_figure(model, place, tmp_path):
    one, four = (Path(shutil.copytree(place / "run", tmp_path / name)) for name in ("one", "four"))
    evaluate_run(one, model, masks=masks_of(place), batch_size=1, **QUICK)
    evaluate_run(four, model, masks=masks_of(place), batch_size=4, **QUICK)
    rows = [pq.read_table(folder / "metrics.parquet").to_pylist() for folder in (one, four)]
    for row, other in zip(*rows, strict=True):
        for name, value in row.items():
            near = pytest.approx(value, abs=1e-4, nan_ok=True) if isinstance(value, float | list) else value
            assert other[name] == near, name


def test_a_second_call_measures_nothing_and_gives_the_same(model, place, run):
    first = evaluate_run(run, model, masks=masks_of(place), **QUICK)
    before = (run / "evaluation.json").read_bytes()
    second = evaluate_run(run, model, masks=masks_of(place), **QUICK)
    assert (first.reused, second.reused) == (0, COUNT)
    assert second.evaluation.figures == first.evaluation.figures
    assert second.evaluation.to_document()["curves"] == first.evaluation.to_document()["curves"]
    assert (run / "evaluation.json").read_bytes() == before


def test_other_settings_are_refused_and_measured_after_a_restart(model, run):
    evaluate_run(run, model, metrics=["srg"], steps=3)
    with pytest.raises(RunError, match=r"other settings: steps was 3, now 4; .*--restart"):
        evaluate_run(run, model, metrics=["srg"], steps=4)
    found = evaluate_run(run, model, metrics=["srg"], steps=4, existing="restart")
    assert (found.reused, read_metrics(run).document["steps"]) == (0, 4)


KILLED = """
    import os, signal, sys
    import whycam
    from whycam.evaluation import evaluate_run

    def end(finished, planned):
        if finished >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    evaluate_run(sys.argv[1], whycam.load("demo"), metrics=["srg"], steps=3, batch_size=2, progress=end)
"""


def test_after_a_kill_the_same_call_goes_on_and_ends_as_an_unbroken_one(model, place, run, tmp_path):
    code = [sys.executable, "-c", textwrap.dedent(KILLED), str(run)]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(code, env=path, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (run / "evaluation.json").exists()
    found = evaluate_run(run, model, metrics=["srg"], steps=3, batch_size=2)
    assert found.reused == 2
    whole = Path(shutil.copytree(place / "run", tmp_path / "whole"))
    evaluate_run(whole, model, metrics=["srg"], steps=3, batch_size=2)
    tables = [pq.read_table(folder / "metrics.parquet") for folder in (run, whole)]
    assert tables[0].equals(tables[1])


def test_images_that_are_gone_or_have_changed_are_skipped_with_the_reason(model, place, tmp_path):
    mine = Path(shutil.copytree(place, tmp_path / "mine"))
    shutil.rmtree(mine / "run")
    (mine / "images" / "broken.png").write_bytes(b"no picture")
    explain(model, mine)
    names = sorted(path.name for path in (mine / "images").iterdir())
    (mine / "images" / names[0]).unlink()
    Image.new("RGB", (96, 96)).save(mine / "images" / names[1])
    found = evaluate_run(mine / "run", model, metrics=["srg"], steps=3)
    reasons = dict(found.odd.skipped)
    assert found.odd.skipped_count == 3
    assert "not what it was" in reasons[names[1]]
    assert {names[0], "broken.png"} < set(reasons)
    assert len(found.evaluation.measured) == COUNT - 2
    assert read_metrics(mine / "run").document["skipped"]["count"] == 3


def test_an_image_without_a_mask_has_no_figure_of_place_and_is_counted(model, place, run, tmp_path):
    some = Path(shutil.copytree(place / "masks", tmp_path / "some"))
    sorted(some.iterdir())[2].unlink()
    found = evaluate_run(run, model, masks=read_masks(some), metrics=["energy", "pointing"])
    assert found.odd.without_mask == 1
    assert found.evaluation.figure("gradcam", "energy").n == COUNT  # nothing inside of nothing
    assert found.evaluation.figure("gradcam", "pointing").undefined == 1


def test_another_model_is_refused(model, run):
    other = replace(model, provenance=Provenance("file", "other.pth", "ab" * 32))
    with pytest.raises(UsageError, match="the model has SHA-256 abababababab"):
        evaluate_run(run, other, metrics=["srg"])
    sized = replace(model, preprocessing=model.preprocessing.with_size((64, 64)))
    with pytest.raises(UsageError, match="not how the run's were prepared"):
        evaluate_run(run, sized, metrics=["srg"])


def test_a_model_of_other_weights_is_seen_by_its_scores(model, run):
    from whycam.evaluation.sanity import randomised

    with pytest.raises(UsageError, match="is not the run's"):
        evaluate_run(run, replace(model, module=randomised(model.module)), metrics=["srg"])
    assert not (run / "evaluation.json").exists()


def test_an_unfinished_run_is_refused(model, run):
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(RunError, match="not finished; go on with whycam explain"):
        evaluate_run(run, model)


def test_a_target_that_is_more_than_a_class_is_asked_for_again(model, place, tmp_path):
    mine = Path(shutil.copytree(place, tmp_path / "mine"))
    shutil.rmtree(mine / "run")
    explain(model, mine, target=Contrast(3, 5))
    with pytest.raises(UsageError, match=r"is not the run's.*give the model, weights and target"):
        evaluate_run(mine / "run", model, metrics=["srg"], steps=3)
    found = evaluate_run(mine / "run", model, target=Contrast(3, 5), metrics=["srg"], steps=3)
    assert len(found.evaluation.measured) == COUNT


def test_smoothed_maps_are_explained_again_only_as_smoothed(model, place, tmp_path):
    mine = Path(shutil.copytree(place, tmp_path / "mine"))
    shutil.rmtree(mine / "run")
    run_explain(
        RunRequest(model=model, sources=(mine / "images",), folder=mine / "run", smoothing=FlipAverage())
    )
    with pytest.raises(UsageError, match="smoothed by FlipAverage"):
        evaluate_run(mine / "run", model, metrics=["contrast"])
    found = evaluate_run(mine / "run", model, metrics=["contrast"], smoothing=FlipAverage())
    assert found.evaluation.figure("gradcam", "contrast").mean > 0


def test_nothing_is_concluded_of_a_model_with_random_weights(place, tmp_path):
    from whycam.evaluation.sanity import randomised

    mine = Path(shutil.copytree(place, tmp_path / "mine"))
    shutil.rmtree(mine / "run")
    trained = whycam.load("demo")
    untrained = replace(trained, module=randomised(trained.module), provenance=Provenance("random"))
    explain(untrained, mine)
    found = evaluate_run(mine / "run", untrained, masks=masks_of(place), steps=3)
    for column in found.evaluation.columns:
        assert not found.evaluation.verdict(column).best, column


def test_nothing_is_concluded_from_random_maps(model, place, tmp_path):
    mine = Path(shutil.copytree(place, tmp_path / "mine"))
    shutil.rmtree(mine / "run")
    run_explain(RunRequest(model=model, sources=(mine / "images",), folder=mine / "run", methods=("random",)))
    found = evaluate_run(mine / "run", model, metrics=["srg", "tilecorr"], steps=3)
    assert found.evaluation.methods == tuple(CONTROLS)
    for column in found.evaluation.columns:
        assert "nothing can be concluded" in found.evaluation.verdict(column).sentence
