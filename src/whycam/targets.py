"""What is explained: from a model's outputs to one score an image.

A target is a value. ``pin`` fixes what depends on the outputs (the top class) to the classes of given
outputs, so that noisy or mirrored copies of an image are explained for the clean image's class.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import TargetError
from whycam.types import Classes, Scores

Outputs: TypeAlias = Any
Logits = Float[Tensor, "batch classes"]


def logits_of(outputs: Outputs) -> Logits:
    """Return the class scores [B, classes] inside a model's outputs, in float32 or wider.

    Takes a tensor, the first entry of a tuple or list, or ``logits``/``out`` of a dict or model output;
    [B] counts as one class. Raises TargetError for anything else.
    """
    found = outputs
    if isinstance(found, dict):
        found = found.get("logits", found.get("out"))
    elif not isinstance(found, Tensor) and hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.ndim == 1:
        found = found.unsqueeze(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        raise TargetError(
            f"the model returned {_describe(outputs)}; class targets need scores [batch, classes]. "
            "Pass target=a function from the outputs to one score an image"
        )
    return found if found.dtype == torch.float64 else found.float()


def _describe(outputs: Outputs) -> str:
    if isinstance(outputs, Tensor):
        return f"a tensor {list(outputs.shape)} of {outputs.dtype}"
    if isinstance(outputs, dict):
        return f"a dict with {', '.join(map(str, outputs)) or 'no entries'}"
    return f"a {type(outputs).__name__}"


class Target(ABC):
    """One score an image from the outputs. Subclasses are frozen values."""

    @abstractmethod
    def __call__(self, outputs: Outputs) -> Scores:
        """Return the scores [B], differentiable with respect to the outputs."""

    def pin(self, outputs: Outputs) -> "Target":
        """Return this target with its classes fixed to those of ``outputs``."""
        return self

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the explained class of each image [B], or None where the target names no class."""
        return None

    def part(self, start: int, stop: int) -> "Target":
        """Return the target of images ``start`` to ``stop`` of the batch."""
        return self

    @abstractmethod
    def describe(self) -> str:
        """Say in a few words what is explained."""


@dataclass(frozen=True)
class ClassIndex(Target):
    """The score before softmax of one class, the same for every image."""

    index: int

    def __call__(self, outputs: Outputs) -> Scores:
        """Return column ``index`` of the class scores [B]."""
        logits = logits_of(outputs)
        _check_class(self.index, logits)
        return logits[:, self.index]

    def classes(self, outputs: Outputs) -> Classes:
        """Return ``index`` for every image [B]."""
        logits = logits_of(outputs)
        _check_class(self.index, logits)
        return torch.full((logits.shape[0],), self.index, device=logits.device)

    def describe(self) -> str:
        """Name the class."""
        return f"class {self.index}"


def _miscount(targets: int, images: int) -> str:
    return f"{targets} targets for {images} images; give one target, or one an image"


def _check_class(index: int, logits: Logits) -> None:
    if not 0 <= index < logits.shape[1]:
        raise TargetError(
            f"class {index} does not exist; the model has {logits.shape[1]} classes, "
            f"0 to {logits.shape[1] - 1}"
        )


@dataclass(frozen=True, eq=False)
class ClassPerImage(Target):
    """The score before softmax of each image's own class; ``indices`` is int64 [B].

    ``bounds`` is the least and the greatest index where they are known without asking the device.
    """

    indices: Classes
    bounds: tuple[int, ...] = ()

    def __call__(self, outputs: Outputs) -> Scores:
        """Return each image's score of its class [B]."""
        logits = logits_of(outputs)
        if len(self.indices) != len(logits):
            raise TargetError(_miscount(len(self.indices), len(logits)))
        for bound in self.bounds:
            _check_class(bound, logits)
        return logits.gather(1, self.indices.to(logits.device).unsqueeze(1)).squeeze(1)

    def classes(self, outputs: Outputs) -> Classes:
        """Return the indices [B]."""
        logits = logits_of(outputs)
        for bound in self.bounds:
            _check_class(bound, logits)
        return self.indices.to(logits.device)

    def part(self, start: int, stop: int) -> "ClassPerImage":
        """Return the classes of images ``start`` to ``stop``."""
        return ClassPerImage(self.indices[start:stop], self.bounds)

    def describe(self) -> str:
        """Name the kind; the classes themselves are in ``indices``."""
        return "a class an image"


@dataclass(frozen=True)
class Rank(Target):
    """The class with the ``rank``-th highest score of each image; 1 is the top class."""

    rank: int = 1

    def _class(self, logits: Logits) -> Classes:
        if not 1 <= self.rank <= logits.shape[1]:
            raise TargetError(
                f"rank {self.rank} does not exist; the model has {logits.shape[1]} classes, 1 is the top one"
            )
        # topk breaks ties differently for different k; a stable sort gives the lower class first.
        return logits.detach().sort(dim=1, descending=True, stable=True).indices[:, self.rank - 1]

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the scores of the classes with that rank [B]."""
        return self.pin(outputs)(outputs)

    def pin(self, outputs: Outputs) -> ClassPerImage:
        """Fix the classes to those that have this rank in ``outputs``."""
        return ClassPerImage(self._class(logits_of(outputs)))

    def classes(self, outputs: Outputs) -> Classes:
        """Return the class with that rank of each image [B]."""
        return self._class(logits_of(outputs))

    def describe(self) -> str:
        """Name the rank."""
        return "top class" if self.rank == 1 else f"class of rank {self.rank}"


@dataclass(frozen=True)
class TopClass(Rank):
    """Each image's class with the highest score."""


