"""What sets a class apart from the classes that the model finds most like it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from whycam.errors import TargetError
from whycam.targets.base import Target
from whycam.targets.classes import ClassIndex, ClassPerImage, TopClass, single_target
from whycam.targets.joining import Composed, PerImage
from whycam.targets.outputs import Logits, Outputs, logits_of
from whycam.types import Classes, Scores


@dataclass(frozen=True)
class Finer(Composed):
    """A class's score less ``gamma`` times the mean score of its ``references``.

    ``references`` is how many of the classes whose scores are nearest to the class's own are taken (for the
    top class those that rank next; fewer where the model has fewer), or the classes themselves. ``gamma`` is
    0 for the class alone and 1 for the whole difference. Source: Zhang 2025, whose comparison is y_c -
    gamma y_d; that several references count alike is ours.
    """

    of: int | Target = field(default_factory=TopClass)
    gamma: float = 0.6
    references: int | Sequence[int | Target] = 3

    def __post_init__(self) -> None:
        """Refuse a comparison with nothing."""
        count = self.references if isinstance(self.references, int) else len(self.references)
        if count < 1:
            raise TargetError(f"Finer has {count} references; give at least one class to compare with")

    def _named(self) -> tuple[Target, ...]:
        named = () if isinstance(self.references, int) else self.references
        return tuple(single_target(reference) for reference in named)

    def operands(self) -> tuple[Target, ...]:
        """Return the class and the references that are known by now."""
        return (single_target(self.of), *self._named())

    def made_of(self, operands: Sequence[Target]) -> "Finer":
        """Return the same comparison of other classes."""
        of, *named = operands
        return replace(self, of=of, references=tuple(named) or self.references)

    def pin(self, outputs: Outputs) -> "Finer":
        """Fix the class and its references to those of ``outputs``."""
        of, *named = (target.pin(outputs) for target in self.operands())
        if not _is_of_classes(of):
            raise TargetError(
                f"Finer compares scores of classes, and {of.describe()} is none; give a class, or a rank"
            )
        if isinstance(self.references, int):
            named = list(_nearest(logits_of(outputs), of(outputs), of.classes(outputs), self.references))
        return replace(self, of=of, references=tuple(named))

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the class's score less the references' share [B]."""
        if isinstance(self.references, int):
            return self.pin(outputs)(outputs)
        of, *named = self.operands()
        return of(outputs) - self.gamma * torch.stack([target(outputs) for target in named]).mean(0)

    def classes(self, outputs: Outputs) -> Classes | None:
        """Return the class that is argued for [B]."""
        return single_target(self.of).classes(outputs)

    def describe(self) -> str:
        """Name the class and what it is compared with."""
        of = single_target(self.of).describe()
        if isinstance(self.references, int):
            return f"{of} rather than the {self.references} nearest classes (gamma {self.gamma:g})"
        against = [target.describe() for target in self._named()]
        return f"{of} rather than {', '.join(dict.fromkeys(against))} (gamma {self.gamma:g})"


def _is_of_classes(target: Target) -> bool:
    if isinstance(target, PerImage):
        return all(_is_of_classes(one) for one in target.targets)
    return isinstance(target, ClassIndex | ClassPerImage)


def _nearest(
    logits: Logits, scores: Scores, classes: Classes | None, count: int
) -> tuple[ClassPerImage, ...]:
    """Return, for each image, the ``count`` other classes whose scores are nearest to its class's."""
    others = logits.shape[1] - 1
    if classes is None or not others:
        raise TargetError(
            "the model has one output, and Finer needs another class to compare with; give Binary()"
        )
    distance = (logits.detach() - scores.detach().unsqueeze(1)).abs()
    distance = distance.scatter(1, classes.unsqueeze(1), torch.inf)
    # stable, so that ties go to the lower class
    order = distance.sort(dim=1, stable=True).indices
    return tuple(ClassPerImage(order[:, place]) for place in range(min(count, others)))
