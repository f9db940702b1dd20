"""Layer fusion of one image (Jiang 2021, section 3.3), with the resize written as plain loops."""

import itertools
import math
from collections.abc import Sequence

import numpy as np


def neighbours(i: int, size: int, new_size: int) -> list[tuple[int, float]]:
    """Name the two source cells of output cell i on one axis, and the weight of each."""
    centre = max((i + 0.5) * size / new_size - 0.5, 0.0)
    left = min(math.floor(centre), size - 1)
    right = min(left + 1, size - 1)
    fraction = centre - left
    return [(left, 1.0 - fraction), (right, fraction)]


def resize(plane: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Interpolate linearly along every axis, align_corners=False."""
    resized = np.zeros(tuple(size))
    for p in np.ndindex(*size):
        axes = [neighbours(i, old, new) for i, old, new in zip(p, plane.shape, size, strict=True)]
        terms = []
        for corner in itertools.product(*axes):
            weight = math.prod(share for _, share in corner)
            terms.append(weight * float(plane[tuple(cell for cell, _ in corner)]))
        resized[p] = math.fsum(terms)
    return resized


def normalised(plane: np.ndarray) -> np.ndarray:
    """Rectify and divide by the maximum; a map without a positive value is 0."""
    rectified = np.zeros(plane.shape)
    for p in np.ndindex(*plane.shape):
        rectified[p] = max(float(plane[p]), 0.0)
    peak = max(float(value) for value in rectified.ravel())
    return rectified / peak if peak > 0.0 else rectified


def fuse(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Scale all but the deepest by tanh(2 m), resize all to the finest grid, take the larger at each place.

    ``maps`` go from the shallowest layer to the deepest; the finest grid has the most positions.
    """
    finest = max((plane.shape for plane in maps), key=math.prod)
    planes = []
    for depth, plane in enumerate(maps):
        scaled = normalised(plane)
        if depth < len(maps) - 1:
            for p in np.ndindex(*scaled.shape):
                scaled[p] = math.tanh(2.0 * scaled[p])
        planes.append(resize(scaled, finest))
    fused = np.zeros(finest)
    for p in np.ndindex(*finest):
        fused[p] = max(float(plane[p]) for plane in planes)
    return fused
