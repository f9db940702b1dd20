"""Score-CAM, its kin and Opti-CAM for one image, as plain loops from the papers.

``image`` is [bands, *size] and ``activations`` [C, *grid], in float64. ``score_of`` gives an image's score,
``gradient_of`` the score's derivative at an image, of the image's shape.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from tests.oracles.fusion import resize

ScoreOf = Callable[[np.ndarray], float]
GradientOf = Callable[[np.ndarray], np.ndarray]


def spanned(plane: np.ndarray) -> np.ndarray:
    """Scale to [0, 1]; a constant plane becomes 0."""
    lowest, highest = float(plane.min()), float(plane.max())
    return (plane - lowest) / (highest - lowest) if highest > lowest else np.zeros(plane.shape)


def mask_of(channel: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Wang 2020, eq. 5 and 6: upsample, then normalise."""
    if channel.max() == channel.min():
        return np.zeros(tuple(size))
    return spanned(resize(channel, size))


def softmax(values: Sequence[float]) -> list[float]:
    """Exponentials that sum to 1."""
    largest = max(values)
    terms = [math.exp(value - largest) for value in values]
    return [term / math.fsum(terms) for term in terms]


def weighted(activations: np.ndarray, weights: dict[int, float]) -> np.ndarray:
    """Sum the channels that have a weight."""
    total = np.zeros(activations.shape[1:])
    for p in np.ndindex(*total.shape):
        total[p] = math.fsum(weight * activations[k][p] for k, weight in weights.items())
    return total


def by_scores(activations: np.ndarray, scores: dict[int, float]) -> np.ndarray:
    """Weight channels by the softmax of their scores."""
    return weighted(activations, dict(zip(scores, softmax(list(scores.values())), strict=True)))


def scorecam(
    image: np.ndarray,
    activations: np.ndarray,
    score_of: ScoreOf,
    channels: int | None = None,
    baseline: float = 0.0,
) -> np.ndarray:
    """Wang 2020, algorithm 1: the channel's increase of confidence over the baseline."""
    order = sorted(range(len(activations)), key=lambda k: -float(activations[k].std()))
    return scorecam_of(image, activations, score_of, order[:channels], baseline)


def scorecam_of(
    image: np.ndarray,
    activations: np.ndarray,
    score_of: ScoreOf,
    channels: Sequence[int],
    baseline: float,
) -> np.ndarray:
    """Take the same of the channels that were chosen."""
    blank = np.full(image.shape, baseline)
    scores = {}
    for k in channels:
        mask = mask_of(activations[k], image.shape[1:])
        scores[k] = score_of(blank + mask * (image - blank)) - score_of(blank)
    return by_scores(activations, scores)


def sscam(
    image: np.ndarray, activations: np.ndarray, score_of: ScoreOf, noises: Sequence[np.ndarray]
) -> np.ndarray:
    """SS-CAM, smoothing of the activation map: the mean over noisy masks."""
    nothing = score_of(np.zeros(image.shape))
    scores = {}
    for k, channel in enumerate(activations):
        mask = mask_of(channel, image.shape[1:])
        scores[k] = math.fsum(score_of((mask + noise) * image) - nothing for noise in noises) / len(noises)
    return by_scores(activations, scores)


def iscam(image: np.ndarray, activations: np.ndarray, score_of: ScoreOf, steps: int = 10) -> np.ndarray:
    """IS-CAM: the mean over growing shares of the mask."""
    nothing = score_of(np.zeros(image.shape))
    scores = {}
    for k, channel in enumerate(activations):
        mask = mask_of(channel, image.shape[1:])
        found = [score_of(i / steps * mask * image) - nothing for i in range(1, steps + 1)]
        scores[k] = math.fsum(found) / steps
    return by_scores(activations, scores)


def resize_back(plane: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Apply the transpose of the resize: what each cell adds to the plane, weighted by the plane."""
    total = np.zeros(tuple(grid))
    for cell in np.ndindex(*grid):
        unit = np.zeros(tuple(grid))
        unit[cell] = 1.0
        total[cell] = float((resize(unit, plane.shape) * plane).sum())
    return total


def spanned_back(plane: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Carry a derivative back through ``spanned``; the lowest and the highest place move all others."""
    lowest, span = float(plane.min()), float(plane.max() - plane.min())
    back = slope / span
    share = float((slope * (plane - lowest)).sum()) / span**2
    back[np.unravel_index(plane.argmin(), plane.shape)] += share - float(slope.sum()) / span
    back[np.unravel_index(plane.argmax(), plane.shape)] -= share
    return back


def opticam(
    image: np.ndarray, activations: np.ndarray, gradient_of: GradientOf, steps: int = 100, rate: float = 0.1
) -> np.ndarray:
    """Zhang 2023: Adam (Kingma 2015, algorithm 1) on the channels' weights before their softmax."""
    u, m, v = (np.zeros(len(activations)) for _ in range(3))
    for t in range(1, steps + 1):
        shares = softmax(list(u))
        mixed = resize(weighted(activations, dict(enumerate(shares))), image.shape[1:])
        at_image = gradient_of(spanned(mixed) * image)
        at_mask = (at_image * image).sum(0)
        at_map = resize_back(spanned_back(mixed, at_mask), activations.shape[1:])
        at_shares = [float((at_map * channel).sum()) for channel in activations]
        mean = math.fsum(s * a for s, a in zip(shares, at_shares, strict=True))
        g = np.array([s * (a - mean) for s, a in zip(shares, at_shares, strict=True)])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = u + rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return weighted(activations, dict(enumerate(softmax(list(u)))))
