"""Scores of changed images or activations, and their gradients, in chunks that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whycam.engine.capture import (
    CapturedLayer,
    backward_to,
    in_full,
    is_out_of_memory,
    outputs_with,
    run_on_a_copy,
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
SLOPES_SHARE = 0.3
"""Of that, what goes through at once with a graph: 8 images of 3 x 224 x 224."""


def chunk_size(values: int, *, share: float = 1.0) -> int:
    """Return how many inputs of so many values go through a model at once; ``share`` of the usual."""
    return max(1, min(MOST_AT_ONCE, int(share * VALUES_AT_ONCE) // max(1, values)))


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
            outputs = inputs.select(at).run(module, make(which).clone())
            return torch.stack([target.select(at)(outputs).detach() for target in targets])

    size = chunk_size(inputs.images[0].numel())
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
    into: Callable[[Tensor, Rows], Images] | None,
    rule: Rule | None = None,
) -> Iterator[tuple[Rows, Scores, Tensor]]:
    """Give (numbers, scores, d score / d point) of N points chunk by chunk; no parameter's gradient.

    The gradients are in float32 or wider, and go back through the model's activations by ``rule``. Raises
    EngineError where autograd doesn't lead from the scores to the points.
    """

    def run(which: Rows) -> tuple[Scores, Tensor]:
        leaf = points(which).detach().clone().requires_grad_()
        some, scored = inputs.select(rows[which]), target.select(rows[which])

        def forward(copy: Images) -> Any:
            with backward_rule(module, rule):
                return some.run(module, copy)

        with torch.enable_grad():
            images = leaf if into is None else into(leaf, which)
            scores = scored(run_on_a_copy(module, images, forward))
        return scores.detach(), _slope(scores, leaf)

    size = chunk_size(inputs.images[0].numel(), share=SLOPES_SHARE)
    for which, (scores, found) in in_chunks(len(rows), size, _explained(module, run), rows.device):
        yield which, scores, found


def _slope(scores: Scores, leaf: Tensor) -> Tensor:
    found = backward_to([leaf], scores, once=True)[0] if scores.requires_grad else None
    if found is None:
        raise EngineError(
            "the scores don't depend on the images through differentiable operations; the model or the "
            "target detaches them (no_grad, detach, argmax, numpy). Return scores that autograd can follow"
        )
    return in_full(found)


def _explained(module: nn.Module, run: Callable[[Rows], Result]) -> Callable[[Rows], Result]:
    """Return ``run`` with the likely cause of its failure in a user's words."""

    def checked(which: Rows) -> Result:
        try:
            return run(which)
        except RuntimeError:
            check_parameters(module)
            raise

    return checked
