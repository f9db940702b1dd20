"""What stands where pixels are removed, held to loops."""

import numpy as np
import pytest
import torch
from tests.evaluation.beds import noise
from tests.oracles import evaluation as oracles

from whycam.errors import UsageError
from whycam.evaluation import fills

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = torch.tensor([1, 0, 1])


def kept_at_random(count: int, size: tuple[int, ...], share: float) -> torch.Tensor:
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(3)) >= share


@pytest.mark.parametrize("size", [(9,), (7, 10), (3, 4, 5)])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_push_pull_is_the_pyramid_by_loops(size, share):
    images, kept = noise(2, 2, *size), kept_at_random(3, size, share)
    filled = fills.push_pull(images)(ROWS, kept)
    for got, row, its in zip(filled, ROWS.tolist(), kept, strict=True):
        np.testing.assert_allclose(got, oracles.push_pull(images[row].numpy(), its.numpy()), atol=1e-12)


@pytest.mark.parametrize("size", [(9,), (7, 10), (3, 4, 5)])
def test_blur_is_the_gaussian_by_loops(size):
    images = noise(2, 2, *size)
    for got, image in zip(fills.blurred(images), images, strict=True):
        np.testing.assert_allclose(got, oracles.blurred(image.numpy(), 0.1), atol=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_linear_imputation_is_the_dense_solve(share, monkeypatch):
    monkeypatch.setattr(fills, "NOISE", 0.0)
    images, kept = noise(2, 3, 9, 8), kept_at_random(3, (9, 8), share)
    filled = fills.linear(images)(ROWS, kept)
    for got, row, its in zip(filled, ROWS.tolist(), kept, strict=True):
        np.testing.assert_allclose(got, oracles.linear(images[row].numpy(), its.numpy()), rtol=0, atol=1e-4)


def test_linear_imputation_reaches_across_a_large_hole(monkeypatch):
    # a ramp is the exact answer of the system in the middle; the hole is 60 of 64 columns wide
    monkeypatch.setattr(fills, "NOISE", 0.0)
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).expand(1, 1, 64, 64).contiguous()
    kept = torch.zeros(1, 64, 64, dtype=torch.bool)
    kept[:, :, :2] = kept[:, :, -2:] = True
    filled = fills.linear(ramp)(torch.tensor([0]), kept)
    assert (filled - ramp).abs().max() < 0.01


@pytest.mark.parametrize("size", [16, 24, 31])
def test_linear_imputation_of_an_image_without_any_pixel_is_its_mean(size, monkeypatch):
    monkeypatch.setattr(fills, "NOISE", 0.0)
    images = noise(4, 3, size, size).float() + 1
    filled = fills.linear(images)(torch.arange(4), torch.zeros(4, size, size, dtype=torch.bool))
    torch.testing.assert_close(filled, images.mean((2, 3), keepdim=True).expand_as(images))


def test_linear_imputation_stays_where_it_is_once_it_is_solved(monkeypatch):
    monkeypatch.setattr(fills, "NOISE", 0.0)
    images, kept = noise(2, 3, 24, 24).float(), kept_at_random(3, (24, 24), 0.3)
    filled = fills.linear(images)(ROWS, kept)
    monkeypatch.setattr(fills, "ITERATIONS", 20 * fills.ITERATIONS)
    torch.testing.assert_close(fills.linear(images)(ROWS, kept), filled, atol=1e-4, rtol=0)


def test_the_noise_of_an_image_does_not_depend_on_its_neighbours():
    images, kept = noise(3, 1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    alone = fills.linear(images[2:])(torch.tensor([0]), kept)
    among = fills.linear(images)(torch.tensor([2]), kept)
    torch.testing.assert_close(alone, among, rtol=0, atol=1e-12)
    assert alone.std() == pytest.approx(fills.NOISE, rel=0.5)


def test_zero_is_the_image_times_what_is_kept():
    images, kept = noise(2, 2, 7, 6), kept_at_random(3, (7, 6), 0.5)
    filled = fills.zero(images)(ROWS, kept)
    for got, row, its in zip(filled, ROWS.tolist(), kept, strict=True):
        np.testing.assert_array_equal(got, images[row].numpy() * its.numpy())


@pytest.mark.parametrize("fill", fills.FILLS)
def test_kept_pixels_stay_and_an_image_without_any_is_filled_with_numbers(fill):
    images = noise(2, 3, 6, 5)
    kept = kept_at_random(2, (6, 5), 0.5)
    kept[1] = False
    filled = fills.fill_named(fill)(images)(torch.tensor([0, 1]), kept)
    chosen = kept[0].expand(3, 6, 5)
    assert torch.equal(filled[0][chosen], images[0][chosen])
    assert filled.isfinite().all()
    assert filled[1].std() < 0.7 * images[1].std()


@pytest.mark.parametrize("fill", fills.FILLS)
def test_colour_images_are_filled_under_maps_of_one_channel(fill):
    images, kept = noise(1, 3, 8, 8), kept_at_random(1, (8, 8), 0.5)
    filled = fills.fill_named(fill)(images)(torch.tensor([0]), kept)
    grey = fills.fill_named(fill)(images[:, 1:2])(torch.tensor([0]), kept)
    assert filled.shape == images.shape
    if fill != "linear":  # whose noise is a band's own
        torch.testing.assert_close(filled[:, 1:2], grey)


def test_an_unknown_fill_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="fill 'grey' is unknown; expected one of blur, push-pull, linear"):
        fills.fill_named("grey")
