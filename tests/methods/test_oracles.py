"""The oracles themselves, held to cases small enough to work out by hand."""

import math

import numpy as np
import pytest
from tests.oracles import activation, controls, fusion, gradient

TWO_CHANNELS = np.array([[1.0, 2.0], [3.0, -1.0]])
SLOPES = np.array([[0.5, 1.5], [-1.0, 1.0]])


@pytest.mark.parametrize(
    ("oracle", "by_hand"),
    [
        (gradient.gradcam, [1, 2]),  # weights 1 and 0
        (gradient.hirescam, [-2.5, 2]),
        (gradient.gradcam_elementwise, [0.5, 3]),
        (gradient.layercam, [0.5, 2]),
        (gradient.xgradcam, [7 / 6 - 6, 14 / 6 + 2]),  # weights 3.5 / 3 and -4 / 2
        # channel sums 3 and 2; alphas 2/7, 2/13; and 0 (denominator 2 - 2), 1/4
        (gradient.gradcam_plus_plus, [34 / 91 + 3 / 4, 68 / 91 - 1 / 4]),
    ],
)
def test_gradient_oracles_give_the_worked_values(oracle, by_hand):
    np.testing.assert_allclose(oracle(TWO_CHANNELS, SLOPES), by_hand, rtol=1e-14)


def test_smooth_oracle_averages_the_derivatives_and_not_the_weights():
    # averages (2, -1), (5, 1), (14, -1); channel sum 3; the weight is 5 / (10 + 42) * 2
    noisy = [np.array([[1.0, -1.0]]), np.array([[3.0, -1.0]])]
    np.testing.assert_allclose(
        gradient.smooth_gradcam_plus_plus(np.array([[1.0, 2.0]]), noisy), [10 / 52, 20 / 52], rtol=1e-14
    )


def test_cam_oracle_adds_up_weighted_channels():
    np.testing.assert_allclose(activation.cam(TWO_CHANNELS, np.array([2.0, -1.0])), [-1, 5], rtol=1e-14)


def test_jacobi_diagonalises_as_lapack_does():
    random = np.random.default_rng(3)
    factor = random.standard_normal((9, 6))
    symmetric = factor.T @ factor
    values, vectors = activation.eigen(symmetric.tolist())
    np.testing.assert_allclose(values, np.linalg.eigvalsh(symmetric)[::-1], rtol=1e-12)
    np.testing.assert_allclose(symmetric @ np.array(vectors).T, np.array(vectors).T * values, atol=1e-12)


@pytest.mark.parametrize(
    ("activations", "by_hand"),
    [
        ([[3.0, 0.0], [4.0, 0.0]], [5, 0]),
        ([[-3.0, 0.0], [-4.0, 0.0]], [5, 0]),  # nothing positive to correlate with: the sum decides
        ([[1.0, -3.0]], [1, -3]),  # the correlation decides against the sum
    ],
)
def test_eigen_oracle_projects_and_signs(activations, by_hand):
    np.testing.assert_allclose(activation.eigencam(np.array(activations)), by_hand, atol=1e-14)


@pytest.mark.parametrize(
    ("kernel", "quarter"),
    [
        ("linear", 4 / 4),
        ("rbf", (2 - 2 * math.exp(-4)) / 4),
        ("sigmoid", (math.tanh(5) - math.tanh(1)) / 4),
    ],
)
def test_kernel_oracle_splits_two_positions(kernel, quarter):
    # two positions 0 and 2 of one channel: the centred kernel is [[q, -q], [-q, q]]
    expected = [-math.sqrt(quarter), math.sqrt(quarter)]
    np.testing.assert_allclose(activation.kpcacam(np.array([[0.0, 2.0]]), kernel), expected, rtol=1e-12)


def test_fem_oracle_keeps_what_stands_out_and_weighs_it_with_the_mean():
    # mean 2, variance 8: the threshold is about 7.66; the constant channel has nothing above it
    activations = np.array([[10.0] + [1.0] * 8, [0.1] * 9])
    np.testing.assert_allclose(activation.fem(activations), [2] + [0] * 8, rtol=1e-14)


def test_concept_oracles_give_the_worked_values():
    concepts, parts = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 3.0]])
    assert activation.concept_contributions(SLOPES, concepts, parts) == [0.5 - 1.0, 6.0]
    assert activation.frobenius_error(np.zeros((2, 2)), concepts, parts) == math.sqrt(38.0)


def test_update_oracle_gives_the_worked_values_and_keeps_a_solution():
    concepts, parts = np.array([[1.0], [2.0]]), np.array([[1.0, 3.0]])
    # V H' is (1 + 6, 3 + 12), W H H' is (10, 20)
    updated = activation.updated_concepts(np.array([[1.0, 2.0], [3.0, 4.0]]), concepts, parts)
    np.testing.assert_allclose(updated, [[0.7], [1.5]], rtol=1e-14)
    np.testing.assert_allclose(activation.updated_parts(concepts @ parts, concepts, parts), parts, rtol=1e-14)


def test_fusion_oracle_scales_the_shallow_map_only():
    fused = fusion.fuse([np.array([2.0, -2.0, 0.0, 1.0]), np.array([0.0, 4.0])])
    np.testing.assert_allclose(fused, [math.tanh(2), 0.25, 0.75, 1], rtol=1e-14)


def test_fusion_oracle_resizes_between_cell_centres():
    corners = fusion.resize(np.array([[0.0, 4.0], [8.0, 12.0]]), (4, 4))
    np.testing.assert_allclose(corners[0], [0, 1, 3, 4], rtol=1e-14)
    np.testing.assert_allclose(corners[:, 0], [0, 2, 6, 8], rtol=1e-14)


def test_control_oracles_give_the_worked_values():
    np.testing.assert_allclose(controls.centre((1, 2)), [[math.exp(-0.5)] * 2], rtol=1e-14)
    np.testing.assert_allclose(controls.edges(np.array([[0.0, 1.0, 4.0]])), [0.5, 2, 1.5], rtol=1e-14)
    step = np.broadcast_to(np.array([0.0, 0.0, 1.0, 1.0]), (3, 4, 4))
    np.testing.assert_allclose(controls.edges(step), [[0, 4, 4, 0]] * 4, rtol=1e-14)
    volume = np.broadcast_to(np.array([0.0, 2.0]), (1, 2, 2, 2))
    np.testing.assert_allclose(controls.edges(volume), np.ones((2, 2, 2)), rtol=1e-14)
