"""Targets of regression models: a number that the model gives."""

from dataclasses import dataclass

from whycam.errors import TargetError
from whycam.targets.base import Target
from whycam.targets.outputs import Outputs, logits_of
from whycam.types import Scores


@dataclass(frozen=True)
class Value(Target):
    """One of the numbers of a regression model with outputs [B] or [B, values].

    Its map shows what makes the number large, with ``lower`` what makes it small.
    """

    index: int = 0
    lower: bool = False

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the number of each image, or its negative [B]."""
        values = logits_of(outputs)
        if not 0 <= self.index < values.shape[1]:
            raise TargetError(
                f"value {self.index} does not exist; the model gives {values.shape[1]} an image, "
                f"0 to {values.shape[1] - 1}"
            )
        found = values[:, self.index]
        return -found if self.lower else found

    def of_class_scores(self) -> bool:
        """Say that the outputs are values, and none of them a predicted class."""
        return False

    def describe(self) -> str:
        """Name the number."""
        return f"what lowers value {self.index}" if self.lower else f"value {self.index}"
