"""The loop itself, which is Lightning's, on one device. This module needs the extra ``train``."""

import contextlib
import logging
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
import torch.nn.functional as F
import torchmetrics
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from whycam.errors import UsageError
from whycam.targets import logits_of
from whycam.training.history import EpochRecord
from whycam.training.images import Batch, Batches
from whycam.training.settings import TrainingSettings
from whycam.training.views import STEP, drawn_for

_PRECISIONS: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_NOT_OURS = (
    "GPU available but not used",
    # Lightning's own use of what PyTorch will remove
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@dataclass(frozen=True)
class Loop:
    """What the loop works with.

    ``first_epoch`` is where it begins and ``state`` what ``finished`` was given behind the epoch before, None
    at the very beginning. ``finished`` is called at each epoch's end, and ``stepped`` after each batch.
    """

    network: nn.Module
    class_count: int
    device: torch.device
    settings: TrainingSettings
    precision: str
    first_epoch: int
    state: Mapping[str, Any] | None
    finished: Callable[[EpochRecord, Mapping[str, Any]], None]
    stepped: Callable[[], None]


def run_loop(loop: Loop, train: Batches, val: Batches) -> None:
    """Train and validate epoch by epoch, with the caller's random state left as it was.

    Raises KeyboardInterrupt after Ctrl-C, and UsageError when the loss is no number any more.
    """
    with _quiet(), _random_state_kept(loop.device), _interrupts_kept():
        trainer = lightning.Trainer(
            max_epochs=loop.settings.epochs - loop.first_epoch,
            accelerator="gpu" if loop.device.type == "cuda" else loop.device.type,
            devices=[loop.device.index or 0] if loop.device.type == "cuda" else 1,
            precision=_PRECISIONS[loop.precision],
            plugins=[LightningEnvironment()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(_Classifier(loop, train), train, val)


class _Classifier(lightning.LightningModule):
    """The network with its loss and its metrics, as Lightning takes it."""

    def __init__(self, loop: Loop, batches: Batches) -> None:
        super().__init__()
        self.loop = loop
        self.batches = batches
        self.network = loop.network.train()
        self.train_loss = _Mean()
        self.train_accuracy = MulticlassAccuracy(num_classes=loop.class_count, average="micro")
        self.val_loss = _Mean()
        self.val_accuracy = MulticlassAccuracy(num_classes=loop.class_count, average="micro")
        self.val_f1 = MulticlassF1Score(num_classes=loop.class_count, average="macro")
        self.optimizer = _optimizer(self.network, loop.settings)
        self.schedule = StepLR(self.optimizer, loop.settings.step, loop.settings.gamma)
        self.lr = 0.0
        self.began = 0.0

    @property
    def epoch(self) -> int:
        return self.loop.first_epoch + int(self.current_epoch)

    def configure_optimizers(self) -> Any:
        if self.loop.state is not None:
            self.optimizer.load_state_dict(self.loop.state["optimizer"])
            self.schedule.load_state_dict(self.loop.state["schedule"])
        return [self.optimizer], [self.schedule]

    def on_fit_start(self) -> None:
        if self.loop.state is not None:
            self.trainer.precision_plugin.load_state_dict(self.loop.state["precision"])

    def on_train_epoch_start(self) -> None:
        self.batches.begin(self.epoch)
        self.began = time.monotonic()
        self.lr = self.optimizer.param_groups[0]["lr"]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # dropout draws from the global generator: a training that goes on must meet the same draws
        torch.manual_seed(
            int(drawn_for(STEP, self.loop.settings.seed, self.epoch, batch_idx).integers(2**63))
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        scores = logits_of(self.network(images))
        loss = F.cross_entropy(scores, labels)
        self.train_loss.update(loss, len(labels))
        self.train_accuracy.update(scores.detach(), labels)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.loop.stepped()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        # whole precision: these figures are of the checkpoint as it is kept and will be used
        with torch.autocast(images.device.type, enabled=False):
            scores = logits_of(self.network(images))
        self.val_loss.update(F.cross_entropy(scores, labels), len(labels))
        self.val_accuracy.update(scores, labels)
        self.val_f1.update(scores, labels)

    def on_validation_batch_end(self, *batch: Any) -> None:
        self.loop.stepped()

    def on_train_epoch_end(self) -> None:
        record = EpochRecord(
            epoch=self.epoch,
            train_loss=self.train_loss.taken(),
            train_accuracy=_taken(self.train_accuracy),
            val_loss=self.val_loss.taken(),
            val_accuracy=_taken(self.val_accuracy),
            val_macro_f1=_taken(self.val_f1),
            lr=self.lr,
            seconds=round(time.monotonic() - self.began, 3),
        )
        _refuse_no_number(record)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
        }
        self.loop.finished(record, state)


def _optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(weights, settings.lr, betas, weight_decay=settings.weight_decay)
    return torch.optim.SGD(weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay)


class _Mean:
    """A mean over images that stays on the device, and that one NaN makes NaN."""

    def __init__(self) -> None:
        self.total = torch.zeros(())
        self.count = 0

    def update(self, mean: Tensor, count: int) -> None:
        """Take in the mean of so many images."""
        self.total = self.total.to(mean.device) + mean.detach() * count
        self.count += count

    def taken(self) -> float:
        """Return the mean, and begin anew."""
        value = float(self.total) / self.count
        self.total, self.count = torch.zeros(()), 0
        return _shortest(value)


def _taken(metric: torchmetrics.Metric) -> float:
    value = float(metric.compute())
    metric.reset()
    return _shortest(value)


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that is the same in float32."""
    return float(str(np.float32(value)))


def _refuse_no_number(record: EpochRecord) -> None:
    if not np.isfinite([record.train_loss, record.val_loss]).all():
        raise UsageError(
            f"the training diverged in epoch {record.epoch}: its loss is {record.train_loss}, on validation "
            f"{record.val_loss}; expected finite numbers; train into another folder with a lower --lr"
        )


def settled_precision(wanted: str, device: torch.device) -> str:
    """Return 32, bf16 or 16: what "auto" is on this device. Raises UsageError for half of it on no GPU."""
    if wanted in ("bf16", "16") and device.type != "cuda":
        raise UsageError(f"precision {wanted} was asked for on {device.type}; it is for GPUs; leave it out")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice on its own switches, and on cards that it sees, from the user."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NOT_OURS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave every global generator as it was: a network or a library may draw from any."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning ends the program, and ignores the next one."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from end
