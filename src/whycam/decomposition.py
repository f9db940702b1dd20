"""What a layer is made of: a few concepts, where each one is, and which classes it speaks for."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from whycam.engine import address_of, capture, explaining, find_layer
from whycam.engine.capture import outputs_with
from whycam.errors import UsageError
from whycam.explainer import Preparing, ready
from whycam.methods.activation import concept_maps
from whycam.targets import logits_of


@dataclass(frozen=True)
class Concepts:
    """A layer's activations as a sum of ``k`` concepts, each a map times a vector of channels.

    ``maps`` [B, k, *grid] and ``vectors`` [B, k, C] are >= 0. ``classes`` [B, k, top] are the classes that
    the model finds most likely when it sees this concept alone, ``probabilities`` how likely (softmax).
    """

    maps: Float[Tensor, "batch concepts *grid"]
    vectors: Float[Tensor, "batch concepts channels"]
    classes: Int[Tensor, "batch concepts top"]
    probabilities: Float[Tensor, "batch concepts top"]
    layer: str


def concepts(
    model: nn.Module | Preparing, images: Any, *, count: int = 4, layer: str | None = None, top: int = 3
) -> Concepts:
    """Factorise a layer's positive activations into ``count`` concepts, and ask the model about each one.

    A concept's classes come from a whole forward in which the layer holds that concept's share of its
    activations and nothing else; so the cost is ``count`` + 1 forwards. Each image is factorised on its own.
    Source: Collins 2018.
    """
    if count < 1 or top < 1:
        raise UsageError(f"count is {count} and top {top}; expected at least 1 of each")
    module, inputs, _ = ready(model, images)
    with explaining(module) as live:
        address = address_of(live, layer or find_layer(live, inputs).path)
        found = capture(live, inputs, [address]).layers[0]
        maps, vectors = concept_maps(found.activations(), concepts=count)
        shares = [torch.einsum("b...,bc->bc...", maps[:, k], vectors[:, k]) for k in range(count)]
        logits = [logits_of(outputs_with(live, inputs, found, share)) for share in shares]
    likely = torch.stack(logits, 1).softmax(2)
    best = likely.topk(min(top, likely.shape[2]), dim=2)
    return Concepts(maps, vectors, best.indices, best.values, str(address))
