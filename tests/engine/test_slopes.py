"""Gradients at changed images: no weight's, in any precision, from any model that autograd can follow."""

import pytest
import torch
from tests.engine.networks import Plain, pictures, settle
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from whycam import EngineError, explain
from whycam.engine import variants
from whycam.engine.capture import CHANNELS_LAST_FROM


class Watching(TorchDispatchMode):
    """Notes which gradients each convolution and batch norm on the way back is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (
            torch.ops.aten.convolution_backward.default,
            torch.ops.aten.native_batch_norm_backward.default,
        ):
            self.asked.append(tuple(args[-1]))
        self.products += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["gradient", "guidedbackprop", "deconvnet"])
def test_no_weights_gradient_is_computed(method):
    model = settle(Plain())
    assert all(weight.requires_grad for weight in model.parameters())
    with Watching() as watching:
        explain(model, pictures(), method=method, target=1)
    assert watching.asked == [(True, False, False)] * 4  # two convolutions and two batch norms
    assert watching.products == 1  # the head's: to its input alone


class Spread(nn.Module):
    """Weighs every pixel by too little for float16 on its way back, after a ReLU."""

    def __init__(self, weight):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(weight))

    def forward(self, images):
        means = (images.relu() * self.scale).mean((2, 3))
        return torch.cat([means, 2 * means], 1)


@pytest.mark.parametrize("method", ["gradient", "integrated", "guidedbackprop"])
def test_tiny_gradients_are_not_flushed_in_float16(method):
    images = pictures(channels=1, size=(64, 64)).half()
    half = explain(Spread(2e-4).half(), images, method=method, target=1).maps
    full = explain(Spread(2e-4), images.float(), method=method, target=1).maps
    assert half.dtype == torch.float32
    assert full.any()
    torch.testing.assert_close(half, full, rtol=0.1, atol=0)  # 5e-8 is float16's second smallest number
    with torch.autocast("cpu", torch.float16):
        under_autocast = explain(Spread(2e-4), images.float(), method=method, target=1).maps
    torch.testing.assert_close(under_autocast, full, rtol=0.1, atol=0)


@pytest.mark.parametrize("cut", [lambda x: x.detach(), lambda x: x.round().long().float()])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_that_detaches_its_images_is_refused_in_one_line(cut, frozen):
    class Detaching(Plain):
        def forward(self, images):
            return super().forward(cut(images))

    model = settle(Detaching()).requires_grad_(not frozen)
    with pytest.raises(EngineError, match="don't depend on the images") as caught:
        explain(model, pictures(), method="gradient", target=1)
    assert "\n" not in str(caught.value)


def test_weights_made_in_inference_mode_are_refused_in_one_line():
    with torch.inference_mode():
        model = settle(Plain())
    with pytest.raises(EngineError, match="inference_mode") as caught:
        explain(model, pictures(), method="gradient", target=1)
    assert "\n" not in str(caught.value)


class Layouts(Plain):
    """Notes how its images lie in memory; may want the usual order."""

    def __init__(self, viewing=False):
        super().__init__()
        self.viewing, self.seen = viewing, []

    def forward(self, images):
        self.seen.append(images.is_contiguous(memory_format=torch.channels_last))
        if self.viewing:
            images.view(len(images), -1)
        return super().forward(images)


def test_many_images_lie_with_their_channels_last_and_models_that_cannot_take_it_get_the_usual_order():
    images = pictures(CHANNELS_LAST_FROM)
    maps = []
    for viewing in (False, True):
        model = settle(Layouts(viewing))
        maps.append(explain(model, images, method="gradient", target=1).maps)
        assert model.seen[-1] is not viewing  # the first is the clean forward
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-6)
    assert maps[0].is_contiguous()


def test_a_chunk_that_memory_does_not_hold_on_the_way_back_is_halved():
    class Hungry(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values: Tensor) -> Tensor:
            return values.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            if len(gradient) > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return gradient

    class Model(Plain):
        def forward(self, images):
            return super().forward(Hungry.apply(images))

    images = pictures(5, dtype=torch.float64)
    found = explain(settle(Model()).double(), images, method="gradient", target=1).maps
    expected = explain(settle(Plain()).double(), images, method="gradient", target=1).maps
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_many_steps_do_not_go_through_the_model_at_once(monkeypatch):
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 4 * 3 * 144 / variants.SLOPES_SHARE)
    sizes = []
    model = settle(Plain())
    model.register_forward_pre_hook(lambda part, inputs: sizes.append(len(inputs[0])))
    explain(model, pictures(2), method="integrated", target=1)
    assert sizes == [2] + [4] * 25
