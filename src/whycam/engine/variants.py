"""Scores of changed images or activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whycam.engine.inputs import Inputs
from whycam.engine.suffix import Suffix
from whycam.errors import EngineError
from whycam.types import Images, Rows, Scores

Result = TypeVar("Result")
Make = Callable[[Rows], Tensor]

VALUES_AT_ONCE = 2**22
"""Input values in a first chunk: 27 images of 3 x 224 x 224."""
MOST_AT_ONCE = 256


def chunk_size(values: int, *, share: float = 1.0) -> int:
    """Return how many inputs of so many values go through a model at once; ``share`` of the usual."""
    return max(1, min(MOST_AT_ONCE, int(share * VALUES_AT_ONCE) // max(1, values)))


BYTES_AT_ONCE = 2**26
"""Bytes that the widest tensor after a layer may take in a chunk, on a processor."""
SHARE_OF_MEMORY = 0.25
"""Share of a device's free memory for it."""
MOST_VARIANTS_AT_ONCE = 4096


def suffix_chunk_size(suffix: Suffix, device: torch.device, *, grad: bool = False) -> int:
    """Return how many variants go through what follows a layer at once.

    What counts is the widest tensor after the layer; with ``grad``, all of them, since autograd keeps them.
    """
    suffix.settle()
    if suffix.plan is None:
        return chunk_size(suffix.inputs.images[0].numel(), share=0.25 if grad else 1.0)
    room = float(BYTES_AT_ONCE)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        room = SHARE_OF_MEMORY * (free + idle)
    each = 0.25 * suffix.plan.total if grad else suffix.plan.widest
    return max(1, min(MOST_VARIANTS_AT_ONCE, int(room / max(1.0, each))))


def in_chunks(
    count: int, size: int, run: Callable[[Rows], Result], device: torch.device
) -> Iterator[tuple[Rows, Result]]:
    """Give what ``run`` makes of the numbers 0 to ``count``, ``size`` at a time; fewer where memory ends."""
    start = 0
    while start < count:
        which = torch.arange(start, min(count, start + size), device=device)
        try:
            result = run(which)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if len(which) == 1 or not is_out_of_memory(error):
                raise
            size = ceil(len(which) / 2)
            continue
        yield which, result
        start += len(which)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out; PyTorch's allocator on a processor raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def scores_of_images(
    module: nn.Module, inputs: Inputs, targets: Sequence[Any], rows: Rows, make: Make
) -> Tensor:
    """Return each target's scores [T, N] of N changed images; no autograd.

    ``rows`` [N] says which image of the batch each variant is of. ``module`` comes from ``explaining``.
    """

    def run(which: Rows) -> Tensor:
        at = rows[which]
        with torch.no_grad():
            outputs = inputs.select(at).run(module, make(which).clone())
            return torch.stack([target.select(at)(outputs).detach() for target in targets])

    size = chunk_size(inputs.images[0].numel())
    return torch.cat([found for _, found in in_chunks(len(rows), size, run, rows.device)], 1)


def scores_of_activations(suffix: Suffix, targets: Sequence[Any], rows: Rows, make: Make) -> Tensor:
    """Return each target's scores [T, N] with the layer's grid replaced by N variants [n, C, *grid].

    A score that is not finite is asked for again by a whole forward: there a number may have been read that
    the suffix has not.
    """

    def run(which: Rows, *, whole: bool = False) -> Tensor:
        at = rows[which]
        outputs = (suffix.whole if whole else suffix)(at, make(which))
        return torch.stack([target.select(at)(outputs).detach() for target in targets])

    size = suffix_chunk_size(suffix, rows.device)
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

    size = suffix_chunk_size(suffix, rows.device, grad=True)
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


def slopes_of_images(
    module: nn.Module,
    inputs: Inputs,
    target: Any,
    rows: Rows,
    points: Make,
    into: Callable[[Tensor, Rows], Images] | None,
) -> Iterator[tuple[Rows, Scores, Tensor]]:
    """Give (numbers, scores, d score / d point) of N points chunk by chunk; no parameter's gradient."""

    def run(which: Rows) -> tuple[Scores, Tensor]:
        at = rows[which]
        with torch.enable_grad():
            leaf = points(which).detach().clone().requires_grad_()
            images = leaf.clone() if into is None else into(leaf, which)
            scores = target.select(at)(inputs.select(at).run(module, images))
        (found,) = torch.autograd.grad(scores.sum(), leaf)
        return scores.detach(), found

    size = chunk_size(inputs.images[0].numel(), share=0.25)
    for which, (scores, found) in in_chunks(len(rows), size, run, rows.device):
        yield which, scores, found
