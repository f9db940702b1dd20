"""Targets of classifiers: a class, a rank, yes or no, a contrast, a probability."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch

from whycam.errors import TargetError
from whycam.targets.base import CustomTarget, Target, miscount
from whycam.targets.joining import Composed
from whycam.targets.outputs import Activation, Logits, Outputs, check_activation, logits_of
from whycam.types import Classes, Rows, Scores


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
            raise TargetError(miscount(len(self.indices), len(logits)))
        for bound in self.bounds:
            _check_class(bound, logits)
        return logits.gather(1, self.indices.to(logits.device).unsqueeze(1)).squeeze(1)

    def classes(self, outputs: Outputs) -> Classes:
        """Return the indices [B]."""
        logits = logits_of(outputs)
        for bound in self.bounds:
            _check_class(bound, logits)
        return self.indices.to(logits.device)

    def select(self, rows: Rows) -> "ClassPerImage":
        """Return the classes of these images."""
        return ClassPerImage(self.indices[rows.to(self.indices.device)], self.bounds)

    def join(self, others: Sequence["ClassPerImage"], counts: Sequence[int]) -> "ClassPerImage":
        """Return the classes of all batches."""
        every = (self, *others)
        bounds = tuple(sorted({bound for target in every for bound in target.bounds}))
        return ClassPerImage(torch.cat([target.indices for target in every]), bounds)

    def count(self) -> int:
        """Return the number of classes."""
        return len(self.indices)

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
class Binary(Target):
    """One side of a yes-or-no model with one logit: the logit for yes, its negative for no."""

    positive: bool = True

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the side's logits [B]."""
        logits = logits_of(outputs)
        if logits.shape[1] != 1:
            raise TargetError(
                f"the model has {logits.shape[1]} outputs, and Binary is for a model with one; "
                "give a class index, or Contrast(1, 0) for the second of two rather than the first"
            )
        return logits[:, 0] if self.positive else -logits[:, 0]

    def classes(self, outputs: Outputs) -> Classes:
        """Return 1 for yes or 0 for no, for every image [B]."""
        logits = logits_of(outputs)
        return torch.full((len(logits),), int(self.positive), device=logits.device)

    def describe(self) -> str:
        """Name the side."""
        return "the positive class" if self.positive else "the negative class"


@dataclass(frozen=True)
class Contrast(Composed):
    """Why ``of`` rather than ``against``: the difference of two scores, each a class or a target."""

    of: int | Target
    against: int | Target

    def operands(self) -> tuple[Target, Target]:
        """Return both sides."""
        return single_target(self.of), single_target(self.against)

    def made_of(self, operands: Sequence[Target]) -> "Contrast":
        """Return the contrast of two other sides."""
        return Contrast(*operands)

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the difference of the two scores [B]."""
        of, against = self.operands()
        return of(outputs) - against(outputs)

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the class that is argued for [B]."""
        return single_target(self.of).classes(outputs)

    def describe(self) -> str:
        """Name both sides."""
        of, against = self.operands()
        return f"{of.describe()} rather than {against.describe()}"


@dataclass(frozen=True)
class Probability(Composed):
    """The probability [0, 1] of a class, by default each image's top class.

    ``activation`` is "softmax" where one class excludes the others, "sigmoid" where each is a yes or no of
    its own; with one logit, the sigmoid is the probability of yes, and that of ``Binary(False)`` of no.
    Its gradient fades where the model is sure; the score before the activation is the usual choice.
    """

    of: int | Target = TopClass()
    activation: Activation = "softmax"

    def __post_init__(self) -> None:
        """Refuse an unknown activation."""
        check_activation(self.activation)

    def operands(self) -> tuple[Target]:
        """Return the target whose probability it is."""
        return (single_target(self.of),)

    def made_of(self, operands: Sequence[Target]) -> "Probability":
        """Return the probability of another target."""
        return Probability(operands[0], self.activation)

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the probabilities [B]."""
        (of,) = self.operands()
        classes = of.classes(outputs)
        if classes is None:
            raise TargetError(
                f"{self.describe()} is undefined; Probability needs a class, a rank or the top class"
            )
        if self.activation == "sigmoid":
            return of(outputs).sigmoid()
        logits = logits_of(outputs)
        if logits.shape[1] < 2:
            raise TargetError(
                "the model has one output, whose softmax is always 1; explain its score instead (target=0), "
                'or its sigmoid: Probability(0, activation="sigmoid")'
            )
        return logits.softmax(1).gather(1, classes.unsqueeze(1)).squeeze(1)

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the class whose probability it is [B]."""
        return single_target(self.of).classes(outputs)

    def describe(self) -> str:
        """Name the class."""
        kind = "probability" if self.activation == "softmax" else "sigmoid probability"
        return f"{kind} of {single_target(self.of).describe()}"


def single_target(target: object) -> Target:
    """Turn a class index, a function, None or a target into one target for all images."""
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
