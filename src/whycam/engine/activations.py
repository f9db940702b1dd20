"""Scores of changed activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from whycam.engine.suffix import Suffix
from whycam.engine.variants import Make, chunk_size, in_chunks, variants_at_once
from whycam.errors import EngineError
from whycam.types import Rows, Scores


def at_once(suffix: Suffix, device: torch.device, *, grad: bool = False) -> int:
    """Return how many variants go through what follows a layer at once.

    What counts is the widest tensor after the layer; with ``grad``, all of them, since autograd keeps them.
    """
    suffix.settle()
    if suffix.plan is None:
        return chunk_size(suffix.inputs.images[0].numel(), share=0.25 if grad else 1.0)
    return variants_at_once(0.25 * suffix.plan.total if grad else suffix.plan.widest, device)


def scores_of_activations(suffix: Suffix, targets: Sequence[Any], rows: Rows, make: Make) -> Tensor:
    """Return each target's scores [T, N] with the layer's grid replaced by N variants [n, C, *grid].

    A score that is not finite is asked for again by a whole forward: there a number may have been read that
    the suffix has not.
    """

    def run(which: Rows, *, whole: bool = False) -> Tensor:
        at = rows[which]
        outputs = (suffix.whole if whole else suffix)(at, make(which))
        return torch.stack([target.select(at)(outputs).detach() for target in targets])

    if not len(rows):
        return torch.zeros(len(targets), 0, device=rows.device)
    size = at_once(suffix, rows.device)
    scores = torch.cat([found for _, found in in_chunks(len(rows), size, run, rows.device)], 1)
    lost = (~scores.isfinite().all(0)).nonzero().flatten()
    if len(lost) and suffix.plan is not None:
        size = chunk_size(suffix.inputs.images[0].numel())
        for start in range(0, len(lost), size):
            part = lost[start : start + size]
            scores[:, part] = run(part, whole=True)
    return scores


def slopes_of_activations(
    suffix: Suffix, target: Any, rows: Rows, points: Make
) -> Iterator[tuple[Rows, Scores, Tensor]]:
    """Give (numbers, scores, d score / d point) of N points [n, C, *grid] at the layer, chunk by chunk."""

    def run(which: Rows) -> tuple[Scores, Tensor]:
        at = rows[which]
        leaf = points(which).detach().clone().requires_grad_()
        with torch.enable_grad():
            scores = target.select(at)(suffix(at, leaf, grad=True))
            total = scores.sum()
        return scores.detach(), gradient_of(total, leaf)

    size = at_once(suffix, rows.device, grad=True)
    for which, (scores, found) in in_chunks(len(rows), size, run, rows.device):
        yield which, scores, found


def gradient_of(total: Tensor, leaf: Tensor) -> Tensor:
    """Return d total / d leaf; zeros where the leaf plays no part. Raises EngineError without a graph."""
    if not total.requires_grad:
        raise EngineError(
            "the scores don't depend on the layer through differentiable operations; the model or "
            "the target detaches them (no_grad, detach, argmax, numpy). Return scores that autograd "
            "can follow"
        )
    (found,) = torch.autograd.grad(total, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found
