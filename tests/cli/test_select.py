"""``whycam select``: from a folder of checkpoints to a ranking and pictures, killed or not."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from tests.selection.conftest import CLASSES, fill, save, state

IMAGES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("select") / "data"
    for split in ("val", "test"):
        for seed, name in enumerate(CLASSES):
            fill(folder / split / name, IMAGES // 3, seed)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give checkpoints as ``whycam train`` leaves them, one of them empty."""
    folder = tmp_path_factory.mktemp("trained") / "weights"
    folder.mkdir()
    for number in (1, 2, 10):
        save(folder / f"model-{number}.pth", state(number))
    (folder / "model-3.pth").touch()
    return folder


@pytest.fixture(scope="module")
def answered(whycam: Any, trained: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give what a call without any flag of the model says, and its folder."""
    out = tmp_path_factory.mktemp("outs") / "out"
    options = ("--from", 1, "--to", 11, "--images", 0, 5, 99, "-m", "gradcam", "-m", "random")
    done = whycam("select", trained, "--data", data, *options, "--out", out, "--json")
    assert done.code == 0, done.err
    return done, out


def test_with_files_beside_the_checkpoints_no_flag_of_the_model_is_needed(answered: Any) -> None:
    done, out = answered
    ranked = done.json["ranking"]
    assert sorted(one["checkpoint"] for one in ranked) == ["model-1.pth", "model-10.pth", "model-2.pth"]
    assert [one["accuracy"] for one in ranked] == sorted((one["accuracy"] for one in ranked), reverse=True)
    assert done.json["best"] == ranked[0]["checkpoint"]
    assert {one["images"] for one in ranked} == {IMAGES}
    assert done.json["missing_numbers"] == [[4, 9], [11, 11]]
    assert done.json["explained"]["images"] == 2
    written = json.loads((out / "ranking.json").read_text())
    assert written == {key: value for key, value in done.json.items() if key != "explained"}
    with (out / "ranking.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["checkpoint"], float(row["loss"])) for row in rows] == [
        (str(one["rank"]), one["checkpoint"], one["loss"]) for one in ranked
    ]


def test_what_was_odd_is_told_a_line_each(answered: Any) -> None:
    done, _ = answered
    assert [one["checkpoint"] for one in done.json["skipped"]] == ["model-3.pth"]
    warnings = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert sum("--split val" in line for line in warnings) == 1
    assert sum("there is no image 99" in line for line in warnings) == 1
    assert sum("4 to 9, 11" in line for line in warnings) == 1


def test_pictures_carry_folder_accuracy_and_index_and_rows_the_true_label(answered: Any) -> None:
    done, out = answered
    accuracy = f"{done.json['ranking'][0]['accuracy']:.4f}"
    expected = {
        f"weights-acc{accuracy}-{index:06d}.{method}.png"
        for index in (0, 5)
        for method in ("gradcam", "random")
    }
    assert {path.name for path in (out / "run" / "overlays").iterdir()} == expected
    rows = pq.read_table(out / "run" / "explanations.parquet").to_pylist()
    assert [(row["label"], row["prediction_name"] in CLASSES) for row in rows] == [
        *[("dog", True)] * 2,
        *[("owl", True)] * 2,
    ]
    manifest = json.loads((out / "run" / "manifest.json").read_text())
    assert manifest["model"]["weights_sha256"] == done.json["ranking"][0]["sha256"]
    assert manifest["sources"] == [str(out / "images.csv")]


def test_for_people_there_is_a_table_with_the_best_first_and_what_was_skipped(
    whycam: Any, trained: Path, data: Path, tmp_path: Path
) -> None:
    done = whycam(
        "select", trained, "--data", data, "--split", "val", "--images", 77, "--out", tmp_path / "out"
    )
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["rank", "checkpoint", "accuracy"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    best = lines[1].split()[1]
    assert any(line.startswith(f"{best} is the best of 3 checkpoints on 12 images of val") for line in lines)
    assert any("skipped   model-3.pth: 'model-3.pth' is empty" in line for line in lines)
    assert lines[-1] == "no image was explained"
    assert "warning" not in done.err.replace("warning: there is no image 77", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "dev"), "has no split 'dev'"),
        (("--pattern", "*.pt"), "no file in"),
        (("--from", 3, "--to", 2), "goes from 3 to 2"),
        (("-m", "gradcamm"), "gradcamm"),
        (("--images", "first"), "--images"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    whycam: Any, trained: Path, data: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    done = whycam("select", trained, "--data", data, *options, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert said in done.error_line
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def asked(
    factory: Any, whycam: Any, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[object, ...]:
    """Give a call that ranks five checkpoints of the network that can be held in the middle."""
    folder = tmp_path_factory.mktemp("own") / "own"
    folder.mkdir()
    for number in range(5):
        draws = torch.Generator().manual_seed(number)
        shapes = {
            "features.0.weight": (8, 3, 3, 3),
            "features.0.bias": (8,),
            "head.weight": (3, 8),
            "head.bias": (3,),
        }
        drawn = {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}
        torch.save(drawn, folder / f"model-{number}.pth")
    reference, *options = factory
    model = ("--model", reference, *options, "--num-classes", 3)
    return "select", folder, "--data", data, "--split", "val", *model, "--batch-size", 4


def without_times(document: Any) -> Any:
    return [{**one, "seconds_an_image": None} for one in document["ranking"]]


@pytest.fixture(scope="module")
def unbroken(whycam: Any, asked: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    done = whycam(*asked, "--out", out, "--json")
    assert done.code == 0, done.err
    return done.json, out


def stopped(whycam: Any, asked: Any, out: Path, stop: signal.Signals) -> Any:
    """Stop a call in the third checkpoint: one forward to count, two to warm up, three a checkpoint."""
    started = whycam.start(*asked, "--out", out, HOLD=str(1 + 2 + 3 * 2 + 2))
    deadline = time.monotonic() + 120
    while not (out / "results" / "of-model-1.pth.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(started.process, stop)
    return whycam.wait(started)


def pictures(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")}


def test_a_killed_selection_resumes_to_what_an_unbroken_one_gives(
    whycam: Any, asked: Any, unbroken: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert stopped(whycam, asked, out, signal.SIGKILL).code == -signal.SIGKILL
    assert {path.name for path in (out / "results").iterdir()} == {
        "settings.json",
        "of-model-0.pth.json",
        "of-model-1.pth.json",
    }
    first = json.loads((out / "results" / "of-model-0.pth.json").read_text())
    resumed = whycam(*asked, "--out", out, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["reused"] == 2
    assert without_times(resumed.json) == without_times(unbroken[0])
    kept = next(one for one in resumed.json["ranking"] if one["checkpoint"] == "model-0.pth")
    assert kept["seconds_an_image"] == first["score"]["seconds_an_image"]
    assert pictures(out) == pictures(unbroken[1])
    assert {path.name for path in out.iterdir()} == {path.name for path in unbroken[1].iterdir()}
    again = whycam(*asked, "--out", out, "--resume", "--json")
    assert (again.code, again.json["reused"], again.json["explained"]["reused"]) == (0, 5, 3)
    assert again.json["ranking"] == resumed.json["ranking"]


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(whycam: Any, asked: Any, tmp_path: Path) -> None:
    interrupted = stopped(whycam, asked, tmp_path / "out", signal.SIGINT)
    assert interrupted.code == 130
    assert "Traceback" not in interrupted.err
    assert "2 results kept" in interrupted.error_line
    assert interrupted.error_line.endswith("--resume")
