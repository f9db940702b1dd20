"""Methods over layers and comparisons of classes, for one image, as plain loops from the papers."""

import math
from collections.abc import Callable, Sequence

import numpy as np


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
