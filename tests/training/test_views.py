"""What an image looks like in training: random, and settled by seed, epoch and index alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import UsageError
from whycam.models import Preprocessing
from whycam.training.views import TrainingView, drawn_for, random_box

PREPROCESSING = Preprocessing.for_size((16, 20), (0.5,) * 3, (0.25,) * 3, crop_pct=0.8)


def view(scale: tuple[float, float] = (0.08, 1.0), flip: float = 0.5, seed: int = 1) -> TrainingView:
    return TrainingView(PREPROCESSING, scale, flip, seed)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def test_boxes_lie_in_the_image_with_the_areas_and_aspects_asked_for() -> None:
    draws = drawn_for(1, 0)
    boxes = [random_box((200, 150), (0.2, 0.9), draws) for _ in range(400)]
    shares, aspects = [], []
    for left, upper, right, lower in boxes:
        assert 0 <= left < right <= 200
        assert 0 <= upper < lower <= 150
        shares.append((right - left) * (lower - upper) / 30_000)
        aspects.append((right - left) / (lower - upper))
    assert min(shares) == pytest.approx(0.2, abs=0.02)
    assert max(shares) > 0.8
    assert np.mean(shares) == pytest.approx(0.53, abs=0.05)
    assert 0.73 < min(aspects) < 0.8
    assert 1.28 < max(aspects) < 1.36
    assert len({left for left, *_ in boxes}) > 40


@pytest.mark.parametrize(
    ("size", "box"), [((400, 10), (193, 0, 206, 10)), ((1, 300), (0, 149, 1, 150)), ((1, 1), (0, 0, 1, 1))]
)
def test_in_a_thin_image_the_box_is_the_largest_at_the_centre(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert random_box(size, (0.9, 1.0), drawn_for(1, 0)) == box


def test_a_view_depends_on_seed_epoch_and_index_and_on_nothing_drawn_before(picture: Image.Image) -> None:
    seen = view().of(picture, 2, 7)
    torch.rand(3)
    view().of(picture, 2, 8)
    assert torch.equal(view().of(picture, 2, 7), seen)
    for other in (view().of(picture, 3, 7), view().of(picture, 2, 8), view(seed=2).of(picture, 2, 7)):
        assert not torch.equal(other, seen)


def test_a_flip_mirrors_left_and_right_the_share_of_times_asked_for(picture: Image.Image) -> None:
    flips = 0
    for index in range(60):
        straight = view(flip=0.0).of(picture, 0, index)
        assert torch.equal(view(flip=1.0).of(picture, 0, index), straight.flip(2))
        flips += torch.equal(view(flip=0.25).of(picture, 0, index), straight.flip(2))
    assert 6 <= flips <= 25


def test_a_view_has_the_networks_size_and_scale(picture: Image.Image) -> None:
    white = Image.new("RGB", picture.size, (255, 255, 255))
    seen = view().of(white, 0, 0)
    assert seen.shape == (3, 16, 20)
    assert torch.equal(seen, torch.full((3, 16, 20), 2.0))


def test_views_of_many_sizes_are_refused() -> None:
    bounded = Preprocessing((16, 20), "bounded", (16, 20), "bilinear", (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(UsageError, match="--resize shorter or squash"):
        TrainingView(bounded, (0.1, 1.0), 0.5, 0)
