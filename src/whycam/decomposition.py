"""What a layer is made of, a few concepts; and whether a score is the sum of what its layers add to it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from whycam.engine import address_of, capture, explaining, find_layer
from whycam.engine.biases import score_and_parts
from whycam.engine.capture import outputs_with
from whycam.errors import UsageError
from whycam.explainer import Preparing, ready
from whycam.methods.activation import concept_maps
from whycam.targets import TargetLike, as_target, logits_of
from whycam.types import Flags, Scores


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


@dataclass(frozen=True, eq=False)
class Completeness:
    """Whether scores are the sums of their parts: input times gradient, and each bias times its gradient.

    ``scores`` [B] are the model's, ``totals`` [B] the sums. They agree up to rounding where the network is
    piecewise linear: convolutions, batch norms in eval mode, ReLU, max pooling. They don't where it is not
    (GELU, SiLU, LayerNorm, attention, sigmoid gates), or where the model adds a tensor of its own.
    """

    scores: Scores
    totals: Scores

    @property
    def residuals(self) -> Scores:
        """What is missing, as a share of the score's magnitude [B]; 0 where both are 0."""
        missing: Tensor = (self.scores - self.totals).abs()
        return torch.where(missing == 0, missing, missing / self.scores.abs())

    @property
    def complete(self) -> Flags:
        """Whether no more is missing than rounding explains [B]: the root of the numbers' precision."""
        within: Tensor = self.residuals <= torch.finfo(self.scores.dtype).eps ** 0.5
        return within

    def describe(self) -> list[str]:
        """Say it in a line for each image."""
        pairs = zip(self.residuals.tolist(), self.complete.tolist(), strict=True)
        return [
            f"complete: the parts add up to the score within {residual:.1g} of it"
            if complete
            else f"not complete: the parts miss the score by {residual:.1g} of it; the model is not "
            "piecewise linear (GELU, SiLU, LayerNorm, attention, ...), or adds what is no layer's bias"
            for residual, complete in pairs
        ]


def completeness(
    model: nn.Module | Preparing, images: Any, *, target: TargetLike = None, batch_size: int | None = None
) -> Completeness:
    """Measure by how much the parts that ``fullgrad`` shows miss each image's score.

    ``model``, ``images``, ``target`` and ``batch_size`` as for ``explain``. Costs a forward and a backward.
    Source: Srinivas 2019, proposition 1.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; expected at least 1")
    module, inputs, _ = ready(model, images)
    whole, step = as_target(target, len(inputs)), batch_size or len(inputs)
    with explaining(module) as live:
        found = [
            score_and_parts(live, inputs.part(at, at + step), whole.part(at, at + step))
            for at in range(0, len(inputs), step)
        ]
    return Completeness(torch.cat([score for score, _ in found]), torch.cat([total for _, total in found]))
