"""A target an image, what a caller may pass for one, and the targets of several batches as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.base import Target, miscount
from whycam.targets.classes import ClassIndex, ClassPerImage, Contrast, Probability, single_target
from whycam.targets.outputs import Outputs, described, logits_of
from whycam.types import Classes, Scores


@dataclass(frozen=True)
class PerImage(Target):
    """A target of its own for each image, in order. Works on outputs that are one tensor [B, ...]."""

    targets: tuple[Target, ...]

    def _rows(self, outputs: Outputs) -> Tensor:
        try:
            logits = logits_of(outputs)
        except TargetError as error:
            raise TargetError(
                f"a target an image needs class scores [batch, classes], and the model returned "
                f"{described(outputs)}; give one function from these outputs to one score an image"
            ) from error
        if len(self.targets) != len(logits):
            raise TargetError(miscount(len(self.targets), len(logits)))
        return logits

    def __call__(self, outputs: Outputs) -> Scores:
        """Return each image's score under its own target [B]."""
        rows = self._rows(outputs)
        return torch.cat([target(rows[i : i + 1]) for i, target in enumerate(self.targets)])

    def pin(self, outputs: Outputs) -> "PerImage":
        """Pin every image's target to its own row of ``outputs``."""
        rows = self._rows(outputs)
        return PerImage(tuple(target.pin(rows[i : i + 1]) for i, target in enumerate(self.targets)))

    def classes(self, outputs: Outputs) -> Classes:
        """Return each image's class [B], -1 where its target names none."""
        rows = self._rows(outputs)
        none = torch.full((1,), -1, device=rows.device)
        found = [target.classes(rows[i : i + 1]) for i, target in enumerate(self.targets)]
        return torch.cat([none if classes is None else classes for classes in found])

    def part(self, start: int, stop: int) -> "PerImage":
        """Return the targets of images ``start`` to ``stop``."""
        return PerImage(self.targets[start:stop])

    def describe(self) -> str:
        """Name the targets."""
        return "; ".join(target.describe() for target in self.targets)


TargetLike: TypeAlias = (
    int
    | Target
    | Callable[[Outputs], Tensor]
    | Sequence[int | Target]
    | Tensor
    | npt.NDArray[np.integer[Any]]
    | None
)


def as_target(target: TargetLike, batch: int) -> Target:
    """Turn what a caller may pass into a target for ``batch`` images; raises TargetError."""
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool or target.ndim > 1:
            raise TargetError(f"targets are {described(target)}; expected integers [batch]")
        target = target.reshape(-1).tolist() if target.ndim else int(target)
    if isinstance(target, np.ndarray):
        target = target.tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return single_target(target)
    if len(target) != batch:
        raise TargetError(miscount(len(target), batch))
    singles = tuple(single_target(one) for one in target)
    indices = [single.index for single in singles if isinstance(single, ClassIndex)]
    if indices and len(indices) == batch:
        return ClassPerImage(torch.tensor(indices), bounds=(min(indices), max(indices)))
    return PerImage(singles)


def join_targets(targets: Sequence[Target], counts: Sequence[int]) -> Target:
    """Return the targets of consecutive batches, of ``counts`` images each, as one for all the images."""
    first = targets[0]
    if all(target is first or target == first for target in targets):
        return first
    if all(isinstance(target, ClassPerImage) for target in targets):
        several = [target for target in targets if isinstance(target, ClassPerImage)]
        bounds = tuple(sorted({bound for target in several for bound in target.bounds}))
        return ClassPerImage(torch.cat([target.indices for target in several]), bounds)
    if all(isinstance(target, Probability) for target in targets):
        return Probability(
            join_targets([single_target(t.of) for t in targets if isinstance(t, Probability)], counts)
        )
    if all(isinstance(target, Contrast) for target in targets):
        contrasts = [target for target in targets if isinstance(target, Contrast)]
        of = join_targets([single_target(contrast.of) for contrast in contrasts], counts)
        return Contrast(of, join_targets([single_target(contrast.against) for contrast in contrasts], counts))
    each = [
        target.targets if isinstance(target, PerImage) else (target,) * count
        for target, count in zip(targets, counts, strict=True)
    ]
    return PerImage(tuple(one for some in each for one in some))
