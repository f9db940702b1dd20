"""Metrics of one image at a time, written as plain loops in float64."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Image = np.ndarray
Score = Callable[[Image], float]


def resized(plane: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bilinear, pixel centres aligned, borders repeated; axis by axis."""
    for axis, length in enumerate(size):
        moved = np.moveaxis(plane, axis, 0)
        rows = []
        for i in range(length):
            at = max(0.0, (i + 0.5) * len(moved) / length - 0.5)
            low = min(int(at), len(moved) - 1)
            high = min(low + 1, len(moved) - 1)
            rows.append(moved[low] + (at - low) * (moved[high] - moved[low]))
        plane = np.moveaxis(np.array(rows), 0, axis)
    return plane


def blurred(image: Image, share: float) -> Image:
    """Gaussian of a share of each axis, cut at four deviations, borders repeated."""
    for axis in range(1, image.ndim):
        length = image.shape[axis]
        sigma = share * length
        reach = math.ceil(4 * sigma)
        weights = [math.exp(-(o**2) / (2 * sigma**2)) for o in range(-reach, reach + 1)]
        moved = np.moveaxis(image, axis, 0)
        rows = []
        for i in range(length):
            total = sum(
                w * moved[min(max(i + o, 0), length - 1)]
                for o, w in zip(range(-reach, reach + 1), weights, strict=True)
            )
            rows.append(total / sum(weights))
        image = np.moveaxis(np.array(rows), 0, axis)
    return image


def push_pull(image: Image, kept: np.ndarray) -> Image:
    """Unknown pixels from the means of what is kept in ever larger blocks, linearly between the blocks."""
    if not kept.any():
        return np.broadcast_to(image.mean(axis=tuple(range(1, image.ndim)), keepdims=True), image.shape)
    filled = np.array(image)
    for band in range(len(image)):
        filled[band] = _filled(image[band], kept.astype(float))
    return filled


def _filled(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``total`` is the sum of ``weight`` kept pixels in each cell, where weight is not 0."""
    known = weight > 0
    values = np.where(known, total / np.where(known, weight, 1), 0)
    if known.all():
        return values
    halves = [math.ceil(n / 2) for n in total.shape]
    sums, counts = np.zeros(halves), np.zeros(halves)
    for p in np.ndindex(*total.shape):
        block = tuple(i // 2 for i in p)
        sums[block] += total[p] if known[p] else 0.0
        counts[block] += weight[p]
    coarse = _filled(sums, counts)
    for p in np.ndindex(*total.shape):
        if not known[p]:
            values[p] = _between(coarse, p)
    return values


def _between(coarse: np.ndarray, p: Sequence[int]) -> float:
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(p)):
        weight, at = 1.0, []
        for i, far, n in zip(p, corner, coarse.shape, strict=True):
            weight *= 0.25 if far else 0.75
            step = (1 if i % 2 else -1) * far
            at.append(min(max(i // 2 + step, 0), n - 1))
        total += weight * coarse[tuple(at)]
    return total


def linear(image: Image, kept: np.ndarray) -> Image:
    """Each removed pixel the weighted mean of its neighbours inside of the image; a dense solve."""
    removed = [p for p in np.ndindex(*kept.shape) if not kept[p]]
    place = {p: i for i, p in enumerate(removed)}
    matrix = np.zeros((len(removed), len(removed)))
    right = np.zeros((len(removed), len(image)))
    for p, i in place.items():
        for step in itertools.product((-1, 0, 1), repeat=2):
            q = (p[0] + step[0], p[1] + step[1])
            if step == (0, 0) or not (0 <= q[0] < kept.shape[0] and 0 <= q[1] < kept.shape[1]):
                continue
            weight = 1 / 6 if 0 in step else 1 / 12
            matrix[i, i] += weight
            if q in place:
                matrix[i, place[q]] -= weight
            else:
                right[i] += weight * image[:, q[0], q[1]]
    solved = np.linalg.solve(matrix, right)
    filled = np.array(image)
    for p, i in place.items():
        filled[:, p[0], p[1]] = solved[i]
    return filled


def kept_after(important: np.ndarray, share: float, *, most_first: bool) -> np.ndarray:
    """Remove a share of the pixels, one after another; of equals the first goes first."""
    sign = -1 if most_first else 1
    order = sorted(range(important.size), key=lambda i: (sign * important.flat[i], i))
    kept = np.ones(important.size, dtype=bool)
    for i in order[: math.floor(share * important.size + 0.5)]:
        kept[i] = False
    return kept.reshape(important.shape)


def curve(
    image: Image,
    important: np.ndarray,
    score: Score,
    fill: Callable[[Image, np.ndarray], Image],
    steps: int,
    *,
    most_first: bool,
) -> list[float]:
    """The score at 0, 1 / steps, ..., 1 removed."""
    shares = [step / steps for step in range(steps + 1)]
    return [score(fill(image, kept_after(important, share, most_first=most_first))) for share in shares]


def area(course: Sequence[float]) -> float:
    """Mean height by the trapezoid rule."""
    return sum((a + b) / 2 for a, b in itertools.pairwise(course)) / (len(course) - 1)


def ranks(values: Sequence[float]) -> list[float]:
    """Places from 0; equals share their mean place."""
    return [sum(o < v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def pearson(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation; 0 for a constant."""
    a, b = np.array(one) - np.mean(one), np.array(other) - np.mean(other)
    size = math.sqrt(sum(a * a)) * math.sqrt(sum(b * b))
    return float(sum(a * b) / size) if size > 1e-12 else 0.0


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of the ranks."""
    return pearson(ranks(one), ranks(other))


def tilecorr(
    image: Image, important: np.ndarray, score: Score, fill: Callable[[Image, np.ndarray], Image]
) -> float:
    """Drop of each of 4 x 4 tiles against the map's sum in it."""
    height, width = important.shape
    drops, sums = [], []
    for row, column in itertools.product(range(4), repeat=2):
        kept = np.ones(important.shape, dtype=bool)
        total = 0.0
        for y, x in np.ndindex(height, width):
            if y * 4 // height == row and x * 4 // width == column:
                kept[y, x] = False
                total += important[y, x]
        drops.append(score(image) - score(fill(image, kept)))
        sums.append(total)
    return spearman(sums, drops)


def pointing(heat: np.ndarray, mask: np.ndarray, reach: Sequence[int]) -> float:
    """Share of the highest pixels that have the mask within reach."""
    highest = [p for p in np.ndindex(*heat.shape) if heat[p] == heat.max()]
    hits = 0
    for p in highest:
        window = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(p, reach, strict=True))
        hits += bool(mask[window].any())
    return hits / len(highest)


