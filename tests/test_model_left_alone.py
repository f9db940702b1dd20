"""No method changes the model: every method on five architectures, in every mode, and when it goes wrong."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.brief import brief
from tests.left_alone import assert_unchanged, state_of
from torch import Tensor, nn

from whycam import METHODS, EngineError, MethodError, WhycamError, explain
from whycam.methods import Method

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet": partial(timm.create_model, "resnet18", channels=(16, 24, 32, 48)),
    "mobilenet": partial(timm.create_model, "mobilenetv3_small_050"),
    "vit": partial(
        timm.create_model, "vit_tiny_patch16_224", img_size=64, depth=3, embed_dim=48, num_heads=3
    ),
    "convnext": partial(timm.create_model, "convnext_atto", depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
    "swin": partial(
        timm.create_model,
        "swin_tiny_patch4_window7_224",
        img_size=64,
        window_size=4,
        embed_dim=24,
        depths=(1, 1, 2, 1),
    ),
}
ATTENTION = {name for name, method in METHODS.items() if method.takes_attention}
REFUSED = {
    "resnet": ATTENTION,
    "mobilenet": ATTENTION | {"cam", "shapleycam"},  # hard sigmoids have no second derivative in PyTorch
    "vit": {"cam"},
    "convnext": ATTENTION | {"cam"},
    "swin": ATTENTION | {"cam"},
}
"""What an architecture can't be explained by, and says so."""


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread_a_module: None) -> None:
    pass


@cache
def model_of(architecture: str) -> nn.Module:
    """Build a network in the middle of a fine-tuning: mixed modes, frozen weights, gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ARCHITECTURES[architecture](num_classes=4)
        with torch.no_grad():
            model(images()), model(images())  # running statistics move
    for number, part in enumerate(model.modules()):
        part.training = number % 3 != 1
    for number, weight in enumerate(model.parameters()):
        weight.requires_grad = number % 4 != 1
        if number % 3 == 0:
            # -0, infinity and NaN show any arithmetic
            weight.grad = torch.full_like(weight, (-0.0, float("inf"), float("nan"))[number % 9 // 3])
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


QUICK: dict[str, dict[str, int]] = {
    "occlusion": {"patch": 24, "stride": 20},
    "scorecam": {"channels": 20},
    "sscam": {"samples": 1},
    "iscam": {"steps": 1},
}


def quick(name: str) -> Method:
    """Return the method with as few steps as show all that it does to a model."""
    method = brief(name)
    if name not in QUICK:
        return method
    return replace(method, function=partial(METHODS[name].function, **QUICK[name]))


def outputs_of(model: nn.Module) -> Tensor:
    """Return what the model says in eval mode, without touching its flags."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    with torch.no_grad():
        outputs: Tensor = model(images())
    for part in training:
        part.training = True
    return outputs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_leaves_the_model_alone_or_refuses_in_one_line(architecture: str) -> None:
    model, given, refused = model_of(architecture), images(), set()
    before, outputs = state_of(model), outputs_of(model)
    for name in METHODS:
        try:
            found = explain(model, given, method=quick(name), target=[1, 3])
        except WhycamError as error:
            check_refusal(error, MethodError if name != "shapleycam" else EngineError)
            refused.add(name)
        else:
            assert found.maps.isfinite().all(), name
            torch.testing.assert_close(found.outputs, outputs)
        assert_unchanged(model, before)
        assert torch.equal(given, images()), name
    assert refused == REFUSED[architecture]
    assert torch.equal(outputs_of(model), outputs)


def check_refusal(error: WhycamError, kind: type[WhycamError]) -> None:
    assert isinstance(error, kind)
    assert "\n" not in str(error)


class Failing:
    """A target that raises when it is asked for the given time."""

    def __init__(self, at: int, failure: type[BaseException]) -> None:
        self.left, self.failure = at, failure

    def __call__(self, outputs: Tensor) -> Tensor:
        self.left -= 1
        if not self.left:
            raise self.failure("in the middle")
        return outputs[:, 1]


class FailingPart:
    """Raises when a part of the model begins for the given time, in a hook of the user's own."""

    def __init__(self, model: nn.Module, at: int, failure: type[BaseException]) -> None:
        self.left, self.failure = at, failure
        last = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
        self.handle = last.register_forward_pre_hook(self.count)

    def count(self, part: nn.Module, inputs: Any) -> None:
        self.left -= 1
        if not self.left:
            raise self.failure("in the middle")


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
}
FLAGS: dict[str, Callable[[nn.Module], object]] = {
    "mixed": lambda model: None,
    "training": lambda model: model.train().requires_grad_(True),
    "frozen": lambda model: model.eval().requires_grad_(False),
}


@pytest.fixture
def _flags_put_back() -> Iterator[None]:
    """Give the shared models back as they were built."""
    yield
    model_of.cache_clear()


@pytest.mark.usefixtures("_flags_put_back")
@pytest.mark.filterwarnings("ignore:what follows layer:RuntimeWarning")  # a failing model is run whole
@settings(
    max_examples=45,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from([name for name in METHODS if name not in ("sscam", "iscam")]),
    architecture=st.sampled_from(list(ARCHITECTURES)),
    flags=st.sampled_from(list(FLAGS)),
    around=st.sampled_from(list(AROUND)),
    fails=st.sampled_from(["nowhere", "target", "forward"]),
    at=st.integers(1, 4),
    failure=st.sampled_from([RuntimeError, KeyboardInterrupt]),
)
def test_in_every_mode_and_when_it_goes_wrong_the_model_is_left_alone(
    name: str,
    architecture: str,
    flags: str,
    around: str,
    fails: str,
    at: int,
    failure: type[BaseException],
) -> None:
    model, given = model_of(architecture), images()
    FLAGS[flags](model)
    broken = FailingPart(model, at, failure) if fails == "forward" else None
    target = Failing(at, failure) if fails == "target" else 1
    try:
        with AROUND[around]():
            before = state_of(model)
            try:
                explain(model, given, method=quick(name), target=target)
            except WhycamError as error:
                # Finer has no class to compare with where the target is any function
                check_refusal(error, WhycamError)
                refused = name in REFUSED[architecture] or (name == "finercam" and fails == "target")
            except failure as error:
                refused = str(error) == "in the middle"
            else:
                refused = True
            assert refused
            assert_unchanged(model, before)
    finally:
        if broken:
            broken.handle.remove()
    assert torch.equal(given, images())
