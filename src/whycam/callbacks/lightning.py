"""Heatmaps while Lightning trains, by ``lightning.pytorch`` or by the package ``pytorch_lightning``."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from whycam.callbacks.schedule import Validations
from whycam.callbacks.takers import takers_of_loggers
from whycam.callbacks.watch import HeatmapWatch
from whycam.errors import MissingExtraError

_LIBRARIES = ("lightning.pytorch", "pytorch_lightning")


def _callback_classes() -> tuple[type, ...]:
    """Return the ``Callback`` of each library in use; of the first that is installed where none is."""
    used = [name for name in _LIBRARIES if name in sys.modules]
    installed = [name for name in _LIBRARIES if find_spec(name.split(".")[0])]
    names = used or installed[:1]
    if not names:
        raise MissingExtraError(
            "this callback needs Lightning, which is not installed; pip install 'whycam[train]'"
        )
    return tuple(import_module(name).Callback for name in names)


class HeatmapCallback(HeatmapWatch, *_callback_classes()):  # type: ignore[misc]
    """Logs overlays of fixed images to the Trainer's loggers: TensorBoard, W&B and MLflow.

    ``HeatmapCallback(images, target=labels, network="net")``; see ``HeatmapWatch`` for the arguments, which
    may also ask for a folder of PNGs. Only the process of rank zero explains, and nothing of the training
    changes: weights, gradients, modes, random state. The loggers' step is ``trainer.global_step``.
    """

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begin to count where the training begins, or is taken up again."""
        self.begin_at(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log after every n-th step, if that was asked for."""
        if self.is_due_after_step(trainer.global_step):
            self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Log after every n-th epoch, if that was asked for; its validation is over by then."""
        if self.is_due_after_epoch(trainer.current_epoch + 1):
            self._log(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Log after each validation, if that was asked for; Lightning calls this in inference mode."""
        if isinstance(self.every, Validations) and not trainer.sanity_checking:
            self._log(trainer, pl_module)

    def _log(self, trainer: Any, pl_module: nn.Module) -> None:
        if trainer.is_global_zero:
            self.watch(
                pl_module, trainer.global_step, lambda: takers_of_loggers(trainer.loggers), trainer.model
            )
