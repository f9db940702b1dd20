"""Training as a whole: what it learns, what it writes, how it goes on, and what it refuses."""

import csv
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from whycam import load
from whycam.data import read_labelled
from whycam.errors import ImageError, MissingExtraError, RunError, UsageError
from whycam.models.new_head import load_with_new_head
from whycam.models.source import ModelOptions
from whycam.training import (
    EpochRecord,
    Listener,
    TrainingRequest,
    TrainingSettings,
    TrainingSummary,
    check_folder,
)
from whycam.training.images import Batches
from whycam.training.loop import Loop, run_loop, settled_precision

Train = Callable[..., TrainingSummary]

SETTINGS = {"epochs": 2, "seed": 3}


def weights_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.pth"))}


def figures_of(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    for row in rows:
        del row["seconds"]
    return rows


def assert_same(one: Path, other: Path) -> None:
    assert weights_of(one) == weights_of(other)
    assert figures_of(one) == figures_of(other)


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


@pytest.fixture(scope="module")
def unbroken(run_training: Train, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a training of two epochs that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "weights"
    run_training(colours, folder, **SETTINGS)
    return folder


@pytest.fixture(scope="module")
def learned(
    run_training: Train, colours: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingSummary]:
    folder = tmp_path_factory.mktemp("learned") / "weights"
    options = {"model": "timm:test_resnet", "size": (32, 32), "epochs": 3, "step": 7, "lr": 0.03}
    return folder, run_training(colours, folder, **options)


def test_a_trivial_data_set_is_learned(learned: tuple[Path, TrainingSummary]) -> None:
    _, summary = learned
    assert summary.best.val_accuracy >= 0.8
    assert summary.history[-1].train_loss < 0.7 * summary.history[0].train_loss


def test_the_folder_holds_a_checkpoint_an_epoch_the_best_and_nothing_unfinished(
    learned: tuple[Path, TrainingSummary],
) -> None:
    folder, summary = learned
    checkpoints = [*(f"model-{epoch}" for epoch in range(3)), "best"]
    expected = {f"{name}{ending}" for name in checkpoints for ending in (".pth", ".yaml")}
    assert {path.name for path in folder.iterdir()} == expected | {
        "history.csv",
        "curves.png",
        "training.state",
    }
    best = f"model-{summary.best.epoch}"
    for ending in (".pth", ".yaml"):
        assert (folder / f"best{ending}").read_bytes() == (folder / f"{best}{ending}").read_bytes()
    assert [int(row["epoch"]) for row in figures_of(folder)] == [0, 1, 2]
    with Image.open(folder / "curves.png") as curves:
        assert curves.width > 1000


def test_a_checkpoint_is_a_model_that_needs_no_flags_and_gives_the_figures_of_its_epoch(
    learned: tuple[Path, TrainingSummary], colours: Path
) -> None:
    folder, summary = learned
    data = read_labelled(colours)
    for record in summary.history:
        model = load(str(folder / f"model-{record.epoch}.pth"))
        assert model.class_names == data.class_names
        assert model.preprocessing.size == (32, 32)
        images = model.prepare([item.path for item in data.split("val")]).images
        labels = torch.tensor(data.class_indices("val"))
        with torch.no_grad():
            scores = model.module(images)
        right = (scores.argmax(1) == labels).float().mean().item()
        assert right == pytest.approx(record.val_accuracy, abs=1e-6)
        assert F.cross_entropy(scores, labels).item() == pytest.approx(record.val_loss, rel=1e-4)


def test_a_sidecar_says_how_its_checkpoint_was_trained(unbroken: Path, colours: Path) -> None:
    facts = yaml.safe_load((unbroken / "model-1.yaml").read_text())["training"]
    expected = {"epoch": 1, "seed": 3, "data": colours.name, "split": "folders", "train_images": 21}
    assert expected.items() <= facts.items()
    assert facts["lr"] == pytest.approx(0.05)
    assert facts["first_lr"] == 0.1
    assert facts["val_accuracy"] == pytest.approx(float(figures_of(unbroken)[1]["val_accuracy"]))


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1}])
def test_more_epochs_later_are_the_same_as_all_at_once(
    run_training: Train, colours: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    run_training(colours, tmp_path / "once", epochs=3, **options)
    run_training(colours, tmp_path / "twice", epochs=1, **options)
    later = run_training(colours, tmp_path / "twice", epochs=3, existing="resume", **options)
    assert later.reused == 1
    assert_same(tmp_path / "once", tmp_path / "twice")


def test_a_finished_training_that_goes_on_stays_as_it_is(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    run_training(colours, tmp_path / "weights", **SETTINGS)
    (tmp_path / "weights" / "best.pth").write_bytes(b"half")
    again = run_training(colours, tmp_path / "weights", existing="resume", **SETTINGS)
    assert (again.reused, len(again.history)) == (2, 2)
    assert_same(tmp_path / "weights", unbroken)


def test_the_result_depends_on_the_seed_and_not_on_memory_threads_or_the_callers_random_state(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    torch.manual_seed(77)
    np.random.seed(77)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    run_training(colours, tmp_path / "same", memory=0, workers=1, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]
    assert_same(tmp_path / "same", unbroken)
    run_training(colours, tmp_path / "other", **(SETTINGS | {"seed": 4}))
    assert weights_of(tmp_path / "other") != weights_of(unbroken)


def test_a_broken_image_is_named_and_left_out(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    (data / "train" / "red" / "cut.png").write_bytes((data / "train" / "red" / "0.png").read_bytes()[:60])
    (data / "val" / "blue" / "text.jpg").write_text("no picture")
    summary = run_training(data, tmp_path / "weights", **SETTINGS)
    assert [name for name, _ in summary.broken] == ["train/red/cut.png", "val/blue/text.jpg"]
    assert all("expected a whole PNG" in error for _, error in summary.broken)
    assert_same(tmp_path / "weights", unbroken)


def test_no_readable_image_is_an_error_that_gives_the_first_reason(
    run_training: Train, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            (tmp_path / "data" / split / name / "x.png").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        run_training(tmp_path / "data", tmp_path / "weights")
    assert "0 of the 2 images of 'train' can be used" in one_line(caught)
    assert "0 bytes" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.2}, "lr is 0.2, and it was begun with 0.1"),
        ({"batch_size": 4}, "batch_size is 4"),
        ({"crop_scale": (0.5, 1.0)}, "crop_scale is [0.5, 1.0]"),
        ({"size": (24, 24)}, "preprocessing is"),
        ({"seed": 9}, "seed is 9"),
        ({"epochs": 1}, "has 2 finished epochs"),
    ],
)
def test_going_on_with_other_settings_is_refused_naming_the_difference(
    run_training: Train, colours: Path, unbroken: Path, change: dict[str, Any], words: str
) -> None:
    before = weights_of(unbroken)
    with pytest.raises(RunError) as caught:
        run_training(colours, unbroken, existing="resume", **(SETTINGS | change))
    assert words in one_line(caught)
    assert weights_of(unbroken) == before


def test_going_on_with_other_images_is_refused(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    shutil.copytree(colours, tmp_path / "data")
    Image.new("RGB", (20, 24)).save(tmp_path / "data" / "train" / "red" / "0.png")
    with pytest.raises(RunError, match=r"training images is 21 \(SHA-256"):
        run_training(tmp_path / "data", unbroken, existing="resume", **SETTINGS)


def test_a_taken_folder_is_refused_and_left_alone(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"holds a training already; .* --resume"):
        run_training(colours, unbroken, **SETTINGS)
    (tmp_path / "thesis.tex").write_text("mine")
    for existing in ("refuse", "resume"):
        with pytest.raises(RunError, match="neither a training's folder nor an empty one"):
            check_folder(tmp_path, existing)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model-1.pth", b"another", "is not what this training wrote"),
        ("model-1.pth", None, "cannot be read"),
        ("training.state", b"junk", "is broken"),
    ],
)
def test_going_on_from_a_changed_file_is_refused(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path, name: str, content: Any, words: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(unbroken, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(RunError) as caught:
        run_training(colours, folder, existing="resume", **SETTINGS)
    assert words in one_line(caught)
    assert name in str(caught.value)


def test_ctrl_c_keeps_finished_epochs_and_the_signal_works_again(
    run_training: Train, colours: Path, unbroken: Path, tmp_path: Path
) -> None:
    def press(record: EpochRecord) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    folder = tmp_path / "weights"
    with pytest.raises(KeyboardInterrupt):
        run_training(colours, folder, listener=Listener(epoch=press), **SETTINGS)
    assert signal.getsignal(signal.SIGINT) is before
    assert {"model-0.pth", "best.pth", "curves.png"} <= {path.name for path in folder.iterdir()}
    assert not {".tmp", ".lock", "model-1.pth"} & {path.name for path in folder.iterdir()}
    run_training(colours, folder, existing="resume", **SETTINGS)
    assert_same(folder, unbroken)


def test_an_image_that_vanishes_on_the_way_is_named_and_the_epochs_before_are_kept(
    run_training: Train, colours: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(colours, data)

    def remove(record: EpochRecord) -> None:
        (data / "train" / "red" / "0.png").unlink(missing_ok=True)

    with pytest.raises(ImageError) as caught:
        run_training(data, tmp_path / "weights", memory=0, listener=Listener(epoch=remove), **SETTINGS)
    assert "red/0.png: found no such file" in one_line(caught)
    assert (tmp_path / "weights" / "model-0.pth").exists()


def test_a_diverged_training_is_ended_with_the_mend(
    run_training: Train, colours: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        run_training(colours, tmp_path / "weights", lr=1e30)
    assert "diverged in epoch 0" in one_line(caught)
    assert "--lr" in str(caught.value)
    assert not list((tmp_path / "weights").glob("*.pth"))


def test_nothing_is_left_in_the_working_folder(
    run_training: Train, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_training(colours, tmp_path / "weights", epochs=1)
    assert not list((tmp_path / "here").iterdir())


def test_progress_counts_every_image_and_every_step(
    run_training: Train, colours: Path, tmp_path: Path
) -> None:
    reading: list[tuple[int, int]] = []
    training: list[tuple[int, int]] = []
    listener = Listener(reading=lambda *n: reading.append(n), training=lambda *n: training.append(n))
    run_training(colours, tmp_path / "weights", listener=listener, **SETTINGS)
    assert reading == [(number, 30) for number in range(1, 31)]
    # 21 images in batches of 5, the lone last one with those before it, and 9 for validation
    assert training == [(number, 12) for number in range(1, 13)]


def test_without_the_packages_the_error_names_the_extra(
    run_training: Train, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whycam.training.packages.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"lightning.*pip install 'whycam\[train\]'"):
        run_training(colours, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_data_set_that_cannot_teach_is_refused(colours: Path, tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / "one" / name / "only").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "one" / name / "only" / "x.png")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train").symlink_to(colours / "train")
    model = load_with_new_head("timm:test_resnet", "ab", ModelOptions(size=(32, 32)))
    for name, words in (("one", "has one class, 'only'"), ("two", "no split 'val'")):
        with pytest.raises(UsageError, match=words):
            TrainingRequest(
                model=model,
                data=read_labelled(tmp_path / name),
                folder=tmp_path / "weights",
                settings=TrainingSettings(),
            )


def test_mixed_precision_trains_in_half_and_keeps_whole_weights(tmp_path: Path) -> None:
    kinds: list[torch.dtype] = []

    class Seeing(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = super().forward(images.flatten(1))
            kinds.append(scores.dtype)
            return scores

    network = Seeing(12, 2)
    records: list[EpochRecord] = []
    loop = Loop(
        network=network,
        class_count=2,
        device=torch.device("cpu"),
        settings=TrainingSettings(epochs=1),
        precision="bf16",
        first_epoch=0,
        state=None,
        finished=lambda record, state: records.append(record),
        stepped=lambda: None,
    )
    with ThreadPoolExecutor(1) as executor:
        batches = Batches(lambda e: [[0, 1]], lambda e, i: torch.rand(3, 2, 2), torch.tensor, executor)
        run_loop(loop, batches, batches)
    assert kinds == [torch.bfloat16, torch.float32]
    assert network.weight.dtype == torch.float32
    assert len(records) == 1


def test_the_precision_is_whole_on_a_processor() -> None:
    assert settled_precision("auto", torch.device("cpu")) == "32"
    with pytest.raises(UsageError, match="precision bf16 was asked for on cpu"):
        settled_precision("bf16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs is 0; expected a whole number from 1"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale is"),
        ({"flip": 2.0}, "flip is 2.0"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainingSettings(**values)
