"""Heatmaps in a real Trainer.fit, by both of Lightning's packages."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import Logger, WandbLogger
from PIL import Image
from tests.callbacks.training import (
    Checked,
    SmallNetwork,
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
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from whycam import MissingExtraError, Preprocessing
from whycam.callbacks import Epochs, Steps, Validations
from whycam.callbacks import lightning as of_lightning
from whycam.callbacks.lightning import HeatmapCallback

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning itself, and its advice on speed
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class CheckedCallback(Checked, HeatmapCallback):
    pass


def module_of(library: Any) -> Any:
    class Classifier(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = SmallNetwork()

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.05)

    return Classifier()


def trained(folder: Path, *callbacks: Any, library: str = "lightning.pytorch", **options: Any) -> Any:
    """Fit for two epochs of three batches, with validation; returns the trainer."""
    package = import_module(library)
    seed_all()
    given = {"logger": False, "max_epochs": 2, "num_sanity_val_steps": 1} | options
    trainer = package.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **given,
    )
    batches = partial(DataLoader, TensorDataset(*data()), batch_size=4)
    trainer.fit(module_of(package), batches(shuffle=True), batches())
    return trainer


@pytest.mark.parametrize("library", ["lightning.pytorch", "pytorch_lightning"])
def test_tensorboard_gets_each_epochs_overlays_of_the_weights_of_then(library: str, tmp_path: Path) -> None:
    logger = import_module(f"{library}.loggers").TensorBoardLogger(tmp_path, name="logs", version="one")
    callback = HeatmapCallback(watched(), target=[1, 1], network="net")
    trainer = trained(tmp_path, callback, library=library, logger=logger)
    events = events_in(tmp_path / "logs" / "one")
    assert events.Tags()["images"] == ["heatmaps/gradcam/0", "heatmaps/gradcam/1"]
    shown = [events.Images(tag) for tag in events.Tags()["images"]]
    assert [[event.step for event in some] for some in shown] == [[3, 6], [3, 6]]
    network = trainer.lightning_module.net
    for position, some in enumerate(shown):
        np.testing.assert_array_equal(pixels(some[-1]), overlay_of(network, position, target=[1, 1]))
        assert (pixels(some[0]) != pixels(some[-1])).any()
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.usefixtures("unchecked")  # the checks draw from Python\'s generator
@pytest.mark.parametrize("every", [Epochs(1), Steps(1), Validations()])
def test_the_training_is_the_same_bit_for_bit_with_and_without(every: Any, tmp_path: Path) -> None:
    # gradients of two batches are added up, so that pictures are drawn while there are some
    fit = partial(trained, tmp_path, accumulate_grad_batches=2, max_epochs=2)
    plain = fit()
    states = random_states()
    callback = CheckedCallback(watched(), every=every, folder=tmp_path / "maps")
    watching = fit(callback)
    assert random_states() == states
    assert_same_weights(weights_of(plain.lightning_module), weights_of(watching.lightning_module))
    (one,), (other,) = plain.optimizers, watching.optimizers
    moments = [state["exp_avg"] for optimiser in (one, other) for state in optimiser.state.values()]
    half = len(moments) // 2
    assert half
    assert all(map(torch.equal, moments[:half], moments[half:]))
    assert callback.looks == (4 if every == Steps(1) else 2)
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 2 * callback.looks
    # the sanity check is no validation
    assert set(callback.contexts) == {"no_grad" if every == Validations() else "grad"}
    if every == Validations():
        watching.validate(watching.lightning_module, DataLoader(TensorDataset(*data()), batch_size=4))
        assert callback.contexts[2:] == ("inference_mode",)


class FailingOnce:
    """A target that fails in the first epoch only."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, outputs: Tensor) -> Tensor:
        self.asked += 1
        if self.asked < 3:
            raise ValueError("broken\nin two lines")
        return outputs[:, 0]


@pytest.mark.usefixtures("unchecked")  # the checks draw from Python\'s generator
def test_a_failure_is_one_warning_and_the_training_goes_on(tmp_path: Path) -> None:
    plain = trained(tmp_path)
    callback = CheckedCallback(watched(), target=FailingOnce(), every=Steps(1), folder=tmp_path / "maps")
    with pytest.warns(
        RuntimeWarning, match="the heatmaps of step 1 failed.*ValueError: broken in two"
    ) as said:
        watching = trained(tmp_path, callback)
    assert len([one for one in said if "heatmaps" in str(one.message)]) == 1
    assert_same_weights(weights_of(plain.lightning_module), weights_of(watching.lightning_module))
    assert callback.looks == 6
    steps = {path.stem for path in (tmp_path / "maps").rglob("*.png")}
    assert "step-00000006" in steps
    assert "step-00000001" not in steps


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"network": "body"}, "Classifier has no module 'body'; it has net"),
        ({"layer": "net.nothing"}, "net.nothing"),
        ({"network": lambda module: module.nothing}, "AttributeError"),
    ],
)
def test_a_wrong_place_is_said_in_the_warning(options: Any, reason: str, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=reason):
        trained(tmp_path, HeatmapCallback(watched(), folder=tmp_path / "maps", **options), max_epochs=1)
    assert not (tmp_path / "maps").exists()


def test_a_trainer_without_a_logger_for_pictures_is_told_once(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="no logger that takes pictures.*folder= or writer=") as said:
        trained(tmp_path, HeatmapCallback(watched()))
    assert len([one for one in said if one.category is RuntimeWarning]) == 1


