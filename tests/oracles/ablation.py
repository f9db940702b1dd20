"""Methods that change one image's activations [channels, *grid], as plain loops from the papers.

``score_of`` takes activations of that shape (float64) and gives the score of what follows the layer.
"""

import math
from collections.abc import Callable

import numpy as np

ScoreOf = Callable[[np.ndarray], float]


def weighted(activations: np.ndarray, weights: list[float]) -> np.ndarray:
    """Add up the channels with their weights: [*grid]."""
    total = np.zeros(activations.shape[1:])
    for p in np.ndindex(*total.shape):
        total[p] = math.fsum(
            weight * channel[p] for weight, channel in zip(weights, activations, strict=True)
        )
    return total


def ablationcam(activations: np.ndarray, score_of: ScoreOf) -> np.ndarray:
    """Desai 2020, eq. 3: a channel weighs the share of the score that is lost without it."""
    whole = score_of(activations)
    weights = []
    for k in range(len(activations)):
        without = activations.copy()
        without[k] = 0.0
        weights.append((whole - score_of(without)) / abs(whole))
    return weighted(activations, weights)


def reciprocam(activations: np.ndarray, score_of: ScoreOf) -> np.ndarray:
    """Byun 2022: the score of each position with its neighbours in Gaussian shares, less the least."""
    grid = activations.shape[1:]
    found = np.zeros(grid)
    for p in np.ndindex(*grid):
        kept = np.zeros_like(activations)
        for q in np.ndindex(*grid):
            away = [abs(a - b) for a, b in zip(p, q, strict=True)]
            if max(away) <= 1:
                share = math.prod(0.5 if distance == 0 else 0.25 for distance in away)
                for k in range(len(activations)):
                    kept[(k, *q)] = share * activations[(k, *q)]
        found[p] = score_of(kept)
    return found - min(found[p] for p in np.ndindex(*grid))


def liftcam(
    activations: np.ndarray,
    first: np.ndarray,
    bias: np.ndarray,
    function: Callable[[float], float],
    second: np.ndarray,
) -> np.ndarray:
    """Jung 2021 with Shrikumar 2017's rescale rule, for a score ``second . f(first @ A + bias)``."""
    flat = activations.flatten()
    multipliers = np.zeros(len(flat))
    for unit in range(len(first)):
        change = math.fsum(first[unit, i] * flat[i] for i in range(len(flat)))
        gain = function(bias[unit] + change) - function(bias[unit])
        for i in range(len(flat)):
            multipliers[i] += second[unit] * gain / change * first[unit, i]
    contributions = (multipliers * flat).reshape(activations.shape)
    return weighted(activations, [math.fsum(channel.flatten()) for channel in contributions])
