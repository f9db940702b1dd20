"""Attributions of one image's pixels, as plain loops from the papers.

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


def gradient(image: np.ndarray, gradient_of: GradientOf) -> np.ndarray:
    """Simonyan 2013, section 3: the class score's derivative at the image."""
    return summed_bands(gradient_of(image))


def input_x_gradient(image: np.ndarray, gradient_of: GradientOf) -> np.ndarray:
    """Shrikumar 2016: each value times its derivative."""
    return summed_bands(image * gradient_of(image))


def smoothgrad(noisy: list[np.ndarray], gradient_of: GradientOf) -> np.ndarray:
    """Smilkov 2017: the mean gradient over noisy copies."""
    gradients = [gradient_of(copy) for copy in noisy]
    mean = np.zeros(noisy[0].shape)
    for p in np.ndindex(*mean.shape):
        mean[p] = math.fsum(gradient[p] for gradient in gradients) / len(gradients)
    return summed_bands(mean)


def vargrad(noisy: list[np.ndarray], gradient_of: GradientOf) -> np.ndarray:
    """Adebayo 2018: the variance of the gradient over noisy copies."""
    gradients = [gradient_of(copy) for copy in noisy]
    variance = np.zeros(noisy[0].shape)
    for p in np.ndindex(*variance.shape):
        values = [float(gradient[p]) for gradient in gradients]
        mean = math.fsum(values) / len(values)
        variance[p] = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return summed_bands(variance)


def rule_backprop(
    image: np.ndarray,
    layers: list[tuple[np.ndarray, np.ndarray]],
    head: np.ndarray,
    slope: Callable[[float], float],
    activation: Callable[[float], float],
    rule: str,
) -> np.ndarray:
    """Springenberg 2015 and Zeiler 2014: what each activation gives back, value by value.

    ``layers`` are matrices and biases on flattened values, each followed by ``activation``, whose derivative
    is ``slope``; ``head`` is the class's row on the last activation's values.
    """
    values, before = image.reshape(-1), []
    for matrix, bias in layers:
        before.append(matrix @ values + bias)
        values = np.array([activation(float(v)) for v in before[-1]])
    back = head
    for (matrix, _), inputs in zip(reversed(layers), reversed(before), strict=True):
        passed = np.zeros(len(inputs))
        for i, (value, arriving) in enumerate(zip(inputs, back, strict=True)):
            if rule == "plain":
                passed[i] = arriving * slope(float(value))
            elif rule == "guided":
                passed[i] = max(float(arriving), 0.0) * slope(float(value))
            else:
                passed[i] = max(float(arriving), 0.0)
        back = matrix.T @ passed
    return summed_bands(back.reshape(image.shape))


def resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate linearly along each axis; a pixel's place is its middle, and borders are held."""
    for axis, n in enumerate(size):
        old = values.shape[axis]
        planes = []
        for i in range(n):
            place = min(max((i + 0.5) * old / n - 0.5, 0.0), old - 1.0)
            low = min(int(place), old - 1)
            high = min(low + 1, old - 1)
            share = place - low
            planes.append((1 - share) * values.take(low, axis) + share * values.take(high, axis))
        values = np.stack(planes, axis)
    return values
