"""Maps of one image from activations and gradients, written as plain loops from the papers.

``activations`` and ``gradients`` are float64 arrays [C, *grid]; a map is [*grid], signed: the rectification
that most papers write around the sum belongs to the picture, not to the map. Sums are exact (math.fsum).
"""

import math
from collections.abc import Sequence

import numpy as np


def positions(array: np.ndarray) -> list[tuple[int, ...]]:
    """List every grid index of a [C, *grid] array."""
    return list(np.ndindex(*array.shape[1:]))


def weighted_sum(activations: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Add up w_k A_k over the channels, at each position."""
    total = np.zeros(activations.shape[1:])
    for p in positions(activations):
        total[p] = math.fsum(weights[k] * activations[k][p] for k in range(len(activations)))
    return total


def channel_sum(activations: np.ndarray, k: int) -> float:
    """Add up channel k over the positions."""
    return math.fsum(activations[k][p] for p in positions(activations))


def gradcam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Selvaraju 2017, eq. 1 and 2: a channel weighs the mean of its gradient."""
    cells = positions(gradients)
    weights = [channel_sum(gradients, k) / len(cells) for k in range(len(gradients))]
    return weighted_sum(activations, weights)


def alpha(second: float, third: float, total_activation: float) -> float:
    """Chattopadhay 2018, eq. 19, from the second and third derivative; 0 where it is undefined."""
    denominator = 2.0 * second + total_activation * third
    if denominator == 0.0:
        return 0.0
    return second / denominator


def gradcam_plus_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Chattopadhay 2018, eq. 19 and 20, with derivatives of order n equal to g^n (exponential output)."""
    weights = []
    for k in range(len(activations)):
        total = channel_sum(activations, k)
        terms = []
        for p in positions(gradients):
            g = float(gradients[k][p])
            terms.append(alpha(g**2, g**3, total) * max(g, 0.0))
        weights.append(math.fsum(terms))
    return weighted_sum(activations, weights)


def smooth_gradcam_plus_plus(activations: np.ndarray, noisy: Sequence[np.ndarray]) -> np.ndarray:
    """Omeiza 2019: eq. 19 with each derivative averaged over the gradients of noisy inputs."""
    weights = []
    for k in range(len(activations)):
        total = channel_sum(activations, k)
        terms = []
        for p in positions(activations):
            samples = [float(gradients[k][p]) for gradients in noisy]
            first = math.fsum(samples) / len(samples)
            second = math.fsum(g**2 for g in samples) / len(samples)
            third = math.fsum(g**3 for g in samples) / len(samples)
            terms.append(alpha(second, third, total) * max(first, 0.0))
        weights.append(math.fsum(terms))
    return weighted_sum(activations, weights)


def xgradcam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Fu 2020: a channel weighs its gradient averaged by its activation; 0 where the activation sums to 0."""
    weights = []
    for k in range(len(activations)):
        total = channel_sum(activations, k)
        product = math.fsum(activations[k][p] * gradients[k][p] for p in positions(activations))
        weights.append(product / total if total != 0.0 else 0.0)
    return weighted_sum(activations, weights)


def hirescam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Draelos 2020: the product of gradient and activation, summed over the channels."""
    total = np.zeros(activations.shape[1:])
    for p in positions(activations):
        total[p] = math.fsum(gradients[k][p] * activations[k][p] for k in range(len(activations)))
    return total


def gradcam_elementwise(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """As HiResCAM, with each product rectified before the sum over the channels."""
    total = np.zeros(activations.shape[1:])
    for p in positions(activations):
        products = [float(gradients[k][p] * activations[k][p]) for k in range(len(activations))]
        total[p] = math.fsum(max(product, 0.0) for product in products)
    return total


def layercam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Jiang 2021, eq. 4 to 6: each position weighs its own rectified gradient."""
    total = np.zeros(activations.shape[1:])
    for p in positions(activations):
        total[p] = math.fsum(
            max(float(gradients[k][p]), 0.0) * activations[k][p] for k in range(len(activations))
        )
    return total
