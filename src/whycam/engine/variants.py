"""Scores of changed images or activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whycam.engine.capture import CapturedLayer, outputs_with, run_on_a_copy
from whycam.engine.inputs import Inputs
from whycam.types import Images, Rows, Scores

Result = TypeVar("Result")
Make = Callable[[Rows], Tensor]

VALUES_AT_ONCE = 2**22
"""Input values in a first chunk: 27 images of 3 x 224 x 224."""
MOST_AT_ONCE = 256
VALUES_ON_A_PROCESSOR = 16 * 3 * 224 * 224
"""Input values in a chunk on a processor: of 8, 16 and 32 images of 224 x 224, 16 were within a tenth of the
fastest on ResNet-18 and ResNet-50, with one thread and with two."""


def chunk_size(values: int, *, share: float = 1.0) -> int:
    """Return how many inputs of so many values go through a model at once; ``share`` of the usual."""
    return max(1, min(MOST_AT_ONCE, int(share * VALUES_AT_ONCE) // max(1, values)))


def images_at_once(images: Images, *, share: float = 1.0) -> int:
    """Return how many changed copies of these images go through a model at once."""
    values = images[0].numel()
    usual = chunk_size(values, share=share)
    on_a_processor = max(1, VALUES_ON_A_PROCESSOR // max(1, values))
    return min(usual, on_a_processor) if images.device.type == "cpu" else usual


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
            images = make(which)
            given = inputs.select(at, images)
            outputs = run_on_a_copy(module, images, lambda copy: given.run(module, copy))
            return torch.stack([target.select(at)(outputs).detach() for target in targets])

    size = images_at_once(inputs.images)
    return torch.cat([found for _, found in in_chunks(len(rows), size, run, rows.device)], 1)


def scores_of_activations(
    module: nn.Module,
    inputs: Inputs,
    layer: CapturedLayer,
    targets: Sequence[Any],
    rows: Rows,
    make: Make,
) -> Tensor:
    """Return each target's scores [T, N] with the layer's grid replaced by N variants [n, C, *grid]."""

    def run(which: Rows) -> Tensor:
        at = rows[which]
        outputs = outputs_with(module, inputs.select(at), layer, make(which))
        return torch.stack([target.select(at)(outputs).detach() for target in targets])

    size = chunk_size(inputs.images[0].numel())
    return torch.cat([found for _, found in in_chunks(len(rows), size, run, rows.device)], 1)


def slopes_of_images(
    module: nn.Module,
    inputs: Inputs,
    target: Any,
    rows: Rows,
    points: Make,
    into: Callable[[Tensor, Rows], Images] | None = None,
    penalty: Callable[[Tensor, Rows], Scores] | None = None,
) -> Iterator[tuple[Rows, Scores, Tensor]]:
    """Give (numbers, scores, d (score - penalty) / d point) of N points chunk by chunk.

    No parameter's gradient is computed. ``penalty`` [n] is of the points, and not in the scores given.
    """

    def run(which: Rows) -> tuple[Scores, Tensor]:
        at = rows[which]
        with torch.enable_grad():
            leaf = points(which).detach().clone().requires_grad_()
            images = leaf if into is None else into(leaf, which)
            given = inputs.select(at, images)
            outputs = run_on_a_copy(module, images, lambda copy: given.run(module, copy))
            scores = target.select(at)(outputs)
            total = scores.sum() if penalty is None else scores.sum() - penalty(leaf, which).sum()
        (found,) = torch.autograd.grad(total, leaf)
        return scores.detach(), found

    size = images_at_once(inputs.images, share=0.3)
    for which, (scores, found) in in_chunks(len(rows), size, run, rows.device):
        yield which, scores, found
