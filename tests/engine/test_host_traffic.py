"""No value leaves the device before the caller asks for pixels."""

import pytest
import torch
from tests.brief import brief
from tests.engine.networks import Plain, Residual, Transformer, pictures, settle
from torch.utils._python_dispatch import TorchDispatchMode

from whycam import (
    METHODS,
    FirstComponent,
    FlipAverage,
    NoiseAverage,
    ScaleAverage,
    TopClass,
    explain,
    explain_methods,
    explain_targets,
)

# What makes the host wait for a device's values.
WAITING = {
    "aten::_local_scalar_dense": "item, bool, float, int",
    "aten::nonzero": "nonzero, mask indexing",
    "aten::masked_select": "mask indexing",
    "aten::equal": "equal",
    "aten::is_nonzero": "bool",
    "aten::unique_dim": "unique",
    "aten::_unique2": "unique",
    "aten::allclose": "allclose",
    "aten::repeat_interleave.Tensor": "repeat_interleave",
}
MASKING = {"aten::index", "aten::index_put", "aten::index_put_"}  # with a mask, its true cells are counted
READING = [
    "cpu",
    "item",
    "tolist",
    "numpy",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__array__",
    "__contains__",
]


class NoWaiting(TorchDispatchMode):
    """Fails on an operation whose result the host must wait for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        full = f"{name}.{function._overloadname}"
        masked = name in MASKING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING or full in WAITING or masked:
            raise AssertionError(f"{full} makes the host wait for the device")
        return function(*args, **(kwargs or {}))


@pytest.fixture
def no_host_traffic(monkeypatch):
    def forbid(name):
        def reading(self, *args, **kwargs):
            raise AssertionError(f"Tensor.{name} takes values to the host")

        monkeypatch.setattr(torch.Tensor, name, reading)

    for name in READING:
        forbid(name)
    with NoWaiting():
        yield


GRADIENT_METHODS = ["gradcam", "gradcam++", "xgradcam", "hirescam", "gradcam-elementwise", "layercam"]
OVER_LAYERS = ["finercam", "shapleycam", "segeigencam", "refinecam", "fullgrad"]
OTHERS = ["eigencam", "eigengradcam", "kpcacam", "fem", "smoothgradcam++", "dff", "random", "centre", "edges"]
PIXEL = [name for name, method in METHODS.items() if method.kind == "pixel"]


WAITS = {
    "bool": bool,
    "float": float,
    "item": lambda value: value.item(),
    "tolist": lambda value: value.tolist(),
    "cpu": lambda value: value.cpu(),
    "numpy": lambda value: value.numpy(),
    "an index": lambda value: range(value.int()),
    "a mask": lambda value: value.expand(3)[value.expand(3) > 0],
    "nonzero": torch.nonzero,
    "equal": lambda value: torch.equal(value, value),
    "allclose": lambda value: torch.allclose(value, value),
    "unique": torch.unique,
}


@pytest.mark.parametrize("how", WAITS)
def test_the_watch_itself_notices(how, no_host_traffic):
    with pytest.raises(AssertionError):
        WAITS[how](torch.ones(()))


@pytest.mark.parametrize("method", GRADIENT_METHODS + OVER_LAYERS + OTHERS + PIXEL)
def test_methods_keep_values_on_the_device(method, no_host_traffic):
    explain(MODEL, IMAGES, layer="last", method=brief(method))


MODEL, IMAGES = settle(Plain()), pictures()


@pytest.mark.parametrize(
    "target", [None, 1, [0, 1], [TopClass(), 2], lambda outputs: outputs.square().sum(1)]
)
def test_targets_keep_values_on_the_device(target, no_host_traffic):
    explain(MODEL, IMAGES, layer="last", target=target)


@pytest.mark.parametrize("smoothing", [FlipAverage(), NoiseAverage(2), ScaleAverage(), FirstComponent()])
def test_smoothing_keeps_values_on_the_device(smoothing, no_host_traffic):
    explain(MODEL, IMAGES, layer="last", smoothing=smoothing)


def test_several_of_everything_keep_values_on_the_device(no_host_traffic):
    explain(RESIDUAL, IMAGES, layer=["stem", "blocks.0", "blocks.1"], method="layercam")
    explain_targets(MODEL, IMAGES, [0, None], layer="last", batch_size=1)
    explain_methods(MODEL, IMAGES, GRADIENT_METHODS, layer="last")
    explain(TRANSFORMER, IMAGES, layer="blocks.1")
    explain(RESIDUAL.train(), IMAGES, layer="blocks.1#1")


RESIDUAL, TRANSFORMER = settle(Residual()), settle(Transformer((3, 3)))


def test_a_layer_once_chosen_keeps_values_on_the_device(request):
    explain(RESIDUAL, IMAGES)
    request.getfixturevalue("no_host_traffic")
    explain(RESIDUAL, IMAGES)


def test_attention_once_placed_keeps_values_on_the_device(request):
    names = ["rollout", "attentiongradient", "chefer", "legrad"]
    explain_methods(TRANSFORMER, IMAGES, names)
    request.getfixturevalue("no_host_traffic")
    explain_methods(TRANSFORMER, IMAGES, names)