def average_precision(heat: np.ndarray, mask: np.ndarray) -> float:
    """Sum over thresholds of gained recall times precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted({float(v) for v in heat.flat}, reverse=True):
        found = sum(bool(mask[p]) for p in np.ndindex(*heat.shape) if heat[p] >= threshold)
        taken = sum(1 for p in np.ndindex(*heat.shape) if heat[p] >= threshold)
        total += (found / mask.sum() - recall) * found / taken
        recall = found / mask.sum()
    return float(total)


def iou(heat: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    """Overlap of the mask with what reaches a share of the maximum."""
    common = either = 0
    for p in np.ndindex(*heat.shape):
        marked = heat[p] >= threshold * heat.max()
        common += bool(marked and mask[p])
        either += bool(marked or mask[p])
    return common / either


def energy(positive: np.ndarray, mask: np.ndarray) -> float:
    """Share of the mass on the mask."""
    return float(sum(positive[p] for p in np.ndindex(*mask.shape) if mask[p]) / positive.sum())


def gini(values: Sequence[float]) -> float:
    """Mean absolute difference of all pairs, over twice the mean."""
    count = len(values)
    pairs = sum(abs(abs(a) - abs(b)) for a in values for b in values)
    return pairs / (2 * count * sum(abs(v) for v in values))


def parts(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Connected parts, corners connect, found by flooding."""
    left = {p for p in np.ndindex(*mask.shape) if mask[p]}
    found = []
    while left:
        waiting, part = [left.pop()], set()
        while waiting:
            y, x = waiting.pop()
            part.add((y, x))
            for q in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
                if q in left:
                    left.discard(q)
                    waiting.append(q)
        found.append(part)
    return found


def box(part: set[tuple[int, int]]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right; the last two exclusive."""
    rows, columns = [y for y, _ in part], [x for _, x in part]
    return min(rows), min(columns), max(rows) + 1, max(columns) + 1


def adcc(shown: np.ndarray, again: np.ndarray, clean: float, faded: float) -> float:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop."""
    coherency = (pearson(list(shown.flat), list(again.flat)) + 1) / 2
    drop = max(0.0, clean - faded) / clean
    three = (coherency, 1 - float(shown.mean()), 1 - drop)
    return 3 / sum(1 / each for each in three)
