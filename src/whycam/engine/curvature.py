"""How a score's gradient at a layer changes along the layer's own activations: a second backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whycam.engine.capture import Capture, CapturedLayer, capture, wide
from whycam.engine.inputs import Inputs
from whycam.engine.opened import reopened
from whycam.errors import EngineError
from whycam.types import Gradients, Scores


def hessian_product(
    module: nn.Module, inputs: Inputs, captured: Capture, target: Callable[[Any], Scores], layer: int
) -> Gradients:
    """Return H A [B, C, *grid] at a layer: H the score's second derivatives there, A what the layer returned.

    Costs two backwards from the score to the layer. Fused attention has no second derivative; where one is
    met, another forward is run with attention written out. Zero where the score is piecewise linear in the
    layer. Raises EngineError where an operation has no second derivative.
    """
    scores = captured.score(target)  # outside of what is caught: a target's error is its own
    try:
        return _product(scores, captured.layers[layer])
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if "attention" not in str(error):
            raise _refused(error) from error
    address = captured.layers[layer].address
    with reopened():  # in this thread alone: PyTorch's own switch of kernels is the process's
        again = capture(module, inputs, [address])
        scores = again.score(target)
    try:
        return _product(scores, again.layers[0])
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _refused(error) from error


def _product(scores: Scores, layer: CapturedLayer) -> Gradients:
    """Differentiate the slope along the activations: the images of a batch don't mix."""
    node = layer.node
    with torch.enable_grad():
        (first,) = torch.autograd.grad(
            scores.sum(), node, create_graph=True, retain_graph=True, allow_unused=True
        )
        product: Tensor | None = None
        if first is not None and first.requires_grad:
            along = (first * node.detach()).sum()
            (product,) = torch.autograd.grad(along, node, retain_graph=True, allow_unused=True)
    return wide(layer.layout.to_grid(torch.zeros_like(node) if product is None else product))


def _refused(error: RuntimeError) -> EngineError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return EngineError(
        f"the score has no second derivative at the layer: {reason}. Use a method that needs none, such as "
        "gradcam"
    )
