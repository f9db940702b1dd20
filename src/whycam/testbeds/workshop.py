"""What test beds are made with: scenes that share nothing with training, and the training itself."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TypeVar

import torch
from torch import Tensor, nn

from whycam.demo import demo_metadata
from whycam.testbeds.scenes import (
    DRAWS,
    Scenes,
    Sources,
    load_sources,
    render,
    stream,
    uniform,
)
from whycam.testbeds.training import Batch, Schedule, fit

Network = TypeVar("Network", bound=nn.Module)
Progress = Callable[[int, int], None]
"""Told of a training's steps: finished, planned."""

BATCH = 60
_LOT = 200


class Purpose(IntEnum):
    """The streams of a seed's random numbers; those below 10 are the demo's."""

    TRAINING = 10
    CONTROL_TRAINING = 11
    TESTED = 12
    PLATES = 13
    MOSAICS = 14
    COLOURS = 15


@dataclass(frozen=True)
class Effort:
    """How much work goes into a bed: a share of the training's steps, scenes tested, scenes shown."""

    share: float = 1.0
    tested: int = 1000
    shown: int = 200


FULL = Effort()


@dataclass(frozen=True)
class Workshop:
    """The seed, the device, the effort, and the sources of the two splits.

    The splits are the demo's, whatever the seed: its network has seen nothing of what is held out here,
    and may be trained further.
    """

    seed: int
    device: torch.device
    effort: Effort
    progress: Progress
    training: Sources
    held_out: Sources

    @classmethod
    def open(cls, seed: int, device: torch.device, effort: Effort, progress: Progress) -> "Workshop":
        """Read the digits and the photographs. Raises MissingExtraError where they are not installed."""
        return cls(seed, device, effort, progress, *_sources())

    def chance(self, purpose: Purpose, rows: int, draws: int = DRAWS) -> Tensor:
        """Draw float64 [rows, draws] in [0, 1), the same for a purpose at each call."""
        return uniform(stream(self.seed, purpose), rows, draws)

    def tested(self) -> Scenes:
        """Make held-out scenes, every digit as often."""
        return self.made(self.chance(Purpose.TESTED, self.effort.tested))

    def made(self, chance: Tensor) -> Scenes:
        """Make the held-out scenes that numbers [N, DRAWS] decide; in lots, which keeps memory low."""
        return joined([render(self.held_out, lot) for lot in torch.split(chance, _LOT)])

    def steps(self, schedule: Schedule) -> int:
        """Give the steps of a schedule that the effort allows."""
        return max(1, round(schedule.steps * self.effort.share))

    def train(self, network: Network, draw: Callable[[int], Batch], schedule: Schedule) -> Network:
        """Train a network in place on the device, for the effort's share of the schedule; gives it back."""
        steps = self.steps(schedule)
        planned = Schedule(steps, schedule.learning_rate, schedule.weight_decay, schedule.warm_up_steps)
        fit(network.to(self.device), draw, planned, lambda step, loss: self.progress(step + 1, steps))
        return network


@functools.cache
def _sources() -> tuple[Sources, Sources]:
    return load_sources(demo_metadata()["seed"])


def joined(lots: list[Scenes]) -> Scenes:
    """Put lots of scenes together."""
    return Scenes(
        **{part.name: torch.cat([getattr(lot, part.name) for lot in lots]) for part in fields(Scenes)}
    )


def chosen(scenes: Scenes, index: Tensor) -> Scenes:
    """Keep the scenes at an index int64 [n]."""
    return Scenes(**{part.name: getattr(scenes, part.name)[index] for part in fields(Scenes)})


def first_true(flags: Tensor, count: int) -> Tensor:
    """Give the index of the first ``count`` that are true."""
    return flags.nonzero()[:count, 0]


def share(flags: Tensor) -> float:
    """Give the share that is true, NaN of none."""
    return float(flags.double().mean())
