"""Methods that read a transformer's own attention: which tokens does what the score reads come from?

Every map is [B, *grid] on the grid of the image's tokens; the columns of class and register tokens are
dropped. The row that is read is the class token's where the head reads that, and the mean of all rows that it
reads otherwise (the grid's, for a model that averages its tokens): see ``Tokens``. A row times the blocks'
matrices from the last to the first is that row of their product, without the product.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.needs import Tokens
from whycam.types import Attention, Map

_FUSIONS: Mapping[str, Callable[[Attention], Tensor]] = {
    "mean": lambda attention: attention.mean(1),
    "max": lambda attention: attention.amax(1),
    "min": lambda attention: attention.amin(1),
}


def rollout(
    attentions: Sequence[Attention], tokens: Tokens, *, fusion: str = "mean", discard: float = 0.0
) -> Map:
    """Multiply ``(A + 1) / 2`` of all blocks, rows summing to 1. The class plays no part.

    The 1 is the identity: what passes a block beside its attention. Returns [B, *grid] >= 0. ``fusion``
    ("mean", "max" or "min") makes one matrix of a block's heads; known from practice, ``discard`` is the
    share of each image's entries, lowest first, that become 0 before the rows are normalised. Of the product
    the row is shown that the score reads: the class token's, or the mean of the grid's rows in a model that
    averages its tokens. Source: Abnar 2020, eq. 1 and section 4.
    """
    if fusion not in _FUSIONS:
        raise MethodError(f"fusion is {fusion!r}; expected one of {', '.join(_FUSIONS)}")
    if not 0 <= discard < 1:
        raise MethodError(f"discard is {discard}; expected a share from 0 to below 1")
    row = tokens.weights(attentions[0].dtype)
    for attention in reversed(attentions):
        matrix = _without_lowest(_FUSIONS[fusion](attention), discard)
        shared = row / (1 + matrix.sum(2))
        row = shared + _times(shared, matrix)
    return tokens.on_grid(row)


def attention_gradient(
    attentions: Sequence[Attention], attention_gradients: Sequence[Attention], tokens: Tokens
) -> Map:
    """Show the last block's attention by its positive gradient: ``mean_h relu(g A)``.

    Returns [B, *grid] >= 0: the row that the score reads, or the mean of the rows, see ``rollout``.
    Source: Barkan 2021, eq. 3 (Grad-SAM), of which it is the last block's term; the paper adds up all blocks.
    With A >= 0 it is also what Chefer 2021 (eq. 5) puts together over the blocks.
    """
    matrix = _relevant(attentions[-1], attention_gradients[-1])
    return tokens.on_grid(_times(tokens.weights(matrix.dtype), matrix))


def chefer(attentions: Sequence[Attention], attention_gradients: Sequence[Attention], tokens: Tokens) -> Map:
    """Add up ``R <- R + mean_h(relu(g A)) R`` from R = 1 over the blocks.

    Returns [B, *grid] >= 0: R's row that the score reads, or the mean of the rows, see ``rollout``.
    The 1 that R starts with is taken off at the end: it says nothing, and would paint every token that is
    read. It lies outside the grid for a class token, so that nothing changes there.
    Source: Chefer 2021 (Generic attention-model explainability), eq. 5-6.
    """
    start = tokens.weights(attentions[0].dtype)
    added = torch.zeros_like(start)
    for attention, gradient in zip(reversed(attentions), reversed(attention_gradients), strict=True):
        added = added + _times(start + added, _relevant(attention, gradient))
    return tokens.on_grid(added)


def legrad(block_gradients: Iterable[Attention], tokens: Tokens) -> Map:
    """Sum ``relu(g_l)`` over the blocks l, averaged over heads and rows.

    Returns [B, *grid] >= 0. ``g_l`` is the gradient at block l's attention of the score that the model's own
    tail (its last norm, pooling and head) makes of block l's output. The paper averages the blocks, which is
    the same map to a factor. Where the tail pools by attention (SigLIP), it is the model's own pooling that
    is run. Source: Bousselham 2024, eq. 6-10.
    """
    return tokens.on_grid(torch.stack([gradient.relu().mean((1, 2)) for gradient in block_gradients]).sum(0))


def _relevant(attention: Attention, gradient: Attention) -> Tensor:
    return (attention * gradient).relu().mean(1)


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    """Return [B, N] times [B, N, N]."""
    return torch.einsum("bi,bij->bj", row, matrix)


def _without_lowest(matrix: Tensor, share: float) -> Tensor:
    """Return [B, N, N] with the lowest share of each image's entries 0; of equal ones the first go."""
    entries = matrix.flatten(1)
    count = int(share * entries.shape[1])
    if not count:
        return matrix
    lowest = entries.argsort(dim=1, stable=True)[:, :count]
    return entries.scatter(1, lowest, 0).view_as(matrix)
