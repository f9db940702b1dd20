"""Extremal perturbations (Fong 2019) of one image and one area, as plain loops, with the slopes by hand.

``image`` is [bands, *size] in float64; ``gradient_of`` gives the score's derivative at an image.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from tests.oracles.fusion import resize
from tests.oracles.masking import resize_back

GradientOf = Callable[[np.ndarray], np.ndarray]
LEVELS = 8


def blurred_line(line: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a line by a Gaussian cut at 4 sigma; the ends go on as they are."""
    reach = math.ceil(4 * sigma)
    offsets = range(-reach, reach + 1)
    shares = [math.exp(-(o**2) / (2 * sigma**2)) if sigma > 0 else 1.0 for o in offsets]
    found = np.zeros(len(line))
    for i in range(len(line)):
        values = [line[min(max(i + o, 0), len(line) - 1)] for o in offsets]
        found[i] = math.fsum(s * v for s, v in zip(shares, values, strict=True)) / math.fsum(shares)
    return found


def pyramid_of(image: np.ndarray) -> list[np.ndarray]:
    """Blur from 20/224 of each axis down to nothing."""
    levels = []
    for level in range(LEVELS):
        blurred = image
        for axis in range(1, image.ndim):
            sigma = 20 / 224 * image.shape[axis] * (1 - level / (LEVELS - 1))
            blurred = np.apply_along_axis(blurred_line, axis, blurred, sigma)
        levels.append(blurred)
    return levels


def smooth_mask(points: np.ndarray, sigma: float) -> tuple[np.ndarray, dict]:
    """Eq. 7: the smooth max-convolution; beyond the border as at it. With the slope by each point."""
    mask, slopes = np.zeros(points.shape), {}
    reach = [
        range(-min(1 + math.ceil(sigma), n - 1), min(1 + math.ceil(sigma), n - 1) + 1) for n in points.shape
    ]
    for cell in np.ndindex(*points.shape):
        terms = []
        for offset in itertools.product(*reach):
            place = tuple(
                min(max(c + o, 0), n - 1) for c, o, n in zip(cell, offset, points.shape, strict=True)
            )
            distance = math.sqrt(sum(o**2 for o in offset)) / sigma
            kernel = math.exp(-2 * max(distance - 0.5, 0.0) ** 2)
            terms.append((place, kernel, kernel * points[place]))
        total = math.fsum(math.exp(20 * w) for _, _, w in terms)
        mask[cell] = math.fsum(w * math.exp(20 * w) for _, _, w in terms) / total
        slopes[cell] = [
            (place, kernel * math.exp(20 * w) / total * (1 + 20 * (w - mask[cell])))
            for place, kernel, w in terms
        ]
    return mask, slopes


def perturbed(levels: Sequence[np.ndarray], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take each pixel from the pyramid by its mask; with the slope by the mask, for each band."""
    image, slope = np.zeros(levels[0].shape), np.zeros(levels[0].shape)
    for p in np.ndindex(*mask.shape):
        at = mask[p] * (LEVELS - 1)
        lower = min(math.floor(at), LEVELS - 2)
        for band in range(len(image)):
            below, above = levels[lower][(band, *p)], levels[lower + 1][(band, *p)]
            image[(band, *p)] = below + (at - lower) * (above - below)
            slope[(band, *p)] = (above - below) * (LEVELS - 1)
    return image, slope


def extremal(
    image: np.ndarray, gradient_of: GradientOf, area: float, steps: int, cells: int, sigma: float
) -> np.ndarray:
    """Eq. 3 and 4 by gradient steps with momentum (dampening 0.9).

    The area's weight is doubled four times, and 0 in the first step.
    """
    levels = pyramid_of(image)
    grid = [min(cells, n) for n in image.shape[1:]]
    points, velocity = np.full(grid, 0.5), None
    number = points.size
    rate = 0.01 * number / 1024 * 800 / steps
    for step in range(steps):
        mask, slopes = smooth_mask(points, sigma)
        changed, by_mask = perturbed(levels, resize(mask, image.shape[1:]))
        at_mask = resize_back((gradient_of(changed) * by_mask).sum(0), grid)
        weight = 300 * 16 ** (step / steps) if step else 0
        order = sorted(np.ndindex(*grid), key=lambda cell: mask[cell])
        for rank, cell in enumerate(order):
            wanted = 0.0 if rank < int(number * (1 - area)) else 1.0
            at_mask[cell] -= weight * 2 * (mask[cell] - wanted) / number
        gradient = np.zeros(grid)
        for cell, found in slopes.items():
            for place, slope in found:
                gradient[place] += at_mask[cell] * slope
        velocity = gradient if velocity is None else 0.9 * velocity + 0.1 * gradient
        points = np.clip(points + rate * velocity, 0, 1)
    return smooth_mask(points, sigma)[0]
