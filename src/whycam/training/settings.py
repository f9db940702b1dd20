"""What a training is asked to do, as a value that is checked once and kept with its state."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from whycam.errors import UsageError

Optimizer: TypeAlias = Literal["sgd", "adamw"]
Precision: TypeAlias = Literal["auto", "32", "bf16", "16"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained.

    The learning rate ``lr`` is multiplied by ``gamma`` after every ``step`` epochs. ``momentum`` is SGD's,
    and the first beta of AdamW. ``crop_scale`` is the least and the greatest share of an image's area that a
    random crop takes, and ``flip`` the share of images that are mirrored. ``seed`` settles the order of the
    images, their crops and flips, and dropout. ``precision`` is that of training, not of validation: ``auto``
    is 32 bits on the processor, bfloat16 on a GPU that has it, else float16.

    Raises UsageError for values that make no sense.
    """

    epochs: int = 25
    optimizer: Optimizer = "sgd"
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    step: int = 7
    gamma: float = 0.1
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    batch_size: int = 32
    seed: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse values that make no sense before an image is read."""
        for name in ("epochs", "step", "batch_size"):
            _check(name, getattr(self, name), "a whole number from 1", getattr(self, name) >= 1)
        _check("seed", self.seed, "a whole number from 0", self.seed >= 0)
        _check("lr", self.lr, "a number above 0, such as 0.001", 0 < self.lr < math.inf)
        _check("momentum", self.momentum, "a number from 0 to below 1", 0 <= self.momentum < 1)
        _check("weight_decay", self.weight_decay, "a number from 0", 0 <= self.weight_decay < math.inf)
        _check("gamma", self.gamma, "a number above 0 and up to 1", 0 < self.gamma <= 1)
        _check("flip", self.flip, "a share from 0 to 1; 0 is no flips", 0 <= self.flip <= 1)
        _check("optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}", self.optimizer in OPTIMIZERS)
        _check("precision", self.precision, f"one of {', '.join(PRECISIONS)}", self.precision in PRECISIONS)
        shares = self.crop_scale
        sensible = len(shares) == 2 and 0 < shares[0] <= shares[1] <= 1
        _check("crop_scale", shares, "two shares above 0 and up to 1, the smaller first", sensible)

    def to_dict(self) -> dict[str, Any]:
        """Give plain data (numbers, texts, lists)."""
        return asdict(self) | {"crop_scale": list(self.crop_scale)}


def _check(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}; expected {expected}")


def first_difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """Say what differs first between what is asked for now and what a training was begun with."""
    for name in [*now, *(name for name in before if name not in now)]:
        if now.get(name) != before.get(name):
            return f"{name} is {_shown(now.get(name))}, and it was begun with {_shown(before.get(name))}"
    return None


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
