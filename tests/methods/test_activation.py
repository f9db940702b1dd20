"""The methods of activations alone, held to the plain loops of ``tests.oracles.activation``."""

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.decomposition import NMF
from tests.oracles import activation as oracles
from tests.oracles import draws

from whycam.errors import MethodError
from whycam.methods import activation as methods

CONSTANTS = (0.0, 1.0, 0.1, 0.3, 1 / 3, -0.1, -2.0)
GRIDS = [(1,), (7,), (1, 1), (3, 3), (7, 7), (2, 3, 2)]
KERNELS = ("sigmoid", "linear", "rbf")


def test_every_kernel_has_an_oracle():
    assert set(KERNELS) == set(oracles.KERNELS)


# --- CAM


@given(draw=draws.draws())
@draws.check
def test_cam_is_the_weighted_sum_by_loops(draw):
    weights = draw.gradients.flatten(2)[..., 0]  # any vector a channel will do
    maps = methods.cam(draw.activations, weights)
    assert maps.dtype == torch.float64
    for b, got in enumerate(maps):
        image, vector = draw.activations[b].numpy(), weights[b].numpy()
        magnitude = float(
            sum(abs(w) * np.abs(channel).max() for w, channel in zip(vector, image, strict=True))
        )
        assert draws.disagreement(got, oracles.cam(image, vector), magnitude) < 1e-9


# --- Eigen-CAM and Eigen-Grad-CAM


def sign_is_decided(projection: np.ndarray, reference: np.ndarray, share: float) -> bool:
    """Tell whether rounding cannot turn the map over: a clear correlation, or none and a clear sum."""
    agreement = abs(oracles.alignment(projection, reference))
    if reference.min() == reference.max() == 0.0 or projection.size == 1:
        return abs(projection.sum()) > share * np.abs(projection).sum()
    return agreement > share


def eigen_is_decided(activations: np.ndarray, largest_ratio: float, share: float) -> bool:
    projection, ratio = oracles.first_projection(activations)
    reference = oracles.rectified_mean(activations)
    return ratio < largest_ratio and sign_is_decided(projection, reference, share)


@given(draw=draws.draws())
@draws.check
def test_eigencam_projects_on_the_first_singular_vector_by_loops(draw):
    decided = [b for b, (a, _) in enumerate(draw.images) if eigen_is_decided(a, 0.98, 1e-6)]
    assume(decided)
    maps = methods.eigencam(draw.activations)
    assert maps.dtype == torch.float64
    for b in decided:
        assert draws.disagreement(maps[b], oracles.eigencam(draw.images[b][0])) < 1e-9


@given(draw=draws.draws())
@draws.check
def test_eigengradcam_projects_gradient_times_activation_by_loops(draw):
    decided = [b for b, (a, g) in enumerate(draw.images) if eigen_is_decided(a * g, 0.98, 1e-6)]
    assume(decided)
    maps = methods.eigengradcam(draw.activations, draw.gradients)
    assert maps.dtype == torch.float64
    for b in decided:
        assert draws.disagreement(maps[b], oracles.eigengradcam(*draw.images[b])) < 1e-9


@given(draw=draws.draws())
@draws.check
def test_eigencam_in_float32_stays_float32_and_agrees_to_its_precision(draw):
    single = draw.activations.float()
    images = single.double().numpy()
    decided = [b for b, image in enumerate(images) if eigen_is_decided(image, 0.8, 1e-2)]
    assume(decided)
    maps = methods.eigencam(single)
    assert maps.dtype == torch.float32
    for b in decided:
        assert draws.disagreement(maps[b], oracles.eigencam(images[b])) < 1e-4


@given(draw=draws.draws())
@draws.check
def test_eigencam_of_an_image_does_not_depend_on_the_rest_of_the_batch(draw):
    # an image whose direction is undecided may sit beside the others; it is not compared
    together = methods.eigencam(draw.activations)
    assert together.isfinite().all()
    for b, (activations, _) in enumerate(draw.images):
        if eigen_is_decided(activations, 0.98, 1e-6):
            alone = methods.eigencam(draw.activations[b : b + 1])
            assert draws.disagreement(together[b : b + 1], alone.numpy()) < 1e-9


