"""Scores of changed images or activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whycam.engine.inputs import Inputs
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


def variants_at_once(bytes_each: float, device: torch.device) -> int:
    """Return how many variants of so many bytes go through what follows a layer at once."""
    room = float(BYTES_AT_ONCE)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        room = SHARE_OF_MEMORY * (free + idle)
    return max(1, min(MOST_VARIANTS_AT_ONCE, int(room / max(1.0, bytes_each))))


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
