"""Smoothing as values: what to average over, or how to reduce the channels.

An averaging smoothing gives ``views`` of the images and how to bring a view's map back; the explainer
runs the method on every view with the clean image's target and averages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from whycam.errors import MethodError
from whycam.methods.gradient import add_noise
from whycam.types import Images, Map

Undo = Callable[[Map], Map]


@runtime_checkable
class Averaging(Protocol):
    """A smoothing that averages maps over changed copies of the images."""

    def views(self, images: Images) -> Iterator[tuple[Images, Undo]]:
        """Give each changed copy of the images with the function that brings its maps back."""
        ...


def _same(maps: Map) -> Map:
    return maps


def _flip_last(values: torch.Tensor) -> torch.Tensor:
    return values.flip(-1)


@dataclass(frozen=True)
class FlipAverage:
    """Average the maps of the image and of its mirror image (left to right). Costs 2 explanations."""

    def views(self, images: Images) -> Iterator[tuple[Images, Undo]]:
        """Give the images as they are and mirrored."""
        yield images, _same
        yield _flip_last(images), _flip_last


@dataclass(frozen=True)
class NoiseAverage:
    """Average the maps of ``n`` noisy copies; ``sigma`` is a share of each image's range of values.

    Costs ``n`` explanations. Source: Smilkov 2017.
    """

    n: int = 16
    sigma: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty average."""
        if self.n < 1 or self.sigma < 0:
            raise MethodError(f"NoiseAverage(n={self.n}, sigma={self.sigma}): n must be >= 1 and sigma >= 0")

    def views(self, images: Images) -> Iterator[tuple[Images, Undo]]:
        """Give ``n`` noisy copies of the images, the same ones for the same seed."""
        generator = torch.Generator(images.device).manual_seed(self.seed)
        for _ in range(self.n):
            yield add_noise(images, self.sigma, generator), _same


@dataclass(frozen=True)
class ScaleAverage:
    """Average the maps of copies whose pixel values are multiplied by ``factors``."""

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)

    def __post_init__(self) -> None:
        """Refuse an empty average."""
        if not self.factors:
            raise MethodError("ScaleAverage needs at least one factor, such as (0.9, 1.0, 1.1)")

    def views(self, images: Images) -> Iterator[tuple[Images, Undo]]:
        """Give the images multiplied by each factor."""
        for factor in self.factors:
            yield images if factor == 1 else images * factor, _same


@dataclass(frozen=True)
class FirstComponent:
    """Show the first principal direction of the weighted channels ``w_k A_k`` instead of their sum.

    Works with every method of the form ``sum_k w_k A_k``; costs no further pass. Known from practice.
    """


Smoothing = Averaging | FirstComponent