def test_eigencam_agrees_with_lapack_on_more_channels_than_positions_and_the_reverse():
    random = torch.Generator().manual_seed(7)
    for channels, grid in [(300, (4, 4)), (5, (20, 20)), (16, (4, 4))]:
        activations = torch.randn(2, channels, *grid, generator=random, dtype=torch.float64).relu()
        maps = methods.eigencam(activations)
        for b in range(2):
            matrix = activations[b].flatten(1).T.numpy()
            left, values, _ = np.linalg.svd(matrix, full_matrices=False)
            projection = (left[:, 0] * values[0]).reshape(grid)
            expected = oracles.oriented(projection, activations[b].numpy().clip(0).mean(0))
            assert draws.disagreement(maps[b], expected) < 1e-9


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigencam_of_constant_activations_is_constant_and_not_negative(grid, dtype):
    # no correlation exists, so the sum decides, whatever rounding leaves in the deviations
    for value in CONSTANTS:
        maps = methods.eigencam(torch.full((2, 3, *grid), value, dtype=dtype))
        expected = torch.full((2, *grid), abs(value) * 3**0.5, dtype=dtype)
        torch.testing.assert_close(maps, expected, msg=lambda text, value=value: f"{value}: {text}")


def test_eigencam_turns_each_image_of_a_batch_by_its_own_sign():
    random = torch.Generator().manual_seed(8)
    base = torch.rand(1, 4, 5, 5, generator=random, dtype=torch.float64)
    activations = torch.cat([base, -base, base.flip(-1)])
    maps = methods.eigencam(activations)
    torch.testing.assert_close(maps[2], maps[0].flip(-1))
    for b in range(3):
        assert draws.disagreement(maps[b], oracles.eigencam(activations[b].numpy())) < 1e-9
    assert maps[1].sum() > 0  # nothing of -base is positive, so the sum decides


# --- Seg-Eigen-CAM


def extremes_are_decided(activations: np.ndarray, gradients: np.ndarray) -> bool:
    projection, ratio = oracles.first_projection(activations * np.abs(gradients))
    largest, smallest = projection.max(), -projection.min()
    return ratio < 0.98 and abs(largest - smallest) > 1e-6 * max(largest, smallest)


@given(draw=draws.draws())
@draws.check
def test_segeigencam_projects_magnitude_of_gradient_times_activation_by_loops(draw):
    decided = [b for b, image in enumerate(draw.images) if extremes_are_decided(*image)]
    assume(decided)
    maps = methods.segeigencam(draw.activations, draw.gradients)
    assert maps.dtype == torch.float64
    for b in decided:
        assert draws.disagreement(maps[b], oracles.segeigencam(*draw.images[b])) < 1e-9


