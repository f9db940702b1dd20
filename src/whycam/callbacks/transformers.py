"""Heatmaps while the Trainer of Hugging Face's transformers trains."""

import math
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from whycam.callbacks.schedule import Validations
from whycam.callbacks.takers import Taker, to_mlflow, to_tensorboard, to_wandb
from whycam.callbacks.watch import HeatmapWatch
from whycam.errors import MissingExtraError

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError(
        "this callback needs transformers, which is not installed; pip install 'whycam[hf]'"
    ) from error


class HeatmapCallback(HeatmapWatch, TrainerCallback):
    """Logs overlays of fixed images to TensorBoard, W&B and MLflow, whichever ``report_to`` names.

    ``HeatmapCallback(images, target=labels)``; see ``HeatmapWatch`` for the arguments, which may also ask for
    a folder of PNGs. Only the process of rank zero explains, and nothing of the training changes: weights,
    gradients, modes, random state. The step is ``state.global_step``.

    The Trainer shows a callback no TensorBoard writer. So the pictures go to one of their own, in
    ``OUTPUT_DIR/runs/heatmaps`` or in $TENSORBOARD_LOGGING_DIR, unless ``writer`` gives one.
    """

    _own_writer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Begin to count where the training begins, or is taken up again."""
        self.begin_at(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Log after every n-th step, if that was asked for."""
        if self.is_due_after_step(state.global_step):
            self._log(args, state, others["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Log after every n-th epoch, if that was asked for; the last one may be cut short."""
        if self.is_due_after_epoch(math.ceil(round(state.epoch, 6))):
            self._log(args, state, others["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Log after each evaluation, if that was asked for."""
        if isinstance(self.every, Validations):
            self._log(args, state, others["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Close the pictures' own file."""
        if self._own_writer is not None:
            self._own_writer.close()
            self._own_writer = None

    def _log(self, args: Any, state: Any, model: nn.Module) -> None:
        if state.is_world_process_zero:
            self.watch(model, state.global_step, lambda: self._takers(args))

    def _takers(self, args: Any) -> Iterator[Taker]:
        """Give what takes the pictures among what the Trainer reports to, as far as it is at work."""
        wandb, mlflow = (sys.modules.get(name) for name in ("wandb", "mlflow"))
        if "tensorboard" in args.report_to and self._writer is None:
            self._own_writer = self._own_writer or _summary_writer(args)
            yield partial(to_tensorboard, self._own_writer)
        if "wandb" in args.report_to and wandb is not None and wandb.run is not None:
            yield partial(to_wandb, wandb)
        if "mlflow" in args.report_to and mlflow is not None and mlflow.active_run() is not None:
            yield partial(to_mlflow, mlflow.log_image)


def _summary_writer(args: Any) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    folder = os.environ.get("TENSORBOARD_LOGGING_DIR") or os.path.join(args.output_dir, "runs", "heatmaps")
    return SummaryWriter(os.path.expanduser(folder))
