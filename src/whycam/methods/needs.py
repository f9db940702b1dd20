"""What a method may ask for: each name in ``NEEDS``, as the name of a parameter, is given to it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from whycam.types import Activations, Gradients, Images, Rows, Scores

Make: TypeAlias = Callable[[Rows], Tensor]
"""Makes some of the variants: takes their numbers [n], gives them [n, ...]."""

Into: TypeAlias = Callable[[Tensor, Rows], Images]
"""Turns points [n, ...] with the numbers [n] into images, differentiably."""


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


class Slope(NamedTuple):
    """A chunk of gradients: the variants' numbers [n], their scores [n], and d score / d point [n, ...]."""

    which: Rows
    scores: Scores
    gradients: Tensor


@runtime_checkable
class SlopesOf(Protocol):
    """Scores of changed images with their gradients, as many as wanted, a chunk at a time."""

    def __call__(self, rows: Rows, points: Make, *, into: Into | None = None) -> Iterator[Slope]:
        """Give the gradients with respect to N points [N, ...], chunk by chunk, in order.

        A point is an image, or whatever ``into`` turns into images; ``rows`` [N] says which image of the
        batch each is of. What is made of a chunk should be reduced at once: N images need not fit in memory.
        """
        ...


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
class Need:
    """What is given under a name. ``of_layer``: it is a layer's; without such, a method takes no layer.

    ``of_all_layers``: the method is called once for all layers, and its map is not fused.
    """

    meaning: str
    of_layer: bool = False
    of_all_layers: bool = False


NEEDS: Mapping[str, Need] = {
    "images": Need("the preprocessed batch [B, bands, *size]"),
    "scores": Need("what is explained, [B]"),
    "activations": Need("the layer's activations [B, C, *grid]", of_layer=True),
    "gradients": Need("the scores' gradients with respect to them", of_layer=True),
    "class_weights": Need("the weights of a GAP head for the target [B, C]", of_layer=True),
    "gradients_of": Need("images -> gradients at the layer", of_layer=True),
    "stages": Need("activations and gradients of all layers, shallow to deep", True, of_all_layers=True),
    "scores_of": Need("scores of changed images: ScoresOf"),
    "suffix_scores_of": Need("scores of changed activations: ScoresOf", of_layer=True),
    "slopes_of": Need("scores of changed images with gradients: SlopesOf"),
    "suffix_multipliers": Need("DeepLIFT's multipliers [B, C, *grid] from zeros to the layer", of_layer=True),
    "suffix_slopes_of": Need("scores of changed activations with gradients: SuffixSlopesOf", of_layer=True),
}
