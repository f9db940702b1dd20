"""The copy that the model gets: channels last in memory where that is faster, and no one notices."""

import pytest
import torch
from tests.engine.networks import CLASSES, Plain, settle
from torch import nn

from whycam import explain
from whycam.engine.capture import CHANNELS_LAST_FROM


class Recording(Plain):
    """Notes how its images lie in memory."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return super().forward(images)


class Viewing(nn.Module):
    """Flattens by ``view``, which only works on the usual order of axes in memory."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8 * 12 * 16, CLASSES)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        x = self.body(images)
        return self.head(x.view(len(x), -1))


def batch(count, dtype=torch.float32):
    return torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)


def built(kind, dtype=torch.float32):
    torch.manual_seed(0)
    return kind().eval().to(dtype)


def test_a_large_batch_is_copied_with_its_channels_last_and_a_small_one_as_it_is():
    model = built(Recording)
    for count in (1, CHANNELS_LAST_FROM - 1, CHANNELS_LAST_FROM):
        explain(model, batch(count), layer="body", target=1)
    assert model.seen == [False, False, True]


def test_images_whose_channels_come_last_already_stay_so():
    model = built(Recording)
    explain(model, batch(2).contiguous(memory_format=torch.channels_last), layer="body", target=1)
    assert model.seen == [True]


def test_float64_is_left_as_it_is():
    model = built(Recording, torch.float64)
    explain(model, batch(CHANNELS_LAST_FROM, torch.float64), layer="body", target=1)
    assert model.seen == [False]


def test_the_numbers_do_not_depend_on_the_order_in_memory():
    model, images = built(Plain), batch(CHANNELS_LAST_FROM)
    whole = explain(model, images, layer="body", target=1)
    parts = explain(model, images, layer="body", target=1, batch_size=CHANNELS_LAST_FROM - 1)
    torch.testing.assert_close(whole.maps, parts.maps, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.outputs, model(images).detach(), rtol=1e-5, atol=1e-6)


def test_a_model_that_views_is_run_again_in_the_usual_order_and_remembered():
    model, images = built(Viewing), batch(CHANNELS_LAST_FROM)
    first = explain(model, images, layer="body", target=1)
    assert model.calls == 2
    second = explain(model, images, layer="body", target=1)
    assert model.calls == 3
    small = explain(model, images[:2], layer="body", target=1)
    torch.testing.assert_close(first.maps, second.maps)
    torch.testing.assert_close(first.maps[:2], small.maps, rtol=1e-4, atol=1e-6)


def test_a_forward_that_fails_either_way_fails_as_it_would_without_us():
    class Failing(Plain):
        def forward(self, images):
            super().forward(images)
            raise RuntimeError("mine")

    model = built(Failing)
    with pytest.raises(RuntimeError, match="mine"):
        explain(model, batch(CHANNELS_LAST_FROM), layer="body", target=1)
    assert not any(part._forward_hooks for part in model.modules())


def test_a_model_that_normalises_in_place_leaves_the_callers_images():
    class Normalising(Plain):
        def forward(self, images):
            return super().forward(images.mul_(2).sub_(1))

    images = batch(CHANNELS_LAST_FROM)
    before = images.clone()
    explain(settle(Normalising().float()), images, layer="body", target=1)
    assert torch.equal(images, before)
