"""What a caller may pass as a target, read into one."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.base import Target, miscount
from whycam.targets.classes import ClassIndex, ClassPerImage, single_target
from whycam.targets.joining import PerImage
from whycam.targets.outputs import Outputs, described

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
        return _for_all(single_target(target), batch)
    if len(target) != batch:
        raise TargetError(miscount(len(target), batch))
    singles = tuple(single_target(one) for one in target)
    indices = [single.index for single in singles if isinstance(single, ClassIndex)]
    if indices and len(indices) == batch:
        return ClassPerImage(torch.tensor(indices), bounds=(min(indices), max(indices)))
    return PerImage(tuple(_for_all(single, 1) for single in singles))


def _for_all(target: Target, batch: int) -> Target:
    """Return the target if what it holds of single images, such as masks, is of ``batch`` images."""
    count = target.count()
    if count not in (None, batch):
        raise TargetError(miscount(count or 0, batch))
    return target
