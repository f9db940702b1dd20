"""A head that averages the layer over its positions and is linear after that, proven by its numbers."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whycam.engine.capture import Capture
from whycam.engine.inputs import Inputs, copied
from whycam.errors import MethodError
from whycam.types import Activations, Scores


def class_weights(
    module: nn.Module, inputs: Inputs, capture: Capture, target: Callable[[Any], Scores], layer: int = 0
) -> Float[Tensor, "batch channels"]:
    """Return the head's weights of the target [B, C]: d score / d class scores, times the head's matrix.

    The head is the last linear layer or 1x1 convolution of the forward. Its input must be the layer's mean
    over positions (or the layer itself, averaged after a convolution) and its output the class scores;
    anything else is a MethodError. Costs one forward.
    """
    activations = capture.layers[layer].activations()
    head, taken, given = _last_linear(module, inputs)
    logits = _logits(capture.outputs)
    if head is None or logits is None or not _is_averaging(activations, taken, given, logits):
        raise MethodError(
            f"cam needs a head that averages '{capture.layers[layer].address}' over its positions and is "
            "linear after that, and this model's is not; use gradcam, which works on any head"
        )
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        (sensitivity,) = torch.autograd.grad(target(leaf).sum(), leaf)
    matrix = head.weight.detach().flatten(1).to(sensitivity.dtype)
    weights: Tensor = (sensitivity @ matrix).to(activations.dtype)
    return weights


def _logits(outputs: Any) -> Tensor | None:
    return outputs.detach() if isinstance(outputs, Tensor) and outputs.ndim == 2 else None


def _is_linear(part: nn.Module) -> bool:
    if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        steps = (*part.kernel_size, *part.stride)
        return set(steps) == {1} and part.groups == 1 and part.padding in (0, (0,) * len(part.kernel_size))
    return isinstance(part, nn.Linear)


def _last_linear(module: nn.Module, inputs: Inputs) -> tuple[Any, Tensor, Tensor]:
    """Run the model once; return its last linear part with what it took and gave."""
    last: list[tuple[Any, Tensor, Tensor]] = [(None, inputs.images, inputs.images)]

    def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last[0] = (part, inputs[0].detach().clone(), output.detach().clone())

    handles = [part.register_forward_hook(hook) for part in module.modules() if _is_linear(part)]
    try:
        with torch.no_grad():
            inputs.run(module, copied(inputs.images))
    finally:
        for handle in handles:
            handle.remove()
    return last[0]


def _is_averaging(activations: Activations, taken: Tensor, given: Tensor, logits: Tensor) -> bool:
    mean = activations.flatten(2).mean(2)
    if _equal(taken.flatten(1), mean):
        return _equal(given.flatten(1), logits)
    return given.ndim > 2 and _equal(taken, activations) and _equal(given.flatten(2).mean(2), logits)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold the same numbers, up to the rounding of the narrower type."""
    if one.shape != other.shape:
        return False
    narrow = max((one.dtype, other.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    wide, reference = one.double().flatten(), other.double().flatten()
    tolerance = 64 * torch.finfo(narrow).eps * float(reference.abs().max())
    return torch.allclose(wide, reference, rtol=0, atol=tolerance)
