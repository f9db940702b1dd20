"""Heatmaps in a real run of Hugging Face's Trainer."""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.callbacks.training import (
    Checked,
    assert_same_weights,
    data,
    events_in,
    overlay_of,
    pixels,
    random_states,
    seed_all,
    watched,
    weights_of,
)
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from whycam.callbacks import Epochs, Steps, Validations
from whycam.callbacks.transformers import HeatmapCallback

pytestmark = pytest.mark.usefixtures("one_thread")


class CheckedCallback(Checked, HeatmapCallback):
    pass


class Pictures(Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        self.images, self.labels = data()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def trained(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    """Train for two epochs of three batches; returns the trainer."""
    seed_all()
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": "none",
            "dataloader_pin_memory": False,
        }
        | options
    )
    trainer = Trainer(
        ResNetForImageClassification(config),
        arguments,
        train_dataset=Pictures(),
        eval_dataset=Pictures(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def test_tensorboard_gets_each_epochs_overlays_of_the_weights_of_then(tmp_path: Path) -> None:
    callback = HeatmapCallback(watched(), target=[1, 1])
    trainer = trained(tmp_path, callback, report_to="tensorboard")
    events = events_in(tmp_path / "runs" / "heatmaps")
    assert events.Tags()["images"] == ["heatmaps/gradcam/0", "heatmaps/gradcam/1"]
    for position, tag in enumerate(events.Tags()["images"]):
        first, last = events.Images(tag)
        assert (first.step, last.step) == (3, 6)
        expected = overlay_of(trainer.model, position, target=[1, 1])
        np.testing.assert_array_equal(pixels(last), expected)
        assert (pixels(first) != pixels(last)).any()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_pictures_may_go_where_the_trainers_numbers_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    trained(tmp_path, HeatmapCallback(watched()), report_to="tensorboard", logging_steps=1)
    events = events_in(tmp_path / "logs")
    assert "heatmaps/gradcam/0" in events.Tags()["images"]
    assert "train/loss" in events.Tags()["scalars"]


@pytest.mark.usefixtures("unchecked")  # the checks draw from Python\'s generator
@pytest.mark.parametrize("every", [Epochs(1), Steps(1), Validations()])
def test_the_training_is_the_same_bit_for_bit_with_and_without(every: Any, tmp_path: Path) -> None:
    fit = partial(trained, tmp_path, gradient_accumulation_steps=2, eval_strategy="epoch")
    plain = fit()
    states = random_states()
    callback = CheckedCallback(watched(), every=every, folder=tmp_path / "maps")
    watching = fit(callback)
    assert random_states() == states
    assert_same_weights(weights_of(plain.model), weights_of(watching.model))
    assert plain.state.log_history[-2]["eval_loss"] == watching.state.log_history[-2]["eval_loss"]
    assert callback.looks == (4 if every == Steps(1) else 2)
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 2 * callback.looks


@pytest.mark.usefixtures("unchecked")  # the checks draw from Python\'s generator
def test_a_failure_is_one_warning_and_the_training_goes_on(tmp_path: Path) -> None:
    plain = trained(tmp_path)
    callback = CheckedCallback(watched(), layer="nothing", every=Steps(1), folder=tmp_path / "maps")
    with pytest.warns(RuntimeWarning, match="the heatmaps of step 1 failed.*'nothing'") as said:
        watching = trained(tmp_path, callback)
    assert len([one for one in said if "heatmaps" in str(one.message)]) == 1
    assert callback.looks == 6
    assert_same_weights(weights_of(plain.model), weights_of(watching.model))
    assert not (tmp_path / "maps").exists()


def test_an_epoch_that_is_cut_short_counts(tmp_path: Path) -> None:
    callback = HeatmapCallback(watched(), every=Epochs(2), folder=tmp_path / "maps")
    trained(tmp_path, callback, max_steps=4)
    (path,) = (tmp_path / "maps" / "gradcam" / "0").iterdir()
    assert path.name == "step-00000004.png"


def test_only_rank_zero_draws(tmp_path: Path) -> None:
    model = trained(tmp_path, max_steps=1).model
    callback = HeatmapCallback(watched(), folder=tmp_path / "maps")
    arguments = SimpleNamespace(report_to=[])
    for is_zero in (False, True):
        state = SimpleNamespace(is_world_process_zero=is_zero, global_step=4, epoch=1.0)
        callback.on_epoch_end(arguments, state, None, model=model)
        assert (tmp_path / "maps").exists() == is_zero


def test_wandb_gets_pictures_with_captions_on_the_trainers_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []
    wandb: Any = ModuleType("wandb")
    wandb.run = object()
    wandb.Image = lambda data_or_path, mode=None, caption=None: (data_or_path, caption)
    wandb.log = lambda data, step=None, commit=None, sync=None: logged.append(data)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    callback = HeatmapCallback(watched(), target=1, class_names=["cat", "dog", "owl"])
    model = trained(tmp_path, max_steps=1).model
    log_once(callback, model, report_to=["wandb"])
    (entry,) = logged
    assert entry.keys() == {"heatmaps/gradcam", "train/global_step"}
    assert entry["train/global_step"] == 7
    (picture, caption), _ = entry["heatmaps/gradcam"]
    np.testing.assert_array_equal(np.asarray(picture), overlay_of(model, 0, target=1))
    assert caption.startswith("0: dog, score ")


def test_mlflow_gets_pictures_by_a_key_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[Any, ...]] = []

    def log_image(image: Any, artifact_file: Any = None, key: Any = None, step: Any = None) -> None:
        logged.append((image, key, step))

    mlflow: Any = ModuleType("mlflow")
    mlflow.active_run = object
    mlflow.log_image = log_image
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    model = trained(tmp_path, max_steps=1).model
    log_once(HeatmapCallback(watched(), method="gradcam++"), model, report_to=["mlflow"])
    assert [(key, step) for _, key, step in logged] == [
        ("heatmaps_gradcam___0", 7),
        ("heatmaps_gradcam___1", 7),
    ]
    assert all(isinstance(image, Image.Image) for image, _, _ in logged)


def log_once(callback: HeatmapCallback, model: torch.nn.Module, **arguments: Any) -> None:
    state = SimpleNamespace(is_world_process_zero=True, global_step=7, epoch=1.0)
    callback.on_epoch_end(SimpleNamespace(**arguments), state, None, model=model)
