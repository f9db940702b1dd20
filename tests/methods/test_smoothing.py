"""Smoothing values: which views they give, and that a view's map is brought back in place."""

import pytest
import torch

from whycam.errors import MethodError
from whycam.methods import Averaging, FirstComponent, FlipAverage, NoiseAverage, ScaleAverage


def pictures(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("size", [(6,), (4, 6), (3, 4, 6)])
def test_a_mirrored_views_map_comes_back_the_right_way_round(size):
    images = pictures(*size)
    maps = [undo(view.mean(1)) for view, undo in FlipAverage().views(images)]  # the mean commutes with a flip
    assert len(maps) == 2
    for got in maps:
        torch.testing.assert_close(got, images.mean(1))


def test_flip_average_shows_the_image_and_its_mirror_from_left_to_right():
    images = pictures(4, 6)
    views = [view for view, _ in FlipAverage().views(images)]
    assert torch.equal(views[0], images)
    for x in range(6):
        assert torch.equal(views[1][..., x], images[..., 5 - x])


def test_noise_is_a_share_of_each_images_range_and_repeats_with_its_seed():
    images = pictures(8, 8) * torch.tensor([1.0, 100.0], dtype=torch.float64).view(2, 1, 1, 1)
    views = torch.stack([view for view, _ in NoiseAverage(n=200, sigma=0.2, seed=3).views(images)])
    again = torch.stack([view for view, _ in NoiseAverage(n=200, sigma=0.2, seed=3).views(images)])
    other = torch.stack([view for view, _ in NoiseAverage(n=200, sigma=0.2, seed=4).views(images)])
    assert torch.equal(views, again)
    assert not torch.equal(views, other)
    for b in range(2):
        unit = (views[:, b] - images[b]) / (0.2 * (images[b].max() - images[b].min()))
        assert abs(float(unit.mean())) < 0.02  # 38,400 draws: the standard error is 0.005
        assert abs(float(unit.std()) - 1.0) < 0.02


def test_noise_leaves_the_global_generator_and_the_images_alone():
    images, state = pictures(4, 4), torch.get_rng_state()
    before = images.clone()
    list(NoiseAverage(n=2).views(images))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


def test_scales_multiply_the_pixel_values_and_leave_maps_in_place():
    images = pictures(4, 4)
    views = list(ScaleAverage((0.5, 2.0)).views(images))
    assert [float((view / images).mean()) for view, _ in views] == pytest.approx([0.5, 2.0])
    for view, undo in views:
        assert torch.equal(undo(view[:, 0]), view[:, 0])


@pytest.mark.parametrize("views_keep", [FlipAverage(), NoiseAverage(n=2), ScaleAverage()])
def test_views_keep_dtype_and_shape(views_keep):
    for dtype in (torch.float16, torch.float32, torch.float64):
        images = pictures(4, 4).to(dtype)
        for view, _ in views_keep.views(images):
            assert view.dtype == dtype
            assert view.shape == images.shape


def test_only_smoothings_with_views_are_averages():
    assert isinstance(FlipAverage(), Averaging)
    assert isinstance(NoiseAverage(), Averaging)
    assert isinstance(ScaleAverage(), Averaging)
    assert not isinstance(FirstComponent(), Averaging)


def test_smoothings_are_values():
    assert NoiseAverage(4, 0.1) == NoiseAverage(4, 0.1)
    assert hash(NoiseAverage(4, 0.1)) == hash(NoiseAverage(4, 0.1))
    assert NoiseAverage(4, 0.1) != NoiseAverage(5, 0.1)


@pytest.mark.parametrize(
    ("smoothing", "options"),
    [(NoiseAverage, {"n": 0}), (NoiseAverage, {"sigma": -0.1}), (ScaleAverage, {"factors": ()})],
)
def test_an_empty_average_is_refused(smoothing, options):
    with pytest.raises(MethodError, match=smoothing.__name__):
        smoothing(**options)
