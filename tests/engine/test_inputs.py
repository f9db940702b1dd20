"""Models that take more than one tensor: by name, by position, and what a batch size does to them."""

from collections import UserDict

import pytest
import torch
from tests.brief import brief
from tests.engine.networks import CLASSES, Plain, pictures, settle
from torch import nn

from whycam import FlipAverage, UsageError, choose_layer, explain, explain_methods
from whycam.engine import Inputs


class Conditioned(Plain):
    """Adds to the scores what a vector for each image and a table for all of them say."""

    def __init__(self):
        super().__init__()
        self.from_vector = nn.Linear(3, CLASSES)

    def forward(self, pixel_values, vector=None, *, table=None, note="none"):
        scores = super().forward(pixel_values)
        scores = scores if vector is None else scores + self.from_vector(vector.mul_(1.0))
        return scores if table is None else scores + table.sum(0)


@pytest.fixture
def model():
    return settle(Conditioned())


def vectors(count):
    return torch.arange(3.0 * count).reshape(count, 3)


def test_inputs_by_name_give_what_the_model_gives_for_them(model):
    images, vector = pictures(4), vectors(4)
    found = explain(model, {"pixel_values": images, "vector": vector, "note": "any"}, layer="body", target=1)
    torch.testing.assert_close(found.outputs, model(images, vector).detach())
    assert found.maps.shape[0] == len(found) == 4
    assert torch.equal(found.images, images)


def test_inputs_by_position_are_the_same_as_by_name(model):
    images, vector = pictures(4), vectors(4)
    by_name = explain(model, {"vector": vector, "pixel_values": images}, layer="body", target=1)
    by_place = explain(model, (images, vector), layer="body", target=1)
    assert torch.equal(by_name.maps, by_place.maps)
    assert torch.equal(by_name.scores, by_place.scores)


def test_what_a_processor_returns_is_taken_as_it_is(model):
    images = pictures(2)
    found = explain(model, UserDict(pixel_values=images, vector=vectors(2)), layer="body", target=1)
    assert torch.equal(found.scores, explain(model, (images, vectors(2)), layer="body", target=1).scores)


def test_images_need_not_come_first(model):
    class Reversed(Conditioned):
        def forward(self, vector, images):
            return super().forward(images, vector)

    images, vector = pictures(2), vectors(2)
    found = explain(settle(Reversed()), (vector, images), layer="body", target=1)
    assert torch.equal(found.images, images)
    assert torch.equal(found.maps, explain(model, (images, vector), layer="body", target=1).maps)


def test_a_batch_size_cuts_what_belongs_to_each_image_and_leaves_the_rest_whole(model):
    inputs = {"pixel_values": pictures(5), "vector": vectors(5), "table": torch.rand(3, CLASSES)}
    whole = explain(model, inputs, layer="body", target=[0, 1, 2, 3, 4])
    parts = explain(model, inputs, layer="body", target=[0, 1, 2, 3, 4], batch_size=2)
    torch.testing.assert_close(whole.maps, parts.maps)
    torch.testing.assert_close(whole.outputs, parts.outputs)


def test_the_layer_is_chosen_with_all_inputs(model):
    alone = choose_layer(settle(Plain()), pictures(2))
    assert choose_layer(model, {"pixel_values": pictures(2), "vector": vectors(2)}).path == alone.path


@pytest.mark.parametrize("smoothing", [None, FlipAverage()])
def test_every_method_and_smoothing_sees_all_inputs(model, smoothing):
    images, vector = pictures(2), vectors(2)
    names = ["gradcam", "layercam", "smoothgradcam++", "eigencam", "random"]
    for found in explain_methods(model, (images, vector), names, layer="body", target=2, smoothing=smoothing):
        torch.testing.assert_close(found.outputs, model(images, vector).detach())
        assert found.maps.isfinite().all()


def test_cam_proves_its_head_with_all_inputs():
    class Shifted(Plain):
        def forward(self, images, shift):
            return super().forward(images + shift)

    model, images, shift = settle(Shifted()), pictures(2), torch.tensor(0.5)
    found = explain(model, (images, shift), method="cam", layer="last", target=1)
    alone = explain(settle(Plain()), images + shift, method="cam", layer="last", target=1)
    torch.testing.assert_close(found.maps, alone.maps)


def test_nothing_the_model_writes_into_is_the_callers(model):
    class Writing(Conditioned):
        def forward(self, pixel_values, vector):
            return super().forward(pixel_values.mul_(2), vector.zero_())

    inputs = {"pixel_values": pictures(2), "vector": vectors(2)}
    explain(settle(Writing()), inputs, layer="body", target=1)
    assert torch.equal(inputs["pixel_values"], pictures(2))
    assert torch.equal(inputs["vector"], vectors(2))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "hold no images (nothing)"),
        ((), "hold no images (nothing)"),
        ({"input_ids": torch.zeros(2, 3, 4, dtype=torch.long)}, "input_ids: [2, 3, 4] of torch.int64"),
        ((torch.zeros(2, 3), "x"), "0: [2, 3] of torch.float32, 1: str"),
        ({"pixel_values": torch.zeros(0, 3, 4, 4)}, "at least one image"),
        ([torch.zeros(3, 4, 4)], "images are a list"),
        ("cat.jpg", "images are a str"),
        (None, "images are a NoneType"),
    ],
)
def test_inputs_without_images_are_refused_in_one_line(given, complaint):
    with pytest.raises(UsageError) as caught:
        Inputs.of(given)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


class WithTexts(nn.Module):
    """Scores each image for each text, as CLIP does."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.text = nn.Linear(4, 8)

    def forward(self, images, texts):
        return self.body(images).relu().mean((2, 3)) @ self.text(texts).T


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam", "liftcam", "rise", "scorecam", "integrated"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_as_many_texts_as_images_are_no_rows_of_the_images(method, batch_size):
    model, images = settle(WithTexts()), pictures(3)
    texts = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    asked = {"method": brief(method), "layer": "body", "target": 1}
    each = [explain(model, (images[i : i + 1], texts), **asked).maps for i in range(3)]
    found = explain(model, (images, texts), batch_size=batch_size, **asked)
    torch.testing.assert_close(found.maps, torch.cat(each), rtol=1e-3, atol=1e-5)
    fewer = explain(model, (images, texts[:2]), batch_size=batch_size, **asked)
    torch.testing.assert_close(fewer.maps, found.maps, rtol=1e-3, atol=1e-5)