@dataclass(frozen=True)
class Contrast(Target):
    """Why ``of`` rather than ``against``: the difference of two scores, each a class or a target."""

    of: int | Target
    against: int | Target

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the difference of the two scores [B]."""
        return _as_single(self.of)(outputs) - _as_single(self.against)(outputs)

    def pin(self, outputs: Outputs) -> "Contrast":
        """Fix both sides to the classes of ``outputs``."""
        return Contrast(_as_single(self.of).pin(outputs), _as_single(self.against).pin(outputs))

    def part(self, start: int, stop: int) -> "Contrast":
        """Return both sides' parts."""
        return Contrast(_as_single(self.of).part(start, stop), _as_single(self.against).part(start, stop))

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the class that is argued for [B]."""
        return _as_single(self.of).classes(outputs)

    def describe(self) -> str:
        """Name both sides."""
        return f"{_as_single(self.of).describe()} rather than {_as_single(self.against).describe()}"


@dataclass(frozen=True)
class Probability(Target):
    """The softmax probability [0, 1] of a class, by default each image's top class.

    Its gradient fades where the model is sure; the score before softmax is the usual choice.
    """

    of: int | Target = TopClass()

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the probabilities [B]."""
        classes = _as_single(self.of).classes(outputs)
        logits = logits_of(outputs)
        if logits.shape[1] < 2:
            raise TargetError(
                "the model has one output, whose softmax is always 1; explain its score instead (target=0)"
            )
        if classes is None:
            raise TargetError(
                f"{self.describe()} is undefined; Probability needs a class, a rank or the top class"
            )
        return logits.softmax(1).gather(1, classes.unsqueeze(1)).squeeze(1)

    def pin(self, outputs: Outputs) -> "Probability":
        """Fix the class to that of ``outputs``."""
        return Probability(_as_single(self.of).pin(outputs))

    def part(self, start: int, stop: int) -> "Probability":
        """Return the probability of the class's part."""
        return Probability(_as_single(self.of).part(start, stop))

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the class whose probability it is [B]."""
        return _as_single(self.of).classes(outputs)

    def describe(self) -> str:
        """Name the class."""
        return f"probability of {_as_single(self.of).describe()}"


@dataclass(frozen=True)
class CustomTarget(Target):
    """Any function from the model's outputs, as they are, to one score an image [B]."""

    function: Callable[[Outputs], Tensor]

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the function's scores, checked to be one an image."""
        scores = self.function(outputs)
        batch = _batch_of(outputs)
        if not isinstance(scores, Tensor) or scores.ndim != 1 or (batch is not None and len(scores) != batch):
            raise TargetError(
                f"the target function gave {_describe(scores)}; expected one score an image, "
                f"[{batch or 'batch'}]"
            )
        return scores

    def describe(self) -> str:
        """Name the function."""
        return f"function {getattr(self.function, '__name__', type(self.function).__name__)}"


def _batch_of(outputs: Outputs) -> int | None:
    if isinstance(outputs, Tensor):
        return outputs.shape[0] if outputs.ndim else None
    values = outputs.values() if isinstance(outputs, dict) else outputs
    if not isinstance(values, Sequence) and not isinstance(outputs, dict):
        return None
    return next((_batch_of(value) for value in values if isinstance(value, Tensor)), None)


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
                f"{_describe(outputs)}; give one function from these outputs to one score an image"
            ) from error
        if len(self.targets) != len(logits):
            raise TargetError(_miscount(len(self.targets), len(logits)))
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


def _as_single(target: object) -> Target:
    if target is None:
        return TopClass()
    if isinstance(target, Target):
        return target
    if isinstance(target, SupportsIndex) and not isinstance(target, bool):
        return ClassIndex(operator.index(target))  # numpy's integers too
    if callable(target):
        return CustomTarget(target)
    raise TargetError(
        f"a {type(target).__name__} is no target; give a class index, a target such as TopClass(), "
        "a function from outputs to scores, or one of these an image"
    )


def as_target(target: TargetLike, batch: int) -> Target:
    """Turn what a caller may pass into a target for ``batch`` images; raises TargetError."""
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool or target.ndim > 1:
            raise TargetError(f"targets are {_describe(target)}; expected integers [batch]")
        target = target.reshape(-1).tolist() if target.ndim else int(target)
    if isinstance(target, np.ndarray):
        target = target.tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return _as_single(target)
    if len(target) != batch:
        raise TargetError(_miscount(len(target), batch))
    singles = tuple(_as_single(one) for one in target)
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
            join_targets([_as_single(t.of) for t in targets if isinstance(t, Probability)], counts)
        )
    if all(isinstance(target, Contrast) for target in targets):
        contrasts = [target for target in targets if isinstance(target, Contrast)]
        of = join_targets([_as_single(contrast.of) for contrast in contrasts], counts)
        return Contrast(of, join_targets([_as_single(contrast.against) for contrast in contrasts], counts))
    each = [
        target.targets if isinstance(target, PerImage) else (target,) * count
        for target, count in zip(targets, counts, strict=True)
    ]
    return PerImage(tuple(one for some in each for one in some))
