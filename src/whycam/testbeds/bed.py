"""What a test bed is: pictures with their truth, trained networks, and the checks that make it valid."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, UInt8
from torch import Tensor, nn

from whycam.testbeds.scenes import SIDE


@dataclass(frozen=True)
class Check:
    """What an intervention on the model showed, and between which bounds it makes the bed valid."""

    what: str
    value: float
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether the value is within its bounds; a NaN is not."""
        return self.at_least <= self.value <= self.at_most

    @property
    def bounds(self) -> str:
        """The bounds in words: ``at least 0.9``."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))

    def to_dict(self) -> dict[str, object]:
        """Give plain data; a bound that is not there is None, and so is a value that is no number."""
        numbers = {"value": self.value, "at_least": self.at_least, "at_most": self.at_most}
        finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        return {"what": self.what, **finite, "bounds": self.bounds, "holds": self.holds}


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one kind: for each what is to be explained, and where the truth of it is."""

    name: str
    images: UInt8[Tensor, "n 3 height width"]
    masks: Bool[Tensor, "n height width"]
    labels: Sequence[str]
    photographs: Sequence[Collection[int]]
    """Which photographs are in each, by their index."""
    names: Sequence[str] | None = None
    """Names without an ending; the number, where there are none."""

    @property
    def stems(self) -> list[str]:
        """Each picture's name without an ending."""
        return list(self.names or (f"{index:03d}" for index in range(len(self.images))))


@dataclass(frozen=True)
class Trained:
    """A network that can be loaded again by ``reference``, and what its outputs are of."""

    name: str
    network: nn.Module
    reference: str
    class_names: Sequence[str]
    size: tuple[int, int] = (SIDE, SIDE)


@dataclass(frozen=True)
class Bed:
    """A made test bed, before it is written; ``facts`` are plain data, ``tables`` rows by file name."""

    what: str
    checks: Sequence[Check]
    networks: Sequence[Trained]
    pictures: Sequence[PictureSet]
    facts: Mapping[str, object] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Sequence[object]]] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether every check holds: where one fails, nothing that is measured on the bed means anything."""
        return all(check.holds for check in self.checks)
