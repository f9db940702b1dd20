import pytest
import torch

from whycam.testbeds.plate import CORNERS, MARGIN, stamp


def pictures(count: int = CORNERS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(60, 200, (count, 3, 40, 48), dtype=torch.uint8, generator=generator)


def test_the_mask_is_where_the_plate_changed_the_picture():
    images = pictures()
    stamped, masks = stamp(images, torch.arange(CORNERS))
    changed = (stamped != images).any(1)
    assert not changed[~masks].any()
    assert changed[masks].float().mean() > 0.95


@pytest.mark.parametrize(("corner", "low", "right"), [(0, False, False), (1, False, True), (2, True, False)])
def test_a_corner_is_counted_in_reading_order_and_kept_off_the_edge(corner: int, low: bool, right: bool):
    _, masks = stamp(pictures(1), torch.tensor([corner]))
    rows, columns = masks[0].nonzero().unbind(1)
    tall, wide = masks.shape[1:]
    assert (rows.max() == tall - 1 - MARGIN) if low else (rows.min() == MARGIN)
    assert (columns.max() == wide - 1 - MARGIN) if right else (columns.min() == MARGIN)


def test_the_plate_covers_about_a_hundredth_of_a_scene():
    _, masks = stamp(torch.zeros(1, 3, 96, 96, dtype=torch.uint8), torch.tensor([3]))
    assert 0.008 < masks.float().mean() < 0.011


def test_a_fainter_plate_changes_the_same_pixels_less():
    images, corners = pictures(), torch.arange(CORNERS)
    strong, weak = (stamp(images, corners, opacity)[0].float() - images.float() for opacity in (0.9, 0.3))
    assert (weak.abs() <= strong.abs()).all()
    assert weak.abs().sum() < 0.4 * strong.abs().sum()


def test_the_pictures_given_are_left_as_they_are():
    images = pictures()
    before = images.clone()
    stamp(images, torch.arange(CORNERS))
    assert torch.equal(images, before)
