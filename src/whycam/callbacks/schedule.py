"""When pictures are logged during a training."""

from dataclasses import dataclass
from typing import TypeAlias

from whycam.errors import UsageError


@dataclass(frozen=True)
class Epochs:
    """At the end of every ``n``-th epoch of training. Raises UsageError where ``n`` is below 1."""

    n: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no count."""
        _check(self.n, "Epochs")


@dataclass(frozen=True)
class Steps:
    """After every ``n``-th step of the optimiser. Raises UsageError where ``n`` is below 1."""

    n: int

    def __post_init__(self) -> None:
        """Refuse what is no count."""
        _check(self.n, "Steps")


@dataclass(frozen=True)
class Validations:
    """At the end of every validation, however often the trainer validates."""


Schedule: TypeAlias = Epochs | Steps | Validations


def _check(n: int, name: str) -> None:
    if n < 1:
        raise UsageError(f"{name}({n}) would never come; give a whole number from 1 up")
