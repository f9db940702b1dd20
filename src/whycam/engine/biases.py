"""A score as a sum of parts: input times gradient, and each bias times the gradient where it is added.

What adds a bias is seen as the call that it is (``conv2d``, ``linear``, ``batch_norm``, ...), so it counts
whichever module makes it, functional ones too, and as often as it runs. A tensor that a model adds by
itself, such as a position embedding, is not seen.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.engine.capture import gradients_to, hints_of, require_graph, wide
from whycam.engine.grid import read_layout
from whycam.engine.inputs import Inputs, copied
from whycam.types import Activations, Scores

Reduce: TypeAlias = Callable[[Activations], Tensor]
Part: TypeAlias = Callable[[Tensor, bool], Tensor | None]
"""Reduces a part as the model laid it out; true where its channels come last. None leaves the part out."""


def sum_of_parts(module: nn.Module, inputs: Inputs, target: Any, reduce: Reduce) -> Tensor:
    """Return the sum of what ``reduce`` makes of every part of the score that has a place, [B, ...].

    The parts are [B, C, *grid]: input times gradient first, then each bias times its gradient, as the
    backward comes by; none is kept. Biases of layers without a grid (a linear head's, those inside
    windows) are left out. ``reduce`` is called with one image at a time where a layer folds the batch.
    Costs one forward and one backward.
    """
    images, hints = inputs.images, hints_of(module)

    def spatial(part: Tensor, channels_last: bool) -> Tensor | None:
        placed = _on_grid(part, channels_last, images.shape[2:], hints)
        return None if placed is None else reduce(placed)

    return _summed(module, inputs, target, spatial)[1]


def score_and_parts(module: nn.Module, inputs: Inputs, target: Any) -> tuple[Scores, Scores]:
    """Return the scores [B], and the sum of all their parts [B], whether or not these have a place."""
    return _summed(module, inputs, target, lambda part, channels_last: part.flatten(1).sum(1))


def _on_grid(
    part: Tensor, channels_last: bool, size: Sequence[int], hints: Mapping[str, Any]
) -> Activations | None:
    """Return a part as [B, C, *grid], or None where it has no grid of more than one position."""
    if not channels_last:
        placed = part.ndim == len(size) + 2 and prod(part.shape[2:]) > 1
        return part if placed else None
    layout = read_layout(part.shape, size, channels=part.shape[-1], **hints) if part.ndim > 2 else None
    if layout is None or layout.order not in ("tokens", "channels-last") or prod(layout.grid) == 1:
        return None
    return layout.to_grid(part)


def _summed(module: nn.Module, inputs: Inputs, target: Any, reduce: Part) -> tuple[Scores, Tensor]:
    found = _of_batch(module, inputs, target, reduce)
    if found is None:  # what is of which image cannot be told in a folded batch
        rows = torch.arange(len(inputs), device=inputs.images.device)
        each = [
            _of_batch(module, inputs.select(row), target.select(row), reduce) for row in rows.unsqueeze(1)
        ]
        pairs = [pair for pair in each if pair is not None]
        return torch.cat([scores for scores, _ in pairs]), torch.cat([total for _, total in pairs])
    return found


def _of_batch(module: nn.Module, inputs: Inputs, target: Any, reduce: Part) -> tuple[Scores, Tensor] | None:
    """Run once forward and once back; None where a layer folds a batch of several images."""
    parts = _Parts(len(inputs), reduce)
    try:
        with torch.enable_grad():
            leaf = copied(inputs.images).detach().requires_grad_()
            with parts:
                outputs = inputs.run(module, leaf.clone())
            scores = target(outputs)
        if parts.folded and len(inputs) > 1:
            return None
        require_graph(scores)
        (gradient,) = gradients_to(scores, [leaf], keep=False)
    finally:
        parts.forget()
    slope = torch.zeros_like(leaf) if gradient is None else gradient
    parts.take(wide(slope) * wide(leaf.detach()), channels_last=False)
    return scores.detach(), parts.total


class _Parts(TorchFunctionMode):
    """Sees the calls that add a bias, and reduces bias times gradient as the backward comes by."""

    def __init__(self, batch: int, reduce: Part) -> None:
        super().__init__()
        self.batch = batch
        self.reduce = reduce
        self.total: Any = 0
        self.folded = False
        self.handles: list[Any] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Make the call, and watch what it gave if it added a bias."""
        output = func(*args, **(kwargs or {}))
        added = _added(func, args, kwargs or {})
        if added is not None and isinstance(output, Tensor) and output.requires_grad:
            self.folded |= len(output) != self.batch
            # before a later in-place operation: the gradient is that of what the call returned
            watch = self._watch(*added)
            self.handles.append(output.register_hook(watch))  # type: ignore[no-untyped-call]
        return output

    def _watch(self, bias: Tensor, channels_last: bool) -> Callable[[Tensor], None]:
        def seen(gradient: Tensor) -> None:
            trailing = 0 if channels_last else gradient.ndim - 2
            shaped = bias.reshape(*bias.shape, *[1] * trailing)
            self.take(wide(gradient.detach()) * wide(shaped), channels_last=channels_last)

        return seen

    def take(self, part: Tensor, *, channels_last: bool) -> None:
        """Add what the part is reduced to."""
        if len(part) != self.batch:  # folded: all of it is the one image's
            part, channels_last = part.reshape(1, -1), False
        reduced = self.reduce(part, channels_last)
        if reduced is not None:
            self.total = self.total + reduced

    def forget(self) -> None:
        """Take the hooks off: one that is left would keep the graph alive."""
        for handle in self.handles:
            handle.remove()


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if place < len(args) else kwargs.get(name)


def _added(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, bool] | None:
    """Return the bias that a call adds, and whether its axis comes last; None where it adds none."""
    bias, channels_last = None, False
    name = getattr(func, "__name__", "")
    if re.fullmatch(r"conv(_transpose)?[123]d", name):
        bias = _argument(args, kwargs, 2, "bias")
    elif name == "linear":
        bias, channels_last = _argument(args, kwargs, 2, "bias"), True
    elif name == "layer_norm":
        bias, channels_last = _argument(args, kwargs, 3, "bias"), True
    elif name == "group_norm":
        bias = _argument(args, kwargs, 3, "bias")
    elif func is F.batch_norm or func is F.instance_norm:
        bias = _norm_bias(func, args, kwargs)
    return None if bias is None else (bias.detach(), channels_last)


def _norm_bias(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return what a norm adds: with fixed statistics ``beta - mean gamma / sqrt(var + eps)``, else beta."""
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, gamma, beta = (
        _argument(args, kwargs, place, name) for place, name in enumerate(names, start=1)
    )
    fresh = "training" if func is F.batch_norm else "use_input_stats"
    of_this_batch = _argument(args, kwargs, 5, fresh)
    if of_this_batch is None:
        of_this_batch = func is F.instance_norm  # the functions' own defaults
    if of_this_batch or mean is None or variance is None:
        return None if beta is None else wide(beta)
    eps = _argument(args, kwargs, 7, "eps")
    scale = (wide(variance) + (1e-5 if eps is None else eps)).rsqrt()
    scale = scale if gamma is None else scale * wide(gamma)
    shift: Tensor = -wide(mean) * scale
    return shift if beta is None else shift + wide(beta)