def test_segeigencam_counts_what_speaks_against_the_score_and_needs_its_gradient():
    activations = torch.tensor([[[4.0, 1.0, 0.0], [0.0, 1.0, 2.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[-3.0, -3.0, -3.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(methods.segeigencam(activations, gradients), 3 * activations[:, 0])
    assert not methods.segeigencam(activations, 0 * gradients).any()


# --- KPCA-CAM


def kernel_is_decided(activations: np.ndarray, kernel: str, smallest_gap: float, share: float) -> bool:
    component, gap = oracles.kernel_component(activations, kernel)
    reference = oracles.rectified_mean(activations)
    return gap > smallest_gap and sign_is_decided(component, reference, share)


@pytest.mark.parametrize("kernel", KERNELS)
@given(draw=draws.draws(largest=4))
@draws.brief_check
def test_kpcacam_is_the_first_kernel_component_by_loops(kernel, draw):
    decided = [b for b, (a, _) in enumerate(draw.images) if kernel_is_decided(a, kernel, 1e-4, 1e-5)]
    assume(decided)
    maps = methods.kpcacam(draw.activations, kernel=kernel)
    assert maps.dtype == torch.float64
    for b in decided:
        assert draws.disagreement(maps[b], oracles.kpcacam(draw.images[b][0], kernel)) < 1e-9


@given(draw=draws.draws(largest=4))
@draws.brief_check
def test_kpcacam_in_float32_stays_float32_and_agrees_to_its_precision(draw):
    single = draw.activations.float()
    images = single.double().numpy()
    decided = [b for b, image in enumerate(images) if kernel_is_decided(image, "sigmoid", 0.1, 1e-1)]
    assume(decided)
    maps = methods.kpcacam(single)
    assert maps.dtype == torch.float32
    for b in decided:
        assert draws.disagreement(maps[b], oracles.kpcacam(images[b])) < 1e-3


@given(draw=draws.draws(largest=4))
@draws.brief_check
def test_kpcacam_of_an_image_does_not_depend_on_the_rest_of_the_batch(draw):
    together = methods.kpcacam(draw.activations)
    assert together.isfinite().all()
    for b, (activations, _) in enumerate(draw.images):
        if kernel_is_decided(activations, "sigmoid", 1e-4, 1e-5):
            alone = methods.kpcacam(draw.activations[b : b + 1])
            assert draws.disagreement(together[b : b + 1], alone.numpy()) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kpcacam_of_constant_activations_is_zero_and_not_rounding_noise(kernel, grid, dtype):
    # the centred kernel is 0; the root of its rounding error would be drawn as a picture
    for value in CONSTANTS:
        maps = methods.kpcacam(torch.full((2, 3, *grid), value, dtype=dtype), kernel=kernel)
        assert maps.shape == (2, *grid)
        assert not maps.any(), value


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("offset", [0.0, 4096.0])
def test_kpcacam_with_the_rbf_kernel_depends_on_differences_alone(offset, dtype, tolerance):
    random = torch.Generator().manual_seed(5)
    shifted = torch.randn(1, 4, 4, 4, generator=random) + offset
    activations = shifted.double() - offset  # what float32 left of them, exactly
    expected, _ = oracles.kernel_component(activations[0].numpy(), "rbf")
    maps = methods.kpcacam(shifted.to(dtype), kernel="rbf")
    assert draws.disagreement(maps[0].abs(), np.abs(expected)) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("scale", [2.0**7, 2.0**17, 2.0**27])
def test_kpcacam_with_the_rbf_kernel_sees_equal_positions_as_equal_at_any_scale(scale, dtype, tolerance):
    random = torch.Generator().manual_seed(5)
    activations = torch.rand(1, 64, 8, generator=random) * scale
    activations[..., 1:3] = activations[..., :1]  # three equal positions against five different ones
    maps = methods.kpcacam(activations.to(dtype), kernel="rbf")
    expected, gap = oracles.kernel_component(activations[0].double().numpy(), "rbf")
    assert gap > 0.5
    assert draws.disagreement(maps[0].abs(), np.abs(expected)) < tolerance


@pytest.fixture
def unchecked_types():
    """Switch the tests' type checks off, so that the method's own error is reached, as for a user."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked_types")
def test_kpcacam_refuses_an_unknown_kernel():
    with pytest.raises(MethodError, match="'cubic' is unknown"):
        methods.kpcacam(torch.rand(1, 2, 3, 3), kernel="cubic")


# --- FEM


def fem_is_decided(activations: np.ndarray, share: float) -> bool:
    """Tell whether no value lies on its channel's threshold (constant channels, by definition, do)."""
    for channel, (_, threshold) in zip(activations, oracles.fem_thresholds(activations), strict=True):
        distance = np.abs(channel - threshold).min()
        if channel.min() != channel.max() and distance < share * np.abs(channel).max():
            return False
    return True


@given(draw=draws.draws())
@draws.check
def test_fem_marks_what_stands_out_by_loops(draw):
    assume(all(fem_is_decided(a, 1e-9) for a, _ in draw.images))
    maps = methods.fem(draw.activations)
    assert maps.dtype == torch.float64
    for got, (activations, _) in zip(maps, draw.images, strict=True):
        magnitude = float(np.abs(activations).max(axis=tuple(range(1, activations.ndim))).sum())
        assert draws.disagreement(got, oracles.fem(activations), magnitude) < 1e-9


def test_fem_finds_the_outliers_of_larger_grids():
    random = torch.Generator().manual_seed(4)
    activations = torch.randn(3, 6, 9, 9, generator=random, dtype=torch.float64) + 1.0
    maps = methods.fem(activations)
    for got, image in zip(maps, activations.numpy(), strict=True):
        expected = oracles.fem(image)
        assert 0 < np.count_nonzero(expected) < expected.size
        assert draws.disagreement(got, expected) < 1e-9


@given(draw=draws.draws())
@draws.check
def test_fem_in_float32_stays_float32_and_agrees_to_its_precision(draw):
    single = draw.activations.float()
    images = single.double().numpy()
    assume(all(fem_is_decided(image, 1e-5) for image in images))
    maps = methods.fem(single)
    assert maps.dtype == torch.float32
    for got, image in zip(maps, images, strict=True):
        magnitude = float(np.abs(image).max(axis=tuple(range(1, image.ndim))).sum())
        assert draws.disagreement(got, oracles.fem(image), magnitude) < 1e-4


@given(draw=draws.draws())
@draws.check
def test_fem_of_an_image_does_not_depend_on_the_rest_of_the_batch(draw):
    assume(all(fem_is_decided(a, 1e-9) for a, _ in draw.images))
    together = methods.fem(draw.activations)
    for b in range(len(together)):
        alone = methods.fem(draw.activations[b : b + 1])
        scale = float(draw.activations[b].abs().sum())
        assert draws.disagreement(together[b : b + 1], alone.numpy(), scale) < 1e-12


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fem_of_constant_activations_is_zero(grid, dtype):
    # nothing is above the mean of a constant channel, also where the mean is rounded down
    for value in CONSTANTS:
        assert not methods.fem(torch.full((2, 3, *grid), value, dtype=dtype)).any(), value


# --- factorisation and DFF


def samples_of(seed: int, shape: tuple[int, int, int]) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64).relu()


def errors_of(samples: torch.Tensor, concepts: int, **options: int) -> list[float]:
    presence, vectors = methods.factorise(samples, concepts, **options)
    triples = zip(samples, presence, vectors, strict=True)
    return [oracles.frobenius_error(m.numpy(), w.numpy(), h.numpy()) for m, w, h in triples]


def relative_error(matrix: torch.Tensor, presence: torch.Tensor, vectors: torch.Tensor) -> float:
    return float((matrix - presence @ vectors).norm() / matrix.norm())


@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    positions=st.integers(1, 12),
    channels=st.integers(1, 6),
    concepts=st.integers(1, 5),
)
@draws.brief_check
def test_factors_are_finite_not_negative_and_of_the_asked_shape(seed, batch, positions, channels, concepts):
    samples = samples_of(seed, (batch, positions, channels))
    presence, vectors = methods.factorise(samples, concepts)
    assert presence.shape == (batch, positions, concepts)
    assert vectors.shape == (batch, concepts, channels)
    for factor in (presence, vectors):
        assert factor.dtype == torch.float64
        assert factor.isfinite().all()
        assert (factor >= 0).all()


@given(
    seed=st.integers(0, 10_000),
    positions=st.integers(1, 12),
    channels=st.integers(1, 6),
    concepts=st.integers(1, 5),
)
@draws.brief_check
def test_more_steps_never_make_the_factorisation_worse(seed, positions, channels, concepts):
    samples = samples_of(seed, (2, positions, channels))
    errors = np.array([errors_of(samples, concepts, steps=steps) for steps in (1, 2, 5, 20, 100)])
    size = samples.flatten(1).norm(dim=1).numpy()
    assert (np.diff(errors, axis=0) <= 1e-12 * size).all()


@pytest.mark.parametrize("steps", [0, 1, 10])
@pytest.mark.parametrize(("positions", "channels", "concepts"), [(6, 4, 2), (4, 6, 3), (5, 5, 1)])
def test_each_step_is_lee_and_seungs_update_by_loops(positions, channels, concepts, steps):
    samples = samples_of(8, (2, positions, channels))
    before = methods.factorise(samples, concepts, steps=steps)
    after = methods.factorise(samples, concepts, steps=steps + 1)
    for b, matrix in enumerate(samples.numpy()):
        w, h = before[0][b].numpy(), before[1][b].numpy()
        new_w = oracles.updated_concepts(matrix, w, h)
        new_h = oracles.updated_parts(matrix, new_w, h)
        assert draws.disagreement(after[0][b], new_w) < 1e-9
        assert draws.disagreement(after[1][b], new_h) < 1e-9


def separable(seed: int, positions: int, channels: int, concepts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Build where each concept is [Z, k] and its channels [k, C]: each has cells and a channel of its own."""
    random = torch.Generator().manual_seed(seed)
    presence = torch.rand(positions, concepts, generator=random, dtype=torch.float64)
    vectors = torch.rand(concepts, channels, generator=random, dtype=torch.float64)
    own = torch.arange(positions) % (2 * concepts)
    for i in range(concepts):
        presence[own == i] = 0.0
        presence[own == i, i] = 1.0
        vectors[:, i] = 0.0
        vectors[i, i] = 1.0
    return presence, vectors


@pytest.mark.parametrize("concepts", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_factorisation_recovers_separable_concepts(seed, concepts):
    where, what = separable(seed, positions=49, channels=12, concepts=concepts)
    matrix = where @ what
    presence, vectors = methods.factorise(matrix[None], concepts)
    assert relative_error(matrix, presence[0], vectors[0]) < 0.02
    long_presence, long_vectors = methods.factorise(matrix[None], concepts, steps=2000)
    assert relative_error(matrix, long_presence[0], long_vectors[0]) < 1e-3
    found = torch.nn.functional.normalize(long_presence[0], dim=0)
    likeness = torch.nn.functional.normalize(where, dim=0).T @ found
    assert (likeness.amax(1) > 0.999).all()
    assert likeness.argmax(1).unique().numel() == concepts  # each concept found, none found twice


@pytest.mark.parametrize("concepts", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_factorisation_is_as_good_as_scikit_learns_multiplicative_updates(seed, concepts):
    samples = samples_of(seed, (1, 49, 32))
    (ours,) = errors_of(samples, concepts, steps=200)
    peers = [
        NMF(concepts, solver="mu", init=init, max_iter=200, tol=0, random_state=0).fit(samples[0].numpy())
        for init in ("nndsvda", "random")
    ]
    best = min(peer.reconstruction_err_ for peer in peers)
    assert ours < 1.1 * best


def test_factorisation_repeats_itself_and_leaves_the_global_generator_alone():
    samples, state = samples_of(1, (2, 20, 8)), torch.get_rng_state()
    first, second = methods.factorise(samples, 3), methods.factorise(samples, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_factorisation_of_an_image_does_not_depend_on_the_rest_of_the_batch():
    samples = samples_of(2, (3, 20, 8)) * torch.tensor([1e-8, 1.0, 1e8], dtype=torch.float64).view(3, 1, 1)
    together = methods.factorise(samples, 3)
    for b in range(3):
        alone = methods.factorise(samples[b : b + 1], 3)
        for whole, single in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[b : b + 1], single, rtol=1e-8, atol=1e-8 * float(single.max()))


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e15])
def test_factorisation_in_float32_works_at_any_scale(scale):
    samples = samples_of(3, (2, 20, 8)).float() * scale
    presence, vectors = methods.factorise(samples, 3)
    assert presence.dtype == vectors.dtype == torch.float32
    assert presence.isfinite().all()
    assert vectors.isfinite().all()
    product = presence.double() @ vectors.double()
    error = (samples.double() - product).flatten(1).norm(dim=1) / samples.double().flatten(1).norm(dim=1)
    expected = errors_of(samples_of(3, (2, 20, 8)), 3)
    size = samples_of(3, (2, 20, 8)).flatten(1).norm(dim=1)
    torch.testing.assert_close(error, torch.tensor(expected) / size, rtol=1e-2, atol=0)


@given(draw=draws.draws(), concepts=st.integers(1, 5))
@draws.brief_check
def test_dff_shows_the_concept_that_adds_most_to_the_score(draw, concepts):
    samples = draw.activations.relu().flatten(2).transpose(1, 2)
    presence, vectors = methods.factorise(samples, concepts)
    maps = methods.dff(draw.activations, draw.gradients, concepts=concepts)
    assert maps.dtype == torch.float64
    assert maps.shape == draw.activations[:, 0].shape
    for b, got in enumerate(maps):
        factors = presence[b].numpy(), vectors[b].numpy()
        shares = oracles.concept_contributions(draw.gradients[b].numpy(), *factors)
        slack = 1e-9 * max(abs(share) for share in shares)
        near = [i for i, share in enumerate(shares) if share >= max(shares) - slack]
        candidates = [factors[0][:, i].reshape(got.shape) for i in near]
        assert any(np.array_equal(got.numpy(), candidate) for candidate in candidates)


def test_dff_picks_by_contribution_and_not_by_size():
    # a large concept in channel 0 on the left, a small one in channel 1 on the right
    activations = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    activations[:, 0, :, :2] = 10.0
    activations[:, 1, :, 2:] = 1.0
    gradients = torch.zeros_like(activations)
    gradients[0, 0] = 1.0
    gradients[1, 1] = 1.0
    gradients[1, 0] = -1.0
    maps = methods.dff(activations, gradients, concepts=2)
    assert maps[0, :, 2:].sum() < 0.01 * maps[0].sum()
    assert maps[1, :, :2].sum() < 0.01 * maps[1].sum()


@pytest.mark.parametrize("grid", GRIDS)
def test_dff_of_constant_activations_is_finite_and_zero_where_nothing_is_positive(grid):
    for value in CONSTANTS:
        activations = torch.full((2, 3, *grid), value)
        maps = methods.dff(activations, torch.ones_like(activations))
        assert maps.shape == (2, *grid)
        assert maps.dtype == torch.float32
        assert maps.isfinite().all()
        assert bool(maps.any()) == (value > 0), value
