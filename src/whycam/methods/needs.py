"""What a method may ask for: each name in ``NEEDS``, as the name of a parameter, is given to it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from whycam.types import Activations, Gradients, Images, Map, Rows, Rule, Scores, TokenFlags, TokenValues

Make: TypeAlias = Callable[[Rows], Tensor]
"""Makes some of the variants: takes their numbers [n], gives them [n, ...]."""

Into: TypeAlias = Callable[[Tensor, Rows], Images]
"""Turns points [n, ...] with the numbers [n] into images, differentiably."""

Penalty: TypeAlias = Callable[[Tensor, Rows], Scores]
"""Turns points [n, ...] with the numbers [n] into what is taken off their scores [n], differentiably."""


@runtime_checkable
class ScoresOf(Protocol):
    """Scores of changed images, or of changed activations, as many as wanted."""

    def __call__(self, rows: Rows, make: Make, *, known_as: str | None = None) -> Scores:
        """Return the scores [N] of N variants; ``rows`` [N] says which image of the batch each is of.

        ``make`` is called with the numbers of a chunk that fits into memory, and may be called again for
        the same; what it gives is read, not written to, and may be rewritten at its next call. Variants
        that don't depend on the target have a name, ``known_as``: several targets then share their forwards.
        """
        ...


@runtime_checkable
class SumOfParts(Protocol):
    """The score as a sum over parts: input times gradient, and each bias times its gradient."""

    def __call__(self, reduce: Callable[[Activations], Map]) -> Map:
        """Return the sum of what ``reduce`` makes of each part [b, C, *grid]; none of them is kept.

        ``reduce`` is given all images of the batch at once, or one after another.
        """
        ...


class Slope(NamedTuple):
    """A chunk of gradients: the variants' numbers [n], their scores [n], and d score / d point [n, ...]."""

    which: Rows
    scores: Scores
    gradients: Tensor


@runtime_checkable
class SlopesOf(Protocol):
    """Scores of changed images with their gradients, as many as wanted, a chunk at a time."""

    def __call__(
        self, rows: Rows, points: Make, *, into: Into | None = None, penalty: Penalty | None = None
    ) -> Iterator[Slope]:
        """Give the gradients with respect to N points [N, ...], chunk by chunk, in order.

        A point is an image, or whatever ``into`` turns into images; ``rows`` [N] says which image of the
        batch each is of. With a penalty, the gradients are those of score less penalty; the scores given
        are without it. What is made of a chunk should be reduced at once: N images need not fit in memory.
        """
        ...


SlopesByRule: TypeAlias = Callable[[Rule], SlopesOf]
"""Gives slopes whose gradients go back through ReLU-like activations by the rule of that name."""


@runtime_checkable
class SuffixSlopesOf(Protocol):
    """Scores of changed activations with their gradients, as many as wanted, a chunk at a time."""

    def __call__(self, rows: Rows, points: Make) -> Iterator[Slope]:
        """Give the gradients with respect to N points [N, C, *grid] at the layer, chunk by chunk, in order.

        ``rows`` [N] says which image of the batch each is of.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """One of several layers: its activations and the score's gradient with respect to them."""

    activations: Activations
    gradients: Gradients


@dataclass(frozen=True)
class Tokens:
    """Where an image's grid lies among N tokens, from ``first`` on, and which tokens the score reads.

    ``read`` [B, N] says on which rows of the last attention the score depends: a class token's where the head
    reads that, the grid's where it averages them. Their mean stands for the whole.
    """

    first: int
    grid: tuple[int, ...]
    read: TokenFlags

    def weights(self, dtype: torch.dtype) -> TokenValues:
        """Return the share [B, N] of each token's row: equal for all that are read, and 1 together."""
        read = self.read.to(dtype)
        return read / read.sum(1, keepdim=True)

    def on_grid(self, values: TokenValues) -> Map:
        """Return the tokens' values [B, N] on the grid, [B, *grid]; class and register tokens are dropped."""
        return values[:, self.first : self.first + prod(self.grid)].reshape(-1, *self.grid)


@dataclass(frozen=True)
class Need:
    """What is given under a name. ``of_layer``: it is a layer's; without such, a method takes no layer.

    ``of_all_layers``: the method is called once for all layers, and its map is not fused. ``of_attention``:
    it is the self-attentions', all of the model's. ``of_suffix``: it runs what follows the layer again.
    """

    meaning: str
    of_layer: bool = False
    of_all_layers: bool = False
    of_attention: bool = False
    of_suffix: bool = False


NEEDS: Mapping[str, Need] = {
    "images": Need("the preprocessed batch [B, bands, *size]"),
    "scores": Need("what is explained, [B]"),
    "activations": Need("the layer's activations [B, C, *grid]", of_layer=True),
    "gradients": Need("the scores' gradients at the layer [B, C, *grid]", of_layer=True),
    "hessian_product": Need("the scores' second derivatives times the activations", of_layer=True),
    "class_weights": Need("the weights of a GAP head for the target [B, C]", of_layer=True),
    "gradients_of": Need("images -> gradients at the layer", of_layer=True),
    "stages": Need("activations and gradients of all layers, shallow to deep", True, of_all_layers=True),
    "scores_of": Need("scores of changed images: ScoresOf"),
    "suffix_scores_of": Need("scores of changed activations: ScoresOf", of_layer=True, of_suffix=True),
    "slopes_of": Need("scores of changed images with gradients: SlopesOf"),
    "sum_of_parts": Need("the score's parts, from the input and each bias: SumOfParts"),
    "attentions": Need("each self-attention's probabilities [B, heads, N, N]", of_attention=True),
    "attention_gradients": Need(
        "the scores' gradients at each self-attention [B, heads, N, N]", of_attention=True
    ),
    "block_gradients": Need("such gradients, each of its own block's score, one by one", of_attention=True),
    "tokens": Need("where the grid is among N tokens, and which are read: Tokens", of_attention=True),
    "slopes_by_rule": Need("'guided' or 'deconvnet' -> a SlopesOf with that rule's gradients"),
    "suffix_multipliers": Need(
        "DeepLIFT's multipliers [B, C, *grid] from zeros to the layer", of_layer=True, of_suffix=True
    ),
    "suffix_slopes_of": Need(
        "scores of changed activations with gradients: SuffixSlopesOf", of_layer=True, of_suffix=True
    ),
}
