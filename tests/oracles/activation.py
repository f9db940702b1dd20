"""Maps of one image from activations (and at most a product with gradients), written from the papers.

``activations`` is a float64 array [C, *grid]; a map is [*grid], signed. Eigenvectors of the small [C, C]
Gram matrix come from Jacobi's rotations in plain loops; those of the [Z, Z] kernel from numpy's eigh.
"""

import math
from collections.abc import Callable

import numpy as np


def cam(activations: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """Zhou 2016, eq. 2: the class's weights of the last linear layer, times the channels."""
    total = np.zeros(activations.shape[1:])
    for p in np.ndindex(*total.shape):
        total[p] = math.fsum(class_weights[k] * activations[k][p] for k in range(len(activations)))
    return total


def rows(activations: np.ndarray) -> list[list[float]]:
    """Write [C, *grid] as the matrix [Z, C]: a row a position, in row-major order."""
    cells = np.ndindex(*activations.shape[1:])
    return [[float(activations[k][p]) for k in range(len(activations))] for p in cells]


def gram(matrix: list[list[float]]) -> list[list[float]]:
    """Multiply the transpose of a [Z, C] matrix with itself."""
    channels = range(len(matrix[0]))
    return [[math.fsum(row[i] * row[j] for row in matrix) for j in channels] for i in channels]


def rotate(symmetric: list[list[float]], vectors: list[list[float]], i: int, j: int) -> None:
    """Zero the entry (i, j) of a symmetric matrix by one Jacobi rotation, kept also in ``vectors``."""
    if symmetric[i][j] == 0.0:
        return
    half_cotangent = (symmetric[j][j] - symmetric[i][i]) / (2.0 * symmetric[i][j])
    tangent = math.copysign(1.0, half_cotangent) / (abs(half_cotangent) + math.hypot(half_cotangent, 1.0))
    cosine = 1.0 / math.hypot(tangent, 1.0)
    sine = tangent * cosine
    for row in symmetric:
        row[i], row[j] = cosine * row[i] - sine * row[j], sine * row[i] + cosine * row[j]
    for column in range(len(symmetric)):
        upper, lower = symmetric[i][column], symmetric[j][column]
        symmetric[i][column], symmetric[j][column] = (
            cosine * upper - sine * lower,
            sine * upper + cosine * lower,
        )
    symmetric[i][j] = symmetric[j][i] = 0.0
    for row in vectors:
        row[i], row[j] = cosine * row[i] - sine * row[j], sine * row[i] + cosine * row[j]


def eigen(symmetric: list[list[float]]) -> tuple[list[float], list[list[float]]]:
    """Diagonalise a symmetric matrix: eigenvalues, largest first, and the vector of each."""
    size = len(symmetric)
    largest = max(abs(value) for row in symmetric for value in row)
    if largest == 0.0:
        return [0.0] * size, [[float(i == j) for j in range(size)] for i in range(size)]
    work = [[value / largest for value in row] for row in symmetric]
    vectors = [[float(i == j) for j in range(size)] for i in range(size)]
    for _ in range(30):
        for i in range(size):
            for j in range(i + 1, size):
                rotate(work, vectors, i, j)
    order = sorted(range(size), key=lambda i: -work[i][i])
    return [work[i][i] * largest for i in order], [[row[i] for row in vectors] for i in order]


def covariance(first: np.ndarray, second: np.ndarray) -> float:
    """Average the product of the deviations of two maps from their means."""
    cells = list(np.ndindex(*first.shape))
    first_mean = math.fsum(first[p] for p in cells) / len(cells)
    second_mean = math.fsum(second[p] for p in cells) / len(cells)
    return math.fsum((first[p] - first_mean) * (second[p] - second_mean) for p in cells) / len(cells)


def alignment(scores: np.ndarray, reference: np.ndarray) -> float:
    """Covariance of two maps over the product of their root mean squares: 0 where a map is constant."""
    size = math.sqrt(np.mean(scores**2)) * math.sqrt(np.mean(reference**2))
    return covariance(scores, reference) / size if size > 0.0 else 0.0


def rectified_mean(activations: np.ndarray) -> np.ndarray:
    """Average the positive part over the channels."""
    total = np.zeros(activations.shape[1:])
    for p in np.ndindex(*total.shape):
        positive = [max(float(activations[k][p]), 0.0) for k in range(len(activations))]
        total[p] = math.fsum(positive) / len(positive)
    return total


def oriented(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Choose the sign that correlates with the reference, or without a correlation the positive sum."""
    agreement = alignment(scores, reference)
    if abs(agreement) > 1e-12:
        return scores if agreement > 0.0 else -scores
    return scores if scores.sum() >= 0.0 else -scores


def first_projection(activations: np.ndarray) -> tuple[np.ndarray, float]:
    """Project each position on the first right singular vector of [Z, C]; also s2 / s1 (1: undecided)."""
    matrix = rows(activations)
    values, vectors = eigen(gram(matrix))
    projection = [math.fsum(a * v for a, v in zip(row, vectors[0], strict=True)) for row in matrix]
    second = max(values[1], 0.0) if len(values) > 1 else 0.0
    ratio = math.sqrt(second / values[0]) if values[0] > 0.0 else 1.0
    return np.array(projection).reshape(activations.shape[1:]), ratio


def eigencam(activations: np.ndarray) -> np.ndarray:
    """Muhammad 2020: projection on the first right singular vector of the uncentred activations."""
    projection, _ = first_projection(activations)
    return oriented(projection, rectified_mean(activations))


def eigengradcam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Eigen-CAM of the product of gradients and activations."""
    return eigencam(activations * gradients)


def segeigencam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Chung 2025: Eigen-CAM of |g| A, turned so that the position of the largest magnitude is positive."""
    projection, _ = first_projection(activations * np.abs(gradients))
    cells = list(np.ndindex(*projection.shape))
    strongest = max(cells, key=lambda p: abs(projection[p]))
    return -projection if projection[strongest] < 0.0 else projection


def linear_kernel(x: list[float], y: list[float]) -> float:
    """x . y"""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def sigmoid_kernel(x: list[float], y: list[float]) -> float:
    """tanh(x . y / C + 1)"""
    return math.tanh(linear_kernel(x, y) / len(x) + 1.0)


def rbf_kernel(x: list[float], y: list[float]) -> float:
    """exp(-|x - y|^2 / C)"""
    return math.exp(-math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x))


KERNELS: dict[str, Callable[[list[float], list[float]], float]] = {
    "linear": linear_kernel,
    "sigmoid": sigmoid_kernel,
    "rbf": rbf_kernel,
}


def centred_kernel(activations: np.ndarray, kernel: str) -> np.ndarray:
    """Compare every two positions and centre the table's rows and columns."""
    samples = rows(activations)
    count = len(samples)
    table = np.array([[KERNELS[kernel](x, y) for y in samples] for x in samples])
    row_means = [math.fsum(table[i]) / count for i in range(count)]
    column_means = [math.fsum(table[:, j]) / count for j in range(count)]
    mean = math.fsum(row_means) / count
    centred = np.zeros_like(table)
    for i in range(count):
        for j in range(count):
            centred[i, j] = math.fsum((table[i, j], -row_means[i], -column_means[j], mean))
    return centred


def kernel_component(activations: np.ndarray, kernel: str) -> tuple[np.ndarray, float]:
    """First kernel principal component sqrt(l1) u1; also (l1 - l2) over the kernel's largest entry."""
    values, vectors = np.linalg.eigh(centred_kernel(activations, kernel))
    samples = rows(activations)
    largest = max(abs(KERNELS[kernel](x, y)) for x in samples for y in samples)
    if values[-1] <= 1e-14 * len(samples) * largest:
        return np.zeros(activations.shape[1:]), 0.0
    gap = (values[-1] - values[-2]) / largest
    return (math.sqrt(values[-1]) * vectors[:, -1]).reshape(activations.shape[1:]), float(gap)


def kpcacam(activations: np.ndarray, kernel: str = "sigmoid") -> np.ndarray:
    """KPCA-CAM (2024): kernel PCA with the positions as samples and the channels as features."""
    component, _ = kernel_component(activations, kernel)
    return oriented(component, rectified_mean(activations))


def fem_thresholds(activations: np.ndarray) -> list[tuple[float, float]]:
    """Give each channel's mean and its threshold, mean + 2 population standard deviations."""
    pairs = []
    for channel in activations:
        values = [float(value) for value in channel.ravel()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        pairs.append((mean, mean + 2.0 * math.sqrt(variance)))
    return pairs


def fem(activations: np.ndarray) -> np.ndarray:
    """Fuad 2020: the positions above the threshold of a channel, weighted by the channel's mean.

    A constant channel has nothing above its mean, whatever rounding says.
    """
    total = np.zeros(activations.shape[1:])
    for channel, (mean, threshold) in zip(activations, fem_thresholds(activations), strict=True):
        if channel.min() == channel.max():
            continue
        for p in np.ndindex(*total.shape):
            if channel[p] > threshold:
                total[p] += mean
    return total


def concept_contributions(gradients: np.ndarray, concepts: np.ndarray, parts: np.ndarray) -> list[float]:
    """First-order share of each concept in the score: sum over z, c of g[z, c] W[z, i] H[i, c].

    ``gradients`` [C, *grid], ``concepts`` W [Z, k], ``parts`` H [k, C].
    """
    slopes = rows(gradients)
    shares = []
    for i in range(len(parts)):
        terms = [
            slopes[z][c] * concepts[z][i] * parts[i][c]
            for z in range(len(slopes))
            for c in range(len(slopes[z]))
        ]
        shares.append(math.fsum(terms))
    return shares


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Multiply two matrices."""
    result = np.zeros((first.shape[0], second.shape[1]))
    for i, j in np.ndindex(*result.shape):
        result[i, j] = math.fsum(first[i][m] * second[m][j] for m in range(first.shape[1]))
    return result


def updated_concepts(matrix: np.ndarray, concepts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Lee and Seung 2001, theorem 1, for W: W times (V H') / (W H H'), entry by entry; 0 stays 0."""
    above, below = product(matrix, parts.T), product(product(concepts, parts), parts.T)
    result = np.zeros_like(concepts)
    for i, j in np.ndindex(*result.shape):
        if below[i, j] > 0.0:
            result[i, j] = concepts[i, j] * above[i, j] / below[i, j]
    return result


def updated_parts(matrix: np.ndarray, concepts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The same for H, which is W's update of the transposed problem."""
    return updated_concepts(matrix.T, parts.T, concepts.T).T


def frobenius_error(matrix: np.ndarray, concepts: np.ndarray, parts: np.ndarray) -> float:
    """Root of the summed squares of matrix [Z, C] minus W [Z, k] times H [k, C]."""
    squares = []
    for z in range(matrix.shape[0]):
        for c in range(matrix.shape[1]):
            product = math.fsum(concepts[z][i] * parts[i][c] for i in range(parts.shape[0]))
            squares.append((matrix[z][c] - product) ** 2)
    return math.sqrt(math.fsum(squares))