class Quiet(Logger):
    """Takes a trainer's numbers, and nothing else."""

    name = version = "quiet"

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any) -> None:
        pass


def test_a_wandb_logger_gets_all_pictures_with_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wandb(Quiet):
        log_image = WandbLogger.log_image  # Lightning's own, on a stand-in for the package

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            logged.extend((key, value, step) for key, value in metrics.items() if key.startswith("heatmaps"))

    logged: list[tuple[Any, ...]] = []
    wandb: Any = ModuleType("wandb")
    wandb.Image = lambda data_or_path, mode=None, caption=None: (data_or_path, caption)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    callback = HeatmapCallback(watched(), target=1, network="net", class_names=["cat", "dog", "owl"])
    trainer = trained(tmp_path, callback, logger=Wandb())
    assert [(key, step) for key, _, step in logged] == [("heatmaps/gradcam", 3), ("heatmaps/gradcam", 6)]
    first, second = logged[-1][1]
    np.testing.assert_array_equal(
        np.asarray(second[0]), overlay_of(trainer.lightning_module.net, 1, target=1)
    )
    assert first[1].startswith("0: dog, score ")
    assert first[1].endswith(", layer features")


def test_an_mlflow_logger_gets_a_picture_an_image_by_its_run(tmp_path: Path) -> None:
    class Client:
        def log_image(
            self, run_id: str, image: Any, artifact_file: Any = None, key: Any = None, step: Any = None
        ) -> None:
            logged.append((run_id, image.size, key, step))

    class Mlflow(Quiet):
        run_id = "run 1"
        experiment = Client()

    logged: list[tuple[Any, ...]] = []
    trained(tmp_path, HeatmapCallback(watched(), target=1), logger=Mlflow(), max_epochs=1)
    assert logged == [("run 1", (24, 24), f"heatmaps_gradcam_{place}", 3) for place in (0, 1)]


def test_a_logger_that_fails_keeps_no_other_from_its_pictures(tmp_path: Path) -> None:
    class Broken(Quiet):
        def log_image(self, **given: Any) -> None:
            raise OSError("no network")

    callback = HeatmapCallback(watched(), every=Steps(1), folder=tmp_path / "maps")
    with pytest.warns(RuntimeWarning, match=r"\(wandb logger\) of step 1 failed.*no network") as said:
        trained(tmp_path, callback, logger=[Broken(), Quiet()])
    assert len([one for one in said if one.category is RuntimeWarning]) == 1
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 12


@pytest.mark.parametrize(
    "network", ["net", lambda module: module.net, None], ids=["path", "function", "whole module"]
)
def test_the_classifier_may_be_anywhere_in_the_module(network: Any, tmp_path: Path) -> None:
    callback = HeatmapCallback(watched(), target=1, network=network, folder=tmp_path / "maps")
    trainer = trained(tmp_path, callback, max_epochs=1)
    (path,) = (tmp_path / "maps" / "gradcam" / "0").iterdir()
    assert path.name == "step-00000003.png"
    expected = overlay_of(trainer.lightning_module.net, 0, target=1)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


@pytest.mark.usefixtures("unchecked")
def test_images_follow_the_network_into_its_number_type(tmp_path: Path) -> None:
    callback = CheckedCallback(watched(), target=1, folder=tmp_path / "maps")
    trained(tmp_path, callback, precision="bf16-true", max_epochs=1)
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 2


def test_pictures_from_files_are_drawn_on_the_originals(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    picture.save(tmp_path / "a leaf.png")
    preprocessing = Preprocessing.for_size((24, 24), (0.5,) * 3, (0.5,) * 3)
    callback = HeatmapCallback(
        [tmp_path / "a leaf.png", picture], preprocessing=preprocessing, folder=tmp_path / "maps"
    )
    trained(tmp_path, callback, max_epochs=1)
    paths = sorted((tmp_path / "maps").rglob("*.png"))
    assert [path.parent.name for path in paths] == ["0-a leaf", "1-picture 1"]
    drawn = np.asarray(Image.open(paths[0]))
    assert drawn.shape == (40, 60, 3)
    # the model sees the middle 40 x 40; the rest is gray
    assert np.ptp(drawn[:, :8], axis=2).max() == 0
    assert np.ptp(drawn[:, 12:48], axis=2).max() > 0


def test_only_rank_zero_draws(tmp_path: Path) -> None:
    network = SmallNetwork()
    callback = HeatmapCallback(watched(), folder=tmp_path / "maps")
    for is_zero in (False, True):
        trainer = SimpleNamespace(
            is_global_zero=is_zero, loggers=[], global_step=4, current_epoch=0, model=network
        )
        callback.on_train_epoch_end(trainer, network)
        assert (tmp_path / "maps").exists() == is_zero


def test_steps_are_counted_from_where_a_training_is_taken_up_again() -> None:
    callback = HeatmapCallback(watched(), every=Steps(5))
    callback.begin_at(12)
    # two optimisers count two steps a batch
    assert [callback.is_due_after_step(step) for step in (12, 14, 16, 16, 18, 20)] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_lightning_that_is_not_installed_is_said_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_lightning, "_LIBRARIES", ("no_such_lightning.pytorch",))
    with pytest.raises(MissingExtraError, match=r"whycam\[train\]"):
        of_lightning._callback_classes()
