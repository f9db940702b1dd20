"""What the callbacks of all libraries share: the arguments, when to draw, and that no failure stops them."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from whycam.callbacks.drawing import Drawing, Drawn, Where, check_whole, part_of
from whycam.callbacks.fixed_images import FixedImages, PreprocessingLike
from whycam.callbacks.schedule import Epochs, Schedule, Steps
from whycam.callbacks.takers import Taker, to_folder, to_tensorboard
from whycam.errors import UsageError, WhycamError
from whycam.explainer import Layers, MethodLike
from whycam.methods import Smoothing, find_method
from whycam.models.messages import one_line
from whycam.render.colormaps import DEFAULT_COLORMAP, colour_table
from whycam.targets import TargetLike, as_target


class HeatmapWatch:
    """Explains fixed images during a training, and gives the overlays to whoever takes them."""

    def __init__(
        self,
        images: Any,
        *,
        preprocessing: PreprocessingLike | None = None,
        method: MethodLike = "gradcam",
        target: TargetLike = None,
        layer: Layers = None,
        smoothing: Smoothing | None = None,
        batch_size: int | None = None,
        network: Where = None,
        every: Schedule = Epochs(),  # noqa: B008  # a frozen value
        folder: str | os.PathLike[str] | None = None,
        writer: Any = None,
        class_names: Sequence[str] | None = None,
        colormap: str = DEFAULT_COLORMAP,
    ) -> None:
        """Take the images and how they are explained.

        ``images``: a batch [B, C, *size] that is already preprocessed (or a tuple or a dict of a model's
        arguments), or with ``preprocessing`` a list of picture files or PIL pictures; ``preprocessing`` is a
        ``Preprocessing``, or has one as what ``whycam.load`` returns. They are copied, and never change.
        ``method``, ``target``, ``layer``, ``smoothing`` and ``batch_size`` are ``whycam.explain``'s.
        ``network``: which part of the trained module is the classifier: a dotted path in it, the part itself,
        a function of the module, or None for the whole. ``every``: ``Epochs(n)``, ``Steps(n)`` or
        ``Validations()``. ``folder``: where PNGs are written too. ``writer``: a TensorBoard ``SummaryWriter``
        of your own that gets the pictures too. ``class_names`` are for captions.

        Raises a WhycamError for what is wrong before a training begins. Later failures are warned of once,
        and the training goes on.
        """
        self.every = every
        self.network = network
        self._folder = None if folder is None else Path(folder)
        self._writer = writer
        fixed = FixedImages.of(images, preprocessing)
        if class_names is None:
            class_names = getattr(preprocessing, "class_names", None)
        names = None if class_names is None else tuple(class_names)
        self._drawing = Drawing(fixed, method, target, layer, smoothing, batch_size, names, colormap)
        # asked for now: what is wrong must not wait for the end of an epoch
        find_method(method)
        colour_table(colormap)
        as_target(target, len(fixed.names))
        self._warned: set[str] = set()
        self._step = 0

    def begin_at(self, step: int) -> None:
        """Count steps from here: from 0, or from where a training is taken up again."""
        self._step = step

    def is_due_after_epoch(self, finished: int) -> bool:
        """Say whether pictures are due when so many epochs are finished."""
        return isinstance(self.every, Epochs) and finished % self.every.n == 0

    def is_due_after_step(self, step: int) -> bool:
        """Say whether a multiple was passed since the last call; trainers may count several steps at once."""
        if not isinstance(self.every, Steps):
            return False
        before, self._step = self._step, step
        return step // self.every.n > before // self.every.n

    def watch(
        self, root: nn.Module, step: int, takers: Callable[[], Iterable[Taker]], *around: nn.Module
    ) -> None:
        """Draw and hand out the pictures of a step; raises nothing but what stops the process.

        ``root`` is the trained module, ``takers`` gives those of the trainer, and ``around`` are the
        trainer's wrappers of the module.
        """
        found = self._guarded("the loggers", step, lambda: self._all_takers(takers))
        if not found:
            return
        drawn = self._guarded("the heatmaps", step, lambda: self._drawn(root, step, around))
        if drawn is None:
            return
        for taker in found:
            self._guarded(f"the pictures ({_name_of(taker)})", step, partial(taker, drawn))

    def _all_takers(self, takers: Callable[[], Iterable[Taker]]) -> list[Taker]:
        found = list(takers())
        if self._writer is not None:
            found.append(partial(to_tensorboard, self._writer))
        if self._folder is not None:
            found.append(partial(to_folder, self._folder))
        if not found:
            raise UsageError(
                "the trainer has no logger that takes pictures (TensorBoard, W&B or MLflow); "
                "give folder= or writer="
            )
        return found

    def _drawn(self, root: nn.Module, step: int, around: Sequence[nn.Module]) -> Drawn:
        network = part_of(root, self.network)
        for module in (network, *around):
            check_whole(module)
        return self._drawing.draw(network, step)

    def _guarded(self, what: str, step: int, make: Callable[[], Any]) -> Any:
        """Return what is made, or None after a warning: a picture is worth no training run."""
        try:
            return make()
        # the network's own code, a logger's and the disk may raise anything
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                reason = str(error) if isinstance(error, WhycamError) else f"{type(error).__name__}: {error}"
                text = f"{what} of step {step} failed, and the training goes on: {one_line(reason, 400)}"
                warnings.warn(f"{text} (said once)", RuntimeWarning, stacklevel=2)
            return None


def _name_of(taker: Taker) -> str:
    return getattr(getattr(taker, "func", taker), "__name__", "").removeprefix("to_").replace("_", " ")
