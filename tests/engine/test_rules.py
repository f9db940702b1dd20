"""Backward rules: every ReLU-like activation obeys, however it is called, and nothing else does."""

import math
import threading

import pytest
import torch
import torch.nn.functional as F
from tests.engine.networks import CLASSES, InPlace, Plain, Repeated, every_part, pictures, settle
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from whycam import explain
from whycam.engine.rules import backward_rule

VALUES = torch.tensor([-7.0, -2.5, -0.6, -0.1, 0.1, 0.7, 2.5, 7.0], dtype=torch.float64)
ARRIVING = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0], dtype=torch.float64)


class QuickGELU(nn.Module):
    """GELU approximated by a sigmoid, as in CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class InPlaceSwish(nn.Module):
    """Swish that writes into its input, made of single operations."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(x.sigmoid())


class HardSwish(nn.Module):
    """Gated by a ReLU6, which is no activation here but a part of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


class Negated(nn.Module):
    """Writes into what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.neg_()


MODULES = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.ReLU6(inplace=True), nn.LeakyReLU(0.2),
    nn.LeakyReLU(0.2, inplace=True), nn.PReLU().double(), nn.RReLU().eval(), nn.ELU(), nn.ELU(inplace=True),
    nn.SELU(), nn.SELU(inplace=True), nn.CELU(), nn.CELU(inplace=True), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.SiLU(inplace=True), nn.Hardswish(), nn.Hardswish(inplace=True), nn.Mish(), nn.Mish(inplace=True),
    nn.Softplus(), nn.Hardtanh(0.0, 6.0), nn.Hardtanh(0, 6, inplace=True), nn.Threshold(0, 0),
    QuickGELU(), InPlaceSwish(), HardSwish(), nn.Sequential(QuickGELU(), Negated(), Negated()),
]  # fmt: skip
FUNCTIONS = {
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "tensor.relu": lambda x: x.relu(),
    "tensor.relu_": lambda x: x.relu_(),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu in place by position": lambda x: F.relu(x, True),
    "F.relu by name": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "clamp": lambda x: x.clamp(min=0),
    "clamp between": lambda x: torch.clamp(x, 0, 6),
    "clamp_": lambda x: x.clamp_(0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "clip": lambda x: x.clip(0.0, None),
    "F.gelu": F.gelu,
    "F.gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "F.silu": F.silu,
    "F.leaky_relu_": lambda x: F.leaky_relu_(x, 0.1),
    "F.elu": F.elu,
    "F.hardswish": F.hardswish,
    "F.mish": F.mish,
    "F.softplus": F.softplus,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "torch.prelu": lambda x: torch.prelu(x, torch.full((1,), 0.3, dtype=x.dtype)),
    "written without taking the answer": lambda x: (F.relu(x, inplace=True), x)[1],
    "written into afterwards": lambda x: F.gelu(x).neg_().neg_(),
}  # fmt: skip
CALLS = {**{str(module): module for module in MODULES}, **FUNCTIONS}
NOT_RELU_LIKE = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "clamp from below 0": lambda x: x.clamp(min=-1),
    "clamp from above": lambda x: x.clamp(max=1),
    "hardtanh": F.hardtanh,
    "softmax": lambda x: x.softmax(0),
    "nn.Tanh": nn.Tanh(),
}


class Calling(nn.Module):
    """Calls a function or a module on a copy of its input."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x.clone())


def through(call, rule=None) -> tuple[Tensor, Tensor]:
    """Return the call's values and what it gives back of ARRIVING."""
    model, leaf = Calling(call), VALUES.clone().requires_grad_()
    with backward_rule(model, rule):
        values = model(leaf)
    return values.detach(), torch.autograd.grad(values, leaf, ARRIVING)[0]


def slope_of(call) -> Tensor:
    leaf = VALUES.clone().requires_grad_()
    return torch.autograd.grad(call(leaf.clone()).sum(), leaf)[0]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_relu_like_activation_obeys_whatever_it_is_called_by(call):
    plain, back = through(call)
    slope = slope_of(call)
    torch.testing.assert_close(back, ARRIVING * slope, rtol=1e-14, atol=1e-15)
    for rule, expected in (("guided", ARRIVING.relu() * slope), ("deconvnet", ARRIVING.relu())):
        values, found = through(call, rule)
        assert torch.equal(values, plain)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_an_activation_of_a_part_in_place_obeys_in_this_part_alone(rule):
    found = through(lambda x: (x[2:6].relu_(), x)[1], rule)[1]
    slope = slope_of(F.relu) if rule == "guided" else torch.ones_like(ARRIVING)
    expected = torch.cat([ARRIVING[:2], (ARRIVING.relu() * slope)[2:6], ARRIVING[6:]])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("call", NOT_RELU_LIKE.values(), ids=NOT_RELU_LIKE)
