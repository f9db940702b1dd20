"""Occlusion, RISE and Sobol indices of one image, as plain loops from the papers.

``image`` is [bands, *size] in float64; ``score_of`` gives an image's score. What is drawn at random is given.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from tests.oracles.fusion import resize

ScoreOf = Callable[[np.ndarray], float]


def starts(length: int, width: int, stride: int) -> list[int]:
    """Start patches every ``stride``, and one that ends at the border."""
    found = []
    start = 0
    while start + width < length:
        found.append(start)
        start += stride
    return [*found, length - width]


def occlusion(
    image: np.ndarray, score_of: ScoreOf, patch: Sequence[int], stride: Sequence[int], fill: float = 0.0
) -> np.ndarray:
    """Zeiler 2014, section 4.2: slide a patch; a pixel's value is the mean drop of those that cover it."""
    size = image.shape[1:]
    drops: dict[tuple[int, ...], list[float]] = {p: [] for p in np.ndindex(*size)}
    clean = score_of(image)
    along = [starts(*three) for three in zip(size, patch, stride, strict=True)]
    for corner in itertools.product(*along):
        covered = image.copy()
        inside = [range(start, start + width) for start, width in zip(corner, patch, strict=True)]
        for p in itertools.product(*inside):
            covered[(slice(None), *p)] = fill
        drop = clean - score_of(covered)
        for p in itertools.product(*inside):
            drops[p].append(drop)
    found = np.zeros(size)
    for p, values in drops.items():
        found[p] = math.fsum(values) / len(values)
    return found


def rise_mask(kept: np.ndarray, shift: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Petsiuk 2018, section 3.2: enlarge to one cell more than the image, then crop at the shift."""
    cell = [math.ceil(length / cells) for length, cells in zip(size, kept.shape, strict=True)]
    large = resize(kept, [(cells + 1) * width for cells, width in zip(kept.shape, cell, strict=True)])
    return large[tuple(slice(start, start + length) for start, length in zip(shift, size, strict=True))]


def rise(
    image: np.ndarray,
    score_of: ScoreOf,
    kept: Sequence[np.ndarray],
    shifts: Sequence[Sequence[int]],
    keep: float,
    fill: float = 0.0,
) -> np.ndarray:
    """Petsiuk 2018, eq. 6, of the scores less their mean."""
    size = image.shape[1:]
    masks = [rise_mask(*drawn, size) for drawn in zip(kept, shifts, strict=True)]
    scores = [score_of(mask * image + (1 - mask) * fill) for mask in masks]
    mean = math.fsum(scores) / len(scores)
    found = np.zeros(size)
    for p in np.ndindex(*size):
        terms = [(score - mean) * mask[p] for score, mask in zip(scores, masks, strict=True)]
        found[p] = math.fsum(terms) / (len(masks) * keep)
    return found


def sobol(
    image: np.ndarray,
    score_of: ScoreOf,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    fill: float = 0.0,
) -> np.ndarray:
    """Fel 2021, section 3.2: Jansen's estimator of the total indices, from replicas A and B [*cells]."""

    def under(mask: np.ndarray) -> float:
        large = resize(mask, image.shape[1:])
        return score_of(large * image + (1 - large) * fill)

    plain = [under(a) for a in first]
    mean = math.fsum(plain) / len(plain)
    variance = math.fsum((y - mean) ** 2 for y in plain) / (len(plain) - 1)
    found = np.zeros(first[0].shape)
    for cell in np.ndindex(*found.shape):
        squares = []
        for a, b, y in zip(first, second, plain, strict=True):
            swapped = a.copy()
            swapped[cell] = b[cell]
            squares.append((y - under(swapped)) ** 2)
        found[cell] = math.fsum(squares) / (2 * len(squares)) / variance
    return found
