"""Methods over layers and comparisons of classes, for one image, as plain loops from the papers."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from tests.oracles.fusion import resize
from tests.oracles.gradient import gradcam_plus_plus


def references(scores: Sequence[float], label: int, count: int) -> list[int]:
    """List the ``count`` other classes with the nearest scores, the lower class first in a tie."""
    others = [k for k in range(len(scores)) if k != label]
    return sorted(others, key=lambda k: (abs(scores[k] - scores[label]), k))[:count]


def finer_score(scores: Sequence[float], label: int, gamma: float, against: Sequence[int]) -> float:
    """Zhang 2025: y_c - gamma y_d, with the mean over several d."""
    return scores[label] - gamma * math.fsum(scores[k] for k in against) / len(against)


def finer_channel_weights(
    matrix: np.ndarray, label: int, gamma: float, against: Sequence[int]
) -> list[float]:
    """Write a linear head's channel weights of that score: differences of the classes' own weights."""
    return [finer_score(list(matrix[:, k]), label, gamma, against) for k in range(matrix.shape[1])]


def hessian_product(
    gradient_of: Callable[[np.ndarray], np.ndarray], activations: np.ndarray, step: float = 1e-4
) -> np.ndarray:
    """Difference the gradient along the activations: (g(A + h A) - g(A - h A)) / 2 h, extrapolated once."""

    def slope(h: float) -> np.ndarray:
        return (gradient_of((1 + h) * activations) - gradient_of((1 - h) * activations)) / (2 * h)

    return (4 * slope(step) - slope(2 * step)) / 3


def shapleycam(activations: np.ndarray, gradients: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Cai 2025: a channel weighs the mean of its gradient less half the Hessian times the activations."""
    cells = list(np.ndindex(*activations.shape[1:]))
    total = np.zeros(activations.shape[1:])
    for k in range(len(activations)):
        weight = math.fsum(gradients[k][p] - product[k][p] / 2 for p in cells) / len(cells)
        for p in cells:
            total[p] += weight * activations[k][p]
    return total


def rescaled(part: np.ndarray) -> np.ndarray:
    """Take magnitudes; bring the smallest to 0 and the largest to 1; zeros where all are the same."""
    magnitude = np.abs(part)
    least, most = float(magnitude.min()), float(magnitude.max())
    if most == least:
        return np.zeros_like(magnitude)
    return (magnitude - least) / (most - least)


def fullgrad(parts: Sequence[np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """Srinivas 2019, eq. 6: rescaled magnitudes of each part [C, *grid], resized and summed over channels."""
    total = np.zeros(size)
    for part in parts:
        for channel in rescaled(part):
            total += resize(channel, size)
    return total


def batch_norm_bias(
    mean: np.ndarray, variance: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> list[float]:
    """What a batch norm with fixed statistics adds to each channel."""
    return [
        float(beta[k]) - float(mean[k]) * float(gamma[k]) / math.sqrt(float(variance[k]) + eps)
        for k in range(len(beta))
    ]


def refinecam(stages: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, ...]) -> np.ndarray:
    """Domeniconi 2026: the product over layers of rectified Grad-CAM++ maps with a maximum of 1."""
    product = np.ones(size)
    for activations, gradients in stages:
        positive = np.maximum(gradcam_plus_plus(activations, gradients), 0.0)
        most = float(positive.max())
        product *= resize(positive / most if most > 0.0 else positive, size)
    return product
