"""What a target is: one score an image, made from any outputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.outputs import Outputs, batch_of, described
from whycam.types import Classes, Rows, Scores

Undo: TypeAlias = Callable[[Tensor], Tensor]


class Target(ABC):
    """One score an image from the outputs. Subclasses are frozen values."""

    @abstractmethod
    def __call__(self, outputs: Outputs) -> Scores:
        """Return the scores [B], differentiable with respect to the outputs."""

    def pin(self, outputs: Outputs) -> "Target":
        """Return this target with what it takes from the outputs fixed to that of ``outputs``."""
        return self

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the explained class of each image [B], or None where the target names no class."""
        return None

    def select(self, rows: Rows) -> "Target":
        """Return the target of these images of the batch, in this order; an image may come several times."""
        return self

    def part(self, start: int, stop: int) -> "Target":
        """Return the target of images ``start`` to ``stop`` of the batch."""
        count = self.count()
        return self if count is None else self.select(torch.arange(start, min(stop, count)))

    def join(self, others: Sequence[Any], counts: Sequence[int]) -> "Target | None":
        """Return this batch's target and the following batches', of the same kind, as one.

        None where they become a target an image.
        """
        return None

    def count(self) -> int | None:
        """Return the number of images that the target holds something of, or None where it is for any."""
        return None

    def in_view(self, undo: Undo, size: tuple[int, ...]) -> "Target":
        """Return a pinned target for a changed copy of the images.

        ``undo`` brings maps [B, *grid] over the copy back to the images' places, and is its own inverse, as
        a mirror is; ``size`` is the images' spatial size. A target that knows places moves them along.
        """
        return self

    def of_class_scores(self) -> bool:
        """Say whether outputs [B, n] under this target are class scores, and not values or an embedding."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """Say in a few words what is explained."""


def miscount(targets: int, images: int) -> str:
    """Say that the number of targets is not the number of images."""
    return f"{targets} targets for {images} images; give one target, or one an image"


@dataclass(frozen=True)
class CustomTarget(Target):
    """Any function from the model's outputs, as they are, to one score an image [B]."""

    function: Callable[[Outputs], Tensor]

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the function's scores, checked to be one an image."""
        scores = self.function(outputs)
        batch = batch_of(outputs)
        if not isinstance(scores, Tensor) or scores.ndim != 1 or (batch is not None and len(scores) != batch):
            raise TargetError(
                f"the target function gave {described(scores)}; expected one score an image, "
                f"[{batch or 'batch'}]"
            )
        return scores

    def describe(self) -> str:
        """Name the function."""
        return f"function {getattr(self.function, '__name__', type(self.function).__name__)}"
