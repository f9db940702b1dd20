"""Attention methods on one image, as plain loops from the papers.

``attentions`` and ``gradients`` are lists over blocks of arrays [heads, N, N]; ``read`` lists the numbers of
the tokens whose rows are averaged; the grid's tokens are ``first`` to ``first + cells``.
"""

import numpy as np

Matrix = list[list[float]]


def zeros(size: int) -> Matrix:
    return [[0.0] * size for _ in range(size)]


def identity(size: int) -> Matrix:
    return [[float(i == j) for j in range(size)] for i in range(size)]


def product(one: Matrix, other: Matrix) -> Matrix:
    size = len(one)
    result = zeros(size)
    for i in range(size):
        for j in range(size):
            result[i][j] = sum(one[i][k] * other[k][j] for k in range(size))
    return result


def fused(attention: np.ndarray, fusion: str) -> Matrix:
    """Make one matrix of the heads."""
    heads, size, _ = attention.shape
    result = zeros(size)
    for i in range(size):
        for j in range(size):
            values = [float(attention[h, i, j]) for h in range(heads)]
            result[i][j] = {"mean": sum(values) / heads, "max": max(values), "min": min(values)}[fusion]
    return result


def without_lowest(matrix: Matrix, share: float) -> Matrix:
    """Set the lowest share of the entries to 0; of equal ones those that come first."""
    size = len(matrix)
    places = sorted((matrix[i][j], i, j) for i in range(size) for j in range(size))
    result = [list(row) for row in matrix]
    for _, i, j in places[: int(share * size * size)]:
        result[i][j] = 0.0
    return result


def on_grid(matrix: Matrix, read: list[int], first: int, cells: int) -> np.ndarray:
    return np.array([sum(matrix[i][first + p] for i in read) / len(read) for p in range(cells)])


def rollout(
    attentions: list[np.ndarray],
    read: list[int],
    first: int,
    cells: int,
    fusion: str = "mean",
    discard: float = 0.0,
) -> np.ndarray:
    """Abnar 2020: A = 0.5 W + 0.5 I with rows that sum to 1, and R_l = A_l R_(l-1)."""
    size = attentions[0].shape[-1]
    rolled = identity(size)
    for attention in attentions:
        matrix = without_lowest(fused(attention, fusion), discard)
        for i in range(size):
            row = [0.5 * matrix[i][j] + 0.5 * (i == j) for j in range(size)]
            matrix[i] = [value / sum(row) for value in row]
        rolled = product(matrix, rolled)
    return on_grid(rolled, read, first, cells)


def positive_relevance(attention: np.ndarray, gradient: np.ndarray) -> Matrix:
    """Chefer 2021, eq. 5: the mean over heads of the positive part of gradient times attention."""
    heads, size, _ = attention.shape
    result = zeros(size)
    for h in range(heads):
        for i in range(size):
            for j in range(size):
                result[i][j] += max(0.0, float(attention[h, i, j]) * float(gradient[h, i, j])) / heads
    return result


def attention_gradient(
    attentions: list[np.ndarray], gradients: list[np.ndarray], read: list[int], first: int, cells: int
) -> np.ndarray:
    """Barkan 2021, eq. 3, of the last block alone: attention times the positive gradient."""
    return on_grid(positive_relevance(attentions[-1], gradients[-1]), read, first, cells)


def chefer(
    attentions: list[np.ndarray], gradients: list[np.ndarray], read: list[int], first: int, cells: int
) -> np.ndarray:
    """Chefer 2021, eq. 6: R = R + A R from R = I, without that I at the end."""
    size = attentions[0].shape[-1]
    relevance = identity(size)
    for attention, gradient in zip(attentions, gradients, strict=True):
        more = product(positive_relevance(attention, gradient), relevance)
        for i in range(size):
            for j in range(size):
                relevance[i][j] += more[i][j]
    for i in range(size):
        relevance[i][i] -= 1.0
    return on_grid(relevance, read, first, cells)


def legrad(block_gradients: list[np.ndarray], first: int, cells: int) -> np.ndarray:
    """Bousselham 2024: each block's positive gradients, averaged over heads and rows; the blocks' sum."""
    result = np.zeros(cells)
    for gradient in block_gradients:
        heads, rows, _ = gradient.shape
        for p in range(cells):
            for h in range(heads):
                for i in range(rows):
                    result[p] += max(0.0, float(gradient[h, i, first + p])) / (heads * rows)
    return result
