"""The benchmark's own part, without the packages it compares with: what it asks of them, and our curves."""

import pytest
import torch
from benchmarks.measuring import Place
from benchmarks.peers_evaluation import (
    BARE,
    OURS,
    TARGET,
    Part,
    Taken,
    agreement,
    bare,
    distinct,
    features_in_step,
    minimum,
    our_curves,
    time_table,
)
from torch import nn

from whycam.evaluation.ranking import removal_ranks

pytestmark = pytest.mark.usefixtures("one_thread")


class Counting(nn.Module):
    """A linear classifier of nine classes that counts the images it is given."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.linear = nn.Linear(values, TARGET + 2)
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return self.linear(images.flatten(1))


def a_part() -> Part:
    torch.manual_seed(0)
    images, maps = torch.randn(3, 3, 4, 5), torch.randn(3, 4, 5)
    return Part(Place(), Counting(images[0].numel()).eval(), images, maps, maps.relu())


def highest_first(values) -> list[int]:
    flat = values.flatten().tolist()
    return sorted(range(len(flat)), key=lambda place: -flat[place])


def curve_by_loops(part, image, order, steps):
    """The class's score as the first of the order become the image's smallest value, step by step."""
    scores = []
    for step in range(steps + 1):
        changed = image.clone().flatten()
        for place in order[: round(len(order) * step / steps)]:
            changed[place] = image.min()
        scores.append(part.model(changed.view(1, *image.shape))[0, TARGET].item())
    return scores


def test_the_steps_asked_of_quantus_are_the_nearest_that_divide_the_pixels() -> None:
    assert features_in_step(224 * 224, 3, 20) == (7168, 21)
    for pixels, channels, steps in ((60, 3, 7), (64, 1, 10), (49, 3, 20)):
        size, count = features_in_step(pixels, channels, steps)
        possible = [channels * pixels // each for each in range(1, pixels + 1) if pixels % each == 0]
        assert pixels % size == 0
        assert size * count == channels * pixels
        assert abs(count - steps) == min(abs(each - steps) for each in possible)


def test_distinct_values_keep_the_order_and_leave_no_tie() -> None:
    values = torch.tensor([[[2.0, 5.0], [2.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert distinct(values).tolist() == [[[3.0, 4.0], [2.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]]]


def test_our_curve_of_single_features_under_the_minimum_is_that_of_loops() -> None:
    part, steps = a_part(), 6
    values = torch.randn(part.images.shape)
    found = our_curves(part, minimum(part.images), removal_ranks(values), steps).most[0]
    for course, image, value in zip(found, part.images, values, strict=True):
        order = highest_first(value)
        assert course.tolist() == pytest.approx(curve_by_loops(part, image, order, steps), abs=1e-5)


def test_our_curve_of_pixels_under_the_minimum_takes_all_channels_of_a_pixel() -> None:
    part, steps = a_part(), 5
    found = our_curves(part, minimum(part.images), removal_ranks(part.maps), steps).most[0]
    pixels = part.maps[0].numel()
    for course, image, value in zip(found, part.images, part.maps, strict=True):
        order = [channel * pixels + place for place in highest_first(value) for channel in range(3)]
        assert course.tolist() == pytest.approx(curve_by_loops(part, image, order, steps), abs=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bare_forwards_give_the_model_exactly_the_images_asked_for(layout) -> None:
    part = a_part()
    bare(part, 500, layout)(part.images)
    assert part.model.seen == 500


def test_a_time_is_divided_by_the_bare_forwards_beside_it() -> None:
    found = {
        BARE: [Taken(6.0, 4.0)],
        OURS: [Taken(5.0, 4.0), Taken(12.0, 8.0), Taken(2.5, 2.0)],
        "a quarter of the forwards": [Taken(2.0, 1.0)],
    }
    rows = list(time_table(found, {BARE: 40, OURS: 40, "a quarter of the forwards": 10}))
    assert rows[2] == f"| {BARE} | 1 | 40 | 6 | 1.5 (once) |  |"
    assert rows[3] == f"| {OURS} | 3 | 40 | 5 | 1.25 (1.25 to 1.5) | 1.00 |"
    assert rows[4] == "| a quarter of the forwards | 1 | 10 | 2 | 2 (once) | 0.40 |"


def test_agreement_tells_the_largest_difference_and_how_far_ours_moves() -> None:
    ours = torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])
    assert (
        agreement("moved by a quarter", ours + 0.25, ours) == "| moved by a quarter | 0.25 | 3 | 1.000000 |"
    )
    assert agreement("turned", -ours, ours) == "| turned | 8 | 3 | -1.000000 |"
