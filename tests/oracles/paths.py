"""Attributions of one image's pixels along a path from a baseline, as plain loops from the papers.

``gradient_of`` takes an image [bands, *size] (float64) and gives d score / d image of the same shape.
"""

import math
from collections.abc import Callable

import numpy as np

GradientOf = Callable[[np.ndarray], np.ndarray]


def summed_bands(attributions: np.ndarray) -> np.ndarray:
    """Add up the bands at each pixel: [*size]."""
    total = np.zeros(attributions.shape[1:])
    for p in np.ndindex(*total.shape):
        total[p] = math.fsum(band[p] for band in attributions)
    return total


def integrated(image: np.ndarray, gradient_of: GradientOf, baseline: np.ndarray, steps: int) -> np.ndarray:
    """Sundararajan 2017, eq. 1, by Gauss-Legendre quadrature."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros(image.shape)
    for place, weight in zip(places, weights, strict=True):
        alpha = (place + 1.0) / 2.0
        total += weight / 2.0 * gradient_of(baseline + alpha * (image - baseline))
    return summed_bands((image - baseline) * total)


def expected(image: np.ndarray, gradient_of: GradientOf, draws: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Erion 2021: the mean over draws of a reference and a place on the line from it to the image."""
    total = np.zeros(image.shape)
    for reference, alpha in draws:
        total += (image - reference) * gradient_of(reference + alpha * (image - reference))
    return summed_bands(total / len(draws))


def heat_kernel(n: int, variance: float) -> float:
    """Lindeberg 1990: the discrete Gaussian, exp(-t) I_n(t), by the integral that defines I_n."""
    count = 1024  # the trapezium rule is exact to rounding for a smooth periodic function
    angles = [2.0 * math.pi * k / count for k in range(count)]
    return math.fsum(math.exp(variance * (math.cos(a) - 1.0)) * math.cos(n * a) for a in angles) / count


def blur_matrix(n: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the blur of n pixels mirrored at their borders, and its derivative with respect to sigma."""
    variance = sigma**2
    reach = 2 * n * (1 + math.ceil(8 * (sigma + 1) / (2 * n)))
    kernel = [heat_kernel(k, variance) for k in range(reach + 2)]
    blur, change = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for offset in range(-reach, reach + 1):
            j = (i + offset) % (2 * n)
            j = j if j < n else 2 * n - 1 - j
            k = abs(offset)
            blur[i, j] += kernel[k]
            by_variance = (kernel[abs(k - 1)] + kernel[k + 1]) / 2.0 - kernel[k]
            change[i, j] += 2.0 * sigma * by_variance
    return blur, change


def along(values: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Multiply by a matrix along one axis."""
    return np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)


def blurred(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the blurred image [bands, *size] and its derivative with respect to sigma."""
    pairs = [blur_matrix(n, sigma) for n in image.shape[1:]]
    sharp_to_blurred, change = image, np.zeros(image.shape)
    for axis, (blur, _) in enumerate(pairs, start=1):
        sharp_to_blurred = along(sharp_to_blurred, blur, axis)
    for changing in range(len(pairs)):
        term = image
        for axis, (blur, slope) in enumerate(pairs, start=1):
            term = along(term, slope if axis == changing + 1 else blur, axis)
        change = change + term
    return sharp_to_blurred, change


def blurig(image: np.ndarray, gradient_of: GradientOf, steps: int, blur: float) -> np.ndarray:
    """Xu 2020: gradient times d blurred / d sigma, from the widest sigma down to 0."""
    widest = blur * max(image.shape[1:])
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros(image.shape)
    for place, weight in zip(places, weights, strict=True):
        u = (place + 1.0) / 2.0
        at, change = blurred(image, widest * u**3)
        total -= weight / 2.0 * 3.0 * widest * u**2 * gradient_of(at) * change
    return summed_bands(total)


def guidedig(
    image: np.ndarray,
    gradient_of: GradientOf,
    baseline: np.ndarray,
    steps: int,
    fraction: float,
    distance: float,
) -> np.ndarray:
    """Kapishnikov 2021: values of small gradients go first, a group at a time, to each step's distance."""
    goal, start = image.reshape(-1), baseline.reshape(-1)
    count = len(goal)
    group = math.ceil(fraction * count)
    whole = math.fsum(abs(goal - start))
    at, total = start.copy(), np.zeros(count)
    slopes = gradient_of(at.reshape(image.shape)).reshape(-1)
    for step in range(1, steps + 1):
        alpha = step / steps
        low, high = max(alpha - distance, 0.0), min(alpha + distance, 1.0)
        new = at.copy()
        for i in range(count):
            if goal[i] != start[i] and (new[i] - start[i]) / (goal[i] - start[i]) < low:
                new[i] = start[i] + low * (goal[i] - start[i])
        ends = start + high * (goal - start)
        waiting = sorted((i for i in range(count) if new[i] != ends[i]), key=lambda i: abs(slopes[i]))
        left = math.fsum(abs(goal - new)) - (1.0 - alpha) * whole
        while left > 1e-14 * whole and waiting:
            chosen, waiting = waiting[:group], waiting[group:]
            way = math.fsum(abs(ends[i] - new[i]) for i in chosen)
            share = min(1.0, left / way)
            for i in chosen:
                new[i] += share * (ends[i] - new[i])
            left -= share * way
        after = gradient_of(new.reshape(image.shape)).reshape(-1)
        total += (slopes + after) / 2.0 * (new - at)
        at, slopes = new, after
    return summed_bands(total.reshape(image.shape))
