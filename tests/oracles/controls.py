"""The controls of one image: what a method must beat, written as plain loops."""

import itertools
import math
import struct
from collections.abc import Sequence

import numpy as np

SMOOTH = (1.0, 2.0, 1.0)
DIFFERENCE = (-1.0, 0.0, 1.0)


def centre(grid: Sequence[int], spread: float = 0.5) -> np.ndarray:
    """Isotropic Gaussian about the grid's centre; every axis spans -1 to 1, cells lie at (2i + 1)/n - 1."""
    bump = np.zeros(tuple(grid))
    for p in np.ndindex(*grid):
        squared = sum(((2 * i + 1) / n - 1) ** 2 for i, n in zip(p, grid, strict=True))
        bump[p] = math.exp(-squared / (2 * spread**2))
    return bump


def replicated(plane: np.ndarray, index: Sequence[int]) -> float:
    """Read a value; outside the array, that of the nearest cell inside."""
    return float(plane[tuple(min(max(i, 0), n - 1) for i, n in zip(index, plane.shape, strict=True))])


def channel_mean(image: np.ndarray) -> np.ndarray:
    """Average [C, *size] over the channels."""
    plane = np.zeros(image.shape[1:])
    for p in np.ndindex(*plane.shape):
        plane[p] = math.fsum(image[k][p] for k in range(len(image))) / len(image)
    return plane


def sobel(plane: np.ndarray) -> np.ndarray:
    """Gradient magnitude of a picture by Sobel's two 3 x 3 kernels, edge values repeated outside."""
    magnitude = np.zeros(plane.shape)
    for y, x in np.ndindex(*plane.shape):
        vertical = horizontal = 0.0
        for i, j in itertools.product(range(3), repeat=2):
            value = replicated(plane, (y + i - 1, x + j - 1))
            vertical += DIFFERENCE[i] * SMOOTH[j] * value
            horizontal += SMOOTH[i] * DIFFERENCE[j] * value
        magnitude[y, x] = math.hypot(vertical, horizontal)
    return magnitude


def central_differences(plane: np.ndarray) -> np.ndarray:
    """Gradient magnitude by (x[i+1] - x[i-1]) / 2 along each axis, edge values repeated outside."""
    magnitude = np.zeros(plane.shape)
    for p in np.ndindex(*plane.shape):
        slopes = []
        for axis in range(plane.ndim):
            ahead = [i + (axis == a) for a, i in enumerate(p)]
            behind = [i - (axis == a) for a, i in enumerate(p)]
            slopes.append((replicated(plane, ahead) - replicated(plane, behind)) / 2)
        magnitude[p] = math.sqrt(math.fsum(slope**2 for slope in slopes))
    return magnitude


def edges(image: np.ndarray) -> np.ndarray:
    """Gradient magnitude of the channel mean: Sobel on two axes, central differences on one or three."""
    plane = channel_mean(image)
    return sobel(plane) if plane.ndim == 2 else central_differences(plane)


WORD = 2**64
STEP = 0x9E3779B97F4A7C15


def finalised(word: int) -> int:
    """SplitMix64's output function of an unsigned word."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def uniform(key: int, size: Sequence[int], seed: int = 0) -> np.ndarray:
    """The generator SplitMix64, started from seed and key; the upper 24 bits of its words as a fraction."""
    state = finalised(finalised((seed + STEP) % WORD) ^ (key % WORD))
    drawn = np.zeros(tuple(size))
    for p in np.ndindex(*size):
        state = (state + STEP) % WORD
        drawn[p] = (finalised(state) >> 40) / 2**24
    return drawn


def fingerprint(image: np.ndarray) -> int:
    """The bits of each value as float32, times an odd word of its place, summed without a sign."""
    total = 0
    for place, value in enumerate(image.astype(np.float32).ravel(), start=1):
        (bits,) = struct.unpack("<i", struct.pack("<f", value + 0.0))
        total += bits * (finalised(place * STEP % WORD) | 1)
    return finalised(total % WORD)


def random(image: np.ndarray, grid: Sequence[int], seed: int = 0) -> np.ndarray:
    """Uniform noise that follows from the image alone."""
    return uniform(fingerprint(image), grid, seed)
