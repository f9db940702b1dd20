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
