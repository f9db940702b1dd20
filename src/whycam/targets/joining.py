"""Targets made of targets: one an image, several in one score, and those of several batches as one."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whycam.errors import TargetError
from whycam.targets.base import Target, Undo, miscount
from whycam.targets.outputs import Outputs, batch_of, described, image_of
from whycam.types import Classes, Rows, Scores


@dataclass(frozen=True)
class PerImage(Target):
    """A target of its own for each image, in order; each one sees its image's share of the outputs."""

    targets: tuple[Target, ...]

    def _shares(self, outputs: Outputs) -> list[tuple[Target, Outputs]]:
        batch = batch_of(outputs)
        if batch is None:
            raise TargetError(
                f"a target an image needs outputs that can be told apart by image, and the model returned "
                f"{described(outputs)}; give one function from these outputs to one score an image"
            )
        if len(self.targets) != batch:
            raise TargetError(miscount(len(self.targets), batch))
        return [(target, image_of(outputs, i)) for i, target in enumerate(self.targets)]

    def __call__(self, outputs: Outputs) -> Scores:
        """Return each image's score under its own target [B]."""
        return torch.cat([target(share) for target, share in self._shares(outputs)])

    def pin(self, outputs: Outputs) -> "PerImage":
        """Pin every image's target to its own share of ``outputs``."""
        return PerImage(tuple(target.pin(share) for target, share in self._shares(outputs)))

    def classes(self, outputs: Outputs) -> Classes:
        """Return each image's class [B], -1 where its target names none."""
        found = [target.classes(share) for target, share in self._shares(outputs)]
        device = next((classes.device for classes in found if classes is not None), None)
        none = torch.full((1,), -1, device=device)
        return torch.cat([none if classes is None else classes for classes in found])

    def select(self, rows: Rows) -> "PerImage":
        """Return the targets of these images."""
        return PerImage(tuple(self.targets[row] for row in rows.tolist()))

    def part(self, start: int, stop: int) -> "PerImage":
        """Return the targets of images ``start`` to ``stop``, without asking a tensor for its numbers."""
        return PerImage(self.targets[start:stop])

    def count(self) -> int:
        """Return the number of targets."""
        return len(self.targets)

    def in_view(self, undo: Undo, size: tuple[int, ...]) -> "PerImage":
        """Return every target for its image's changed copy."""
        return PerImage(tuple(target.in_view(undo, size) for target in self.targets))

    def of_class_scores(self) -> bool:
        """Say whether it is so for every image."""
        return all(target.of_class_scores() for target in self.targets)

    def describe(self) -> str:
        """Name the targets."""
        return "; ".join(target.describe() for target in self.targets)


class Composed(Target):
    """A score made from other targets' scores; what concerns single images is theirs to do."""

    @abstractmethod
    def operands(self) -> tuple[Target, ...]:
        """Return the targets it is made of."""

    @abstractmethod
    def made_of(self, operands: Sequence[Target]) -> "Composed":
        """Return the same made of other targets."""

    def pin(self, outputs: Outputs) -> "Composed":
        """Pin each of its targets."""
        return self.made_of([target.pin(outputs) for target in self.operands()])

    def select(self, rows: Rows) -> "Composed":
        """Return the same of each target for these images."""
        return self.made_of([target.select(rows) for target in self.operands()])

    def part(self, start: int, stop: int) -> "Composed":
        """Return the same of each target's part."""
        return self.made_of([target.part(start, stop) for target in self.operands()])

    def join(self, others: Sequence[Any], counts: Sequence[int]) -> "Composed | None":
        """Join each of its targets with the others' at its place."""
        mine = self.operands()
        if any(other.made_of(mine) != self.made_of(mine) for other in others):  # another activation
            return None
        columns = zip(mine, *(other.operands() for other in others), strict=True)
        return self.made_of([join_targets(column, counts) for column in columns])

    def count(self) -> int | None:
        """Return the number of images its targets hold something of."""
        return next((n for n in (target.count() for target in self.operands()) if n is not None), None)

    def in_view(self, undo: Undo, size: tuple[int, ...]) -> "Composed":
        """Return the same of each target in the view."""
        return self.made_of([target.in_view(undo, size) for target in self.operands()])

    def of_class_scores(self) -> bool:
        """Say whether it is so for each of its targets."""
        return all(target.of_class_scores() for target in self.operands())


def join_targets(targets: Sequence[Target], counts: Sequence[int]) -> Target:
    """Return the targets of consecutive batches, of ``counts`` images each, as one for all the images."""
    first = targets[0]
    if all(target is first or target == first for target in targets):
        return first
    if all(type(target) is type(first) for target in targets):
        joined = first.join(targets[1:], counts)
        if joined is not None:
            return joined
    each = [_each(target, count) for target, count in zip(targets, counts, strict=True)]
    return PerImage(tuple(one for some in each for one in some))


def _each(target: Target, count: int) -> tuple[Target, ...]:
    if isinstance(target, PerImage):
        return target.targets
    return tuple(target.part(at, at + 1) for at in range(count))
