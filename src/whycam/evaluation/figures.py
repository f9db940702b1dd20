"""From figures an image to a mean with its interval, whatever the order and the batches they came in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
COVERAGE = 0.95
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Figure:
    """A mean of ``n`` images with its 95 % bootstrap interval; ``undefined`` images had no figure.

    NaN throughout where ``n`` is 0; the interval is NaN for a single image, of which nothing can be drawn
    anew.
    """

    mean: float
    low: float
    high: float
    n: int
    undefined: int = 0

    def overlaps(self, other: "Figure") -> bool:
        """Say whether the intervals touch; one that is not known touches everything."""
        apart = self.low > other.high or self.high < other.low
        return not apart

    def text(self) -> str:
        """Give the mean and its interval, such as ``0.41 (0.35 to 0.47)``."""
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"


def summarise(values: Sequence[float], *, seed: int = 0) -> Figure:
    """Return the mean of the finite values with its percentile bootstrap interval.

    The sum is exact, so that no order of the images matters; the same values and seed, the same interval.
    """
    known = np.sort(np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64))
    count, undefined = len(known), len(values) - len(known)
    if not count:
        return Figure(math.nan, math.nan, math.nan, 0, undefined)
    mean = math.fsum(known) / count
    if count == 1:
        return Figure(mean, math.nan, math.nan, 1, undefined)
    low, high = np.quantile(_means(known, seed), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Figure(mean, float(low), float(high), count, undefined)


def _means(
    known: "np.ndarray[tuple[int], np.dtype[np.float64]]", seed: int
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the means of values drawn with replacement, some resamples at a time."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _VALUES_AT_ONCE // len(known))
    means = []
    for start in range(0, RESAMPLES, at_once):
        shape = (min(at_once, RESAMPLES - start), len(known))
        means.append(known[generator.integers(len(known), size=shape)].mean(1))
    return np.concatenate(means)


def bands(curves: NDArray[np.float32], *, seed: int = 0) -> dict[str, list[float | None]]:
    """Return the mean of curves [n, points] with its percentile bootstrap interval, point by point.

    Whole curves are drawn anew, as images are. A curve with a value that is not finite is left out; null
    throughout where none is left, and in the interval of a single one.
    """
    known = np.asarray(curves, np.float64)
    known = known[np.isfinite(known).all(1)]
    none: list[float | None] = [None] * curves.shape[1]
    if not len(known):
        return {"mean": none, "low": none, "high": none}
    mean = [math.fsum(column) / len(known) for column in known.T]
    if len(known) == 1:
        return {"mean": [*mean], "low": none, "high": none}
    generator = np.random.default_rng(seed)
    at_once = max(1, _VALUES_AT_ONCE // len(known))
    means = []
    for start in range(0, RESAMPLES, at_once):
        counts = generator.multinomial(
            len(known), np.full(len(known), 1 / len(known)), size=min(at_once, RESAMPLES - start)
        )
        means.append(counts @ known / len(known))
    low, high = np.quantile(np.concatenate(means), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    return {"mean": [*mean], "low": [*map(float, low)], "high": [*map(float, high)]}
