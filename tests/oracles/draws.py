"""What the tests of the methods are drawn from: shapes, activations, gradients, and a tolerance.

Values are either small whole numbers or normal, times a power of two: sums of whole numbers are then exact
in any order, so that a sum that is 0 is 0 for the method and for its oracle.
"""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

# The same draws on every machine; draws that leave a sign or a direction undecided are dropped.
check = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
brief_check = settings(check, max_examples=20)

FLAVOURS = ("normal", "rectified", "whole", "rectified whole", "half zero", "zero")


@dataclass(frozen=True)
class Draw:
    """Activations and gradients of a few images, float64, [B, C, *grid]."""

    activations: Tensor
    gradients: Tensor

    @property
    def images(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same, an image at a time, for the oracles."""
        return list(zip(self.activations.numpy(), self.gradients.numpy(), strict=True))


def values(random: np.random.Generator, flavour: str, shape: tuple[int, ...]) -> np.ndarray:
    """Fill an array in one of the flavours."""
    if flavour == "zero":
        return np.zeros(shape)
    if "whole" in flavour:
        array = random.integers(-3, 4, shape).astype(float)
    else:
        array = random.standard_normal(shape)
    if "rectified" in flavour:
        array = np.maximum(array, 0.0)
    if flavour == "half zero":
        array[random.random(shape) < 0.5] = 0.0
    return array


def grids(axes: tuple[int, ...] = (1, 2, 3), largest: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw the sizes of one to three axes."""
    return st.sampled_from(axes).flatmap(lambda n: st.tuples(*[st.integers(1, largest)] * n))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], flavours: tuple[str, ...] = FLAVOURS) -> Tensor:
    """Draw [B, C, *grid]: a flavour, a scale from 2^-27 (about 1e-8) to 2^27, and some dead channels."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = values(random, draw(st.sampled_from(flavours)), shape)
    array *= 2.0 ** draw(st.sampled_from((0, -27, -7, 7, 27)))
    dead = draw(st.sets(st.integers(0, shape[1] - 1), max_size=shape[1]))
    array[:, sorted(dead)] = 0.0
    return torch.from_numpy(array)


@st.composite
def draws(draw: st.DrawFn, axes: tuple[int, ...] = (1, 2, 3), largest: int = 5) -> Draw:
    """Draw one to three images with one to six channels."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), *draw(grids(axes, largest)))
    return Draw(activations=draw(arrays(shape)), gradients=draw(arrays(shape)))


def disagreement(got: Tensor, expected: np.ndarray, scale: float | None = None) -> float:
    """Largest difference between a map and its oracle, relative to ``scale``, by default the map's maximum.

    Where the scale is 0, any difference at all is infinite. A value that is not finite is infinitely wrong.
    """
    assert tuple(got.shape) == expected.shape
    difference = float(np.abs(got.detach().cpu().double().numpy() - expected).max())
    size = float(np.abs(expected).max()) if scale is None else scale
    if difference == 0.0:
        return 0.0
    return difference / size if np.isfinite(difference) and size > 0.0 else float("inf")