def test_what_is_no_relu_goes_back_by_its_derivative(call, rule):
    for plain, ruled in zip(through(call), through(call, rule), strict=True):
        assert torch.equal(plain, ruled)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_activations_of_libraries_obey_as_wholes(rule):
    from timm.layers import get_act_layer

    names = ["relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "swish", "mish", "hard_swish", "hard_mish"]
    for name in [*names, "quick_gelu", "gelu_tanh", "celu", "selu", "prelu"]:
        for options in ({}, {"inplace": True}):
            part = get_act_layer(name)(**options).double()
            slope = slope_of(part)
            expected = ARRIVING.relu() * (slope if rule == "guided" else 1.0)
            torch.testing.assert_close(through(part, rule)[1], expected, rtol=1e-14, atol=1e-15)


def gradients(model, images, rule):
    leaf = images.clone().requires_grad_()
    with backward_rule(model, rule):
        outputs = model(leaf)
    return outputs.detach(), torch.autograd.grad(outputs[:, 1].sum(), leaf)[0]


class WrittenOut(nn.Module):
    """A ReLU as a product with a mask, with the guided rule on the product's gradient."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, values):
        self.calls += 1
        product = values * (values > 0)
        product.register_hook(torch.relu)
        return product


def test_one_module_that_runs_several_times_obeys_each_time():
    model, written = settle(Repeated()).double(), settle(Repeated()).double()
    written.relu = WrittenOut()
    images = pictures(dtype=torch.float64)
    expected = gradients(written, images, None)[1]
    assert written.relu.calls == 3
    found = gradients(model, images, "guided")[1]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(found, gradients(model, images, None)[1])


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_in_place_operations_change_nothing_of_the_answer(rule):
    inplace, plain = settle(InPlace(True)).double(), settle(InPlace(False)).double()
    images = pictures(3, dtype=torch.float64)
    for one, other in zip(gradients(inplace, images, rule), gradients(plain, images, rule), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_a_checkpointed_part_obeys_too(rule):
    model, images = settle(Plain(inplace=True)).double(), pictures(dtype=torch.float64)

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    for one, other in zip(
        gradients(Checkpointed(), images, rule), gradients(model, images, rule), strict=True
    ):
        assert torch.equal(one, other)


class Failing(Plain):
    """Raises after its first activation."""

    def forward(self, images):
        self.relu(self.stem(images))
        raise ValueError("failed on purpose")


class Gated(nn.Module):
    """Has an activation written out of smaller operations, and one that torch knows."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.act = QuickGELU()
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(F.relu(self.act(self.stem(images))).mean((2, 3)))


@pytest.mark.parametrize("method", ["guidedbackprop", "deconvnet"])
def test_no_hook_and_no_mode_is_left_also_after_an_error(method):
    model, images = settle(Gated()), pictures()

    def count():
        return [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in every_part(model)]

    explain(model, images, method=method, target=0)

    def target(outputs):
        if outputs.requires_grad:
            raise ValueError("failed on purpose")
        return outputs[:, 0]

    with pytest.raises(ValueError, match="on purpose"):
        explain(model, images, method=method, target=target)
    with pytest.raises(ValueError, match="on purpose"), backward_rule(failing := Failing(), "guided"):
        failing(images)
    assert not any(count())
    before = explain(model, images, method="gradient", target=0).maps
    leaf = images.clone().requires_grad_()
    plain = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]
    torch.testing.assert_close(before, plain.sum(1))


def test_another_threads_forward_of_the_same_model_is_left_alone():
    model, images = settle(Gated()).double(), pictures(dtype=torch.float64)
    plain = gradients(model, images, None)[1]
    found = []
    with backward_rule(model, "deconvnet"):
        leaf = images.clone().requires_grad_()

        def run():
            found.append(torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0])

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert torch.equal(found[0], plain)


def test_where_a_model_turns_autograd_off_its_activations_are_as_always():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    with backward_rule(model, "deconvnet"), torch.no_grad():
        values = model(pictures())
    assert not values.requires_grad
    assert math.isclose(float(values.min()), 0.0)
