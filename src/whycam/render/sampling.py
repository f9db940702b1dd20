"""Resample a grid onto picture pixels along one axis at a time, at real-numbered places.

A grid of n cells lies on the interval [start, stop) of the picture's axis; pixel p covers [p, p + 1).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taps:
    """For each pixel, which cells it is made of and with which weights: both [pixels, taps]."""

    cells: npt.NDArray[np.intp]
    weights: Floats


@dataclass(frozen=True)
class Span:
    """A grid's place on one axis of a picture: ``cells`` cells from ``start`` to ``stop``, in pixels."""

    start: float
    stop: float
    cells: int

    @property
    def density(self) -> float:
        """Cells per pixel."""
        return self.cells / (self.stop - self.start)

    def to_cells(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Convert pixel coordinates to cell coordinates."""
        return (at - self.start) * self.density


def linear_taps(span: Span, pixels: range) -> Taps:
    """Interpolate between cell centres, as align_corners=False does; average where cells are smaller.

    Without the average a grid finer than the picture would lose what falls between two pixels.
    """
    reach = max(1.0, span.density)
    centres = span.to_cells(np.asarray(pixels) + 0.5) - 0.5
    first = np.floor(centres - reach).astype(np.intp) + 1
    cells = first[:, None] + np.arange(int(2 * np.ceil(reach)))
    weights = np.maximum(0.0, 1.0 - np.abs(cells - centres[:, None]) / reach)
    return _taps(cells, weights, span.cells)


def area_taps(span: Span, pixels: range) -> Taps:
    """Take the cell that a pixel lies in; where it lies in several, each by its share of the pixel."""
    starts = np.asarray(pixels, dtype=np.float64)
    low = span.to_cells(starts).clip(0, span.cells)
    high = span.to_cells(starts + 1).clip(0, span.cells)
    cells = np.floor(low).astype(np.intp)[:, None] + np.arange(int(np.ceil(span.density)) + 1)
    weights = np.minimum(cells + 1, high[:, None]) - np.maximum(cells, low[:, None])
    return _taps(cells, np.maximum(0.0, weights), span.cells)


def _taps(cells: npt.NDArray[np.intp], weights: npt.NDArray[np.float64], count: int) -> Taps:
    totals = weights.sum(axis=1, keepdims=True)
    shares = weights / np.where(totals > 0, totals, 1.0)
    return Taps(cells.clip(0, count - 1), shares.astype(np.float32))


def resample_rows(values: Floats, taps: Taps) -> Floats:
    """Resample the first axis: [cells, n] -> [pixels, n]."""
    result = np.zeros((len(taps.cells), values.shape[1]), np.float32)
    for cells, weights in zip(taps.cells.T, taps.weights.T, strict=True):
        result += weights[:, None] * values[cells]
    return result


def coverage(start: float, stop: float, pixels: range) -> Floats:
    """Return the share of each pixel that lies in [start, stop)."""
    starts = np.asarray(pixels, dtype=np.float64)
    overlap = np.minimum(starts + 1, stop) - np.maximum(starts, start)
    return overlap.clip(0, 1).astype(np.float32)
