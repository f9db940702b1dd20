"""Methods over layers and comparisons of classes, for one image, as plain loops from the papers."""

import math
from collections.abc import Sequence

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
