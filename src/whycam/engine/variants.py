"""Scores of changed images or activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whycam.engine.capture import (
    gradients_at,
    is_out_of_memory,
    run_on_a_copy,
    wide,
)
from whycam.engine.inputs import Inputs
from whycam.engine.rules import backward_rule
from whycam.engine.session import check_parameters
from whycam.errors import EngineError
from whycam.types import Images, Rows, Rule, Scores

Result = TypeVar("Result")
Make = Callable[[Rows], Tensor]

VALUES_AT_ONCE = 2**22
"""Input values in a first chunk: 27 images of 3 x 224 x 224."""
MOST_AT_ONCE = 256
VALUES_ON_A_PROCESSOR = 16 * 3 * 224 * 224
"""Input values in a chunk on a processor: of 8, 16 and 32 images of 224 x 224, 16 were within a tenth of the
fastest on ResNet-18 and ResNet-50, with one thread and with two."""
SLOPES_SHARE = 0.3
"""Of ``VALUES_AT_ONCE``, what goes through at once with a graph: 8 images of 3 x 224 x 224."""


def chunk_size(values: int, *, share: float = 1.0) -> int:
    """Return how many inputs of so many values go through a model at once; ``share`` of the usual."""
    return max(1, min(MOST_AT_ONCE, int(share * VALUES_AT_ONCE) // max(1, values)))


def images_at_once(images: Images, *, share: float = 1.0) -> int:
    """Return how many changed copies of these images go through a model at once."""
    values = images[0].numel()
    usual = chunk_size(values, share=share)
    on_a_processor = max(1, VALUES_ON_A_PROCESSOR // max(1, values))
    return min(usual, on_a_processor) if images.device.type == "cpu" else usual


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


def outputs_of(module: nn.Module, inputs: Inputs) -> Any:
    """Return what the model says of a batch; no autograd. ``module`` comes from ``explaining``."""
    with torch.no_grad():
        return run_on_a_copy(module, inputs.images, lambda copy: inputs.run(module, copy))


def slopes_of_images(
    module: nn.Module,
    inputs: Inputs,
    target: Any,
    rows: Rows,
    points: Make,
    into: Callable[[Tensor, Rows], Images] | None = None,
    penalty: Callable[[Tensor, Rows], Scores] | None = None,
    rule: Rule | None = None,
) -> Iterator[tuple[Rows, Scores, Tensor]]:
    """Give (numbers, scores, d (score - penalty) / d point) of N points chunk by chunk.

    No parameter's gradient is computed. ``penalty`` [n] is of the points, and not in the scores given. The
    gradients are in float32 or wider, and go back through the model's activations by ``rule``. Raises
    EngineError where autograd doesn't lead from the scores to the points.
    """

    def run(which: Rows) -> tuple[Scores, Tensor]:
        at = rows[which]
        with torch.enable_grad():
            leaf = points(which).detach().clone().requires_grad_()
            images = leaf if into is None else into(leaf, which)
            given = inputs.select(at, images)

            def forward(copy: Images) -> Any:
                with backward_rule(module, rule):
                    return given.run(module, copy)

            scores = target.select(at)(run_on_a_copy(module, images, forward))
            explained = scores if penalty is None else scores - penalty(leaf, which)
        return scores.detach(), _slope(explained, leaf)

    size = images_at_once(inputs.images, share=SLOPES_SHARE)
    for which, (scores, found) in in_chunks(len(rows), size, _explained(module, run), rows.device):
        yield which, scores, found


def _slope(scores: Scores, leaf: Tensor) -> Tensor:
    found = gradients_at(scores, [leaf], once=True)[0] if scores.requires_grad else None
    if found is None:
        raise EngineError(
            "the scores don't depend on the images through differentiable operations; the model or the "
            "target detaches them (no_grad, detach, argmax, numpy). Return scores that autograd can follow"
        )
    return wide(found)


def _explained(module: nn.Module, run: Callable[[Rows], Result]) -> Callable[[Rows], Result]:
    """Return ``run`` with the likely cause of its failure in a user's words."""

    def checked(which: Rows) -> Result:
        try:
            return run(which)
        except RuntimeError:
            check_parameters(module)
            raise

    return checked
