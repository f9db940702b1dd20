"""Every self-attention over the image's positions in one forward, with autograd from each to the outputs.

What counts is seen in the run itself, not read off names: probabilities that depend on the image, over as
many tokens as the grid's positions and a few more. So a text tower and pooling by attention are left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from whycam.engine.capture import gradients_at, hints_of, queries_of, wide
from whycam.engine.grid import read_layout
from whycam.engine.inputs import Inputs, copied
from whycam.engine.opened import OpenedAttention, reopened
from whycam.engine.session import check_parameters
from whycam.errors import EngineError, MethodError
from whycam.types import Attention, Scores

ADVICE = "use a method that needs no attention, such as gradcam or layercam"
_places: WeakKeyDictionary[nn.Module, dict[Any, tuple[int, tuple[int, ...]]]] = WeakKeyDictionary()

LEAST_SPREAD = 0.25
"""How far apart the first and the last position must lie in the image, as a share of what the grid says."""


@dataclass(frozen=True, eq=False)
class _Block:
    """What holds one attention and none of the others, and what it returned."""

    part: nn.Module
    output: Any


@dataclass(frozen=True, eq=False)
class AttentionRun:
    """A forward with its attentions: ``nodes`` [B, heads, N, N] (or [B x heads, N, N]) in the order they ran.

    Of N tokens the grid's start at ``first``. ``blocks`` is None where attentions can't be told apart by the
    modules they ran in. The graph from the images to the outputs is alive.
    """

    module: nn.Module
    inputs: Inputs
    outputs: Any
    nodes: tuple[Tensor, ...]
    paths: tuple[str, ...]
    first: int
    grid: tuple[int, ...]
    blocks: tuple[_Block, ...] | None

    def describe(self) -> str:
        """Say in words which attentions were used."""
        count, cells = len(self.nodes), " x ".join(map(str, self.grid))
        which = self.paths[0] if count == 1 else f"{self.paths[0]} to {self.paths[-1]}"
        return f"{count} self-attention{'s' * (count > 1)} over a grid of {cells}: {which}"

    def attentions(self) -> tuple[Attention, ...]:
        """Return the probabilities [B, heads, N, N], in float32 or wider, without autograd."""
        return tuple(self._by_head(node.detach()) for node in self.nodes)

    def score(self, target: Any) -> Scores:
        """Return the target's scores [B] with autograd on."""
        return _scores(target, self.outputs)

    def gradients(self, scores: Scores) -> tuple[Attention, ...]:
        """Return d score / d probabilities, [B, heads, N, N] each; zeros where there is no influence."""
        return tuple(self._gradients(scores, self.nodes))

    def rows_read(self, scores: Scores) -> Tensor:
        """Return which tokens' rows of the last attention the score depends on, [B, N].

        A class token's own row where the head reads it, the grid's rows where it averages them, and so on.
        Where nothing is read, a saturated score, it is the first token before the grid, or the whole grid.
        """
        (last,) = self._gradients(scores, self.nodes[-1:])
        read = last.ne(0).any(3).any(1)
        usual = torch.zeros_like(read[0])
        if self.first:
            usual[0] = True
        else:
            usual[: prod(self.grid)] = True
        return torch.where(read.any(1, keepdim=True), read, usual)

    def block_gradients(self, target: Any) -> Iterator[Attention]:
        """Give, from shallow to deep, the gradients [B, heads, N, N] of each block's own score.

        A block's own score is the target's where what follows the last block is fed with this block's
        output. Blocks don't run again for it. Raises MethodError where the blocks can't be told apart.
        """
        if self.blocks is None and len(self.nodes) > 1:
            raise MethodError(
                f"the attentions {self.paths[0]} to {self.paths[-1]} don't each lie in a block that runs "
                "once, so no block has a score of its own; use chefer or attentiongradient"
            )
        for place, node in enumerate(self.nodes):
            last = place == len(self.nodes) - 1
            outputs = self.outputs if last else self._outputs_after(place)
            yield from self._gradients(_scores(target, outputs), (node,))

    def _gradients(self, scores: Scores, nodes: Sequence[Tensor]) -> Iterator[Attention]:
        if not scores.requires_grad:
            raise EngineError(
                "the scores don't depend on the attention through differentiable operations; the model or "
                "the target detaches them (no_grad, detach, argmax). Return scores that autograd can follow"
            )
        with reopened():
            found = gradients_at(scores, list(nodes))
        for node, gradient in zip(nodes, found, strict=True):
            yield self._by_head(torch.zeros_like(node) if gradient is None else gradient)

    def _by_head(self, values: Tensor) -> Attention:
        return wide(values.view(len(self.inputs), -1, *values.shape[1:]) if values.ndim == 3 else values)

    def _outputs_after(self, place: int) -> Any:
        """Return the outputs where the last block gives what the block at ``place`` gave."""
        assert self.blocks is not None
        answers = {block.part: block.output for block in self.blocks}
        answers[self.blocks[-1].part] = self.blocks[place].output
        with _answering(answers), torch.enable_grad():
            return self.inputs.run(self.module, copied(self.inputs.images))


def attend(module: nn.Module, inputs: Inputs) -> AttentionRun:
    """Run the model once with its attention opened; return what was seen.

    ``module`` comes from ``explaining``. Raises MethodError where there is no attention over the whole grid.
    """
    check_parameters(module)
    return _Watch(module, inputs).run()


def _scores(target: Any, outputs: Any) -> Scores:
    with torch.enable_grad():
        scores: Scores = target(outputs)
    return scores


@contextmanager
def _answering(answers: dict[nn.Module, Any]) -> Iterator[None]:
    """Let modules return given outputs and compute nothing, until the end."""
    missing = object()
    before = {part: vars(part).get("forward", missing) for part in answers}

    def answer(output: Any) -> Any:
        def forward(*inputs: Any, **named: Any) -> Any:
            torch.set_grad_enabled(True)  # as where the output was made
            return _kept(output)

        return forward

    try:
        for part, output in answers.items():
            part.forward = answer(output)
        yield
    finally:
        for part, forward in before.items():
            vars(part).pop("forward", None)
            if forward is not missing:
                vars(part)["forward"] = forward


def _kept(output: Any) -> Any:
    """Return a copy that keeps the graph, where it is a tensor: what follows may write into it."""
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(_kept(one) for one in output)
    return output


class _FromImages:
    """Says whether values were computed from the images, by the autograd graph."""

    def __init__(self, images: Tensor) -> None:
        self.known: dict[Node, bool] = {get_gradient_edge(images).node: True}

    def __call__(self, value: Tensor) -> bool:
        if not value.requires_grad:
            return False
        start = get_gradient_edge(value).node
        waiting = [start]
        while waiting:
            after = [node for node, _ in waiting[-1].next_functions if node is not None]
            unknown = [node for node in after if node not in self.known]
            if unknown:
                waiting.extend(unknown)
            else:
                self.known[waiting.pop()] = any(self.known[node] for node in after)
        return self.known[start]


@dataclass(frozen=True, eq=False)
class _Seen:
    """One softmax: what ran around it from the outside in, what it gave, and what it was given."""

    stack: tuple[str, ...]
    node: Tensor
    logits: Tensor | None

    @property
    def path(self) -> str:
        return self.stack[-1] if self.stack else "the model"

    @property
    def is_square(self) -> bool:
        return self.node.shape[-1] == self.node.shape[-2]


class _Watch:
    """One forward whose attention is watched; all hooks are gone after it."""

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self.module = module
        self.inputs = inputs
        self.pixels = copied(inputs.images).detach().requires_grad_()
        self.is_from_images = _FromImages(self.pixels)
        self.stack: list[str] = []
        self.around: set[str] = set()
        self.returned: dict[str, list[Any]] = {}
        self.seen: list[_Seen] = []

    def run(self) -> AttentionRun:
        outputs = self._forward()
        counted = self._counted()
        first, grid = self._place(counted[0])
        return AttentionRun(
            self.module,
            self.inputs,
            outputs,
            tuple(one.node for one in counted),
            tuple(one.path for one in counted),
            first,
            grid,
            self._blocks(counted),
        )

    def _forward(self) -> Any:
        handles: list[Any] = []
        try:
            for name, part in self.module.named_modules():
                if name and not isinstance(part, torch.jit.ScriptModule):
                    handles.append(part.register_forward_pre_hook(self._entering(name)))
                    handles.append(part.register_forward_hook(self._leaving(name)))
            with torch.enable_grad(), OpenedAttention(self._see):
                return self.inputs.run(self.module, self.pixels.clone())
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Any:
        def hook(part: nn.Module, inputs: Any) -> None:
            torch.set_grad_enabled(True)  # a frozen part of the model may have turned autograd off
            self.stack.append(name)

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            self.stack.pop()
            if name in self.around:
                self.returned.setdefault(name, []).append(_kept(output))

        return hook

    def _see(self, logits: Tensor, probabilities: Tensor) -> bool:
        """Note an attention of the image's; three axes that aren't square are no attention, but a gate."""
        rows, columns = probabilities.shape[-2:] if probabilities.ndim > 2 else (0, 0)
        gate = probabilities.ndim == 3 and rows != columns
        if columns < 2 or gate or not self.is_from_images(probabilities):
            return False
        # Logits tell where the tokens come from; those of the first attention of a length are enough.
        known = any(one.node.shape == probabilities.shape for one in self.seen)
        self.seen.append(_Seen(tuple(self.stack), probabilities, None if known else logits))
        self.around.update(self.stack)
        return True

    def _counted(self) -> list[_Seen]:
        """Return the attentions up to the last one over the image's grid; all of them must be over it."""
        if not self.seen:
            raise MethodError(
                "the model has no softmax attention that can be seen (a CNN, linear attention, or kernels "
                f"that can't be opened); {ADVICE}"
            )
        whole = [place for place, one in enumerate(self.seen) if self._layout(one) is not None]
        if not whole:
            raise _not_whole(self.seen[0], len(self.inputs))
        counted = self.seen[: whole[-1] + 1]
        tokens = counted[-1].node.shape[-2:]
        for one in counted:
            if self._layout(one) is None or one.node.shape[-2:] != tokens:
                raise _not_whole(one, len(self.inputs))
        return counted

    def _layout(self, one: _Seen) -> tuple[tuple[int, ...], int] | None:
        """Return the grid and the number of tokens beside it, or None for another kind of attention."""
        batch, tokens = len(self.inputs), one.node.shape[-1]
        rows = len(one.node)
        by_image = rows == batch if one.node.ndim == 4 else rows % batch == 0
        if one.node.ndim > 4 or not by_image or not one.is_square or tokens in queries_of(self.module):
            return None
        hints = hints_of(self.module)
        if "grid" in hints and prod(hints["grid"]) + hints.get("prefix", 0) != tokens:
            del hints["grid"]  # made for another size of the image
        layout = read_layout((batch, tokens, 1), self.inputs.images.shape[2:], channels=1, **hints)
        if layout is None or layout.channels != 1 or prod(layout.grid) < 2:
            return None
        return layout.grid, tokens - prod(layout.grid)

    def _place(self, one: _Seen) -> tuple[int, tuple[int, ...]]:
        """Return where the grid's tokens start and the grid; found once for a model and a size of images."""
        known = _places.setdefault(self.module, {})
        key = (one.path, one.node.shape[-1], tuple(self.pixels.shape[1:]))
        if key in known:
            return known[key]
        found, seen = self._found_place(one)
        if seen:  # other weights may be loaded into the same module later
            known[key] = found
        return found

    def _found_place(self, one: _Seen) -> tuple[tuple[int, tuple[int, ...]], bool]:
        """Find the place by gradients at the pixels, and say whether it was seen there or guessed.

        The tokens beside the grid may come before or after it.
        A token's attention to itself, before the softmax, depends on the pixels that the token was made of.
        Those of the grid's first and last token must lie apart as they do on the grid.
        """
        layout = self._layout(one)
        assert layout is not None
        assert one.logits is not None
        grid, beside = layout
        silent = True
        for first in range(beside, -1, -1):
            start = self._centre(one.logits[..., first, first])
            end = self._centre(one.logits[..., first + prod(grid) - 1, first + prod(grid) - 1])
            silent &= start is None and end is None
            if start is not None and end is not None and _spread_over(grid, start, end):
                return (first, grid), True
        if silent:  # attention that does not depend on what it attends to: there is nothing to see it by
            return (beside, grid), False
        raise _not_whole(one, len(self.inputs))

    def _centre(self, values: Tensor) -> Tensor | None:
        """Return where in the images the pixels are that the values depend on, 0 to 1 on each axis."""
        with reopened():
            (found,) = gradients_at(values.flatten(), [self.pixels])
        if found is None:
            return None
        energy = wide(found).abs().sum((0, 1))[..., None]
        total = energy.sum()
        if not total.isfinite() or total == 0:
            return None
        along = [energy.movedim(axis, 0).flatten(1).sum(1) for axis in range(energy.ndim - 1)]
        places = [(torch.arange(len(e), dtype=e.dtype, device=e.device) + 0.5) / len(e) for e in along]
        return torch.stack([(e * p).sum() / total for e, p in zip(along, places, strict=True)])

    def _blocks(self, counted: Sequence[_Seen]) -> tuple[_Block, ...] | None:
        """Return for each attention the outermost part that holds none of the others and ran once."""
        names = []
        for place, one in enumerate(counted):
            beside = (counted[at].stack for at in (place - 1, place + 1) if 0 <= at < len(counted))
            depth = max((_in_common(one.stack, other) for other in beside), default=0)
            if depth >= len(one.stack) or len(self.returned[one.stack[depth]]) > 1:
                return None
            names.append(one.stack[depth])
        return tuple(_Block(self.module.get_submodule(name), self.returned[name][0]) for name in names)


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((depth for depth, (a, b) in pairs if a != b), min(len(one), len(other)))


def _spread_over(grid: Sequence[int], start: Tensor, end: Tensor) -> bool:
    """Say whether two places in the image are apart as the grid's first and last position are."""
    expected = torch.tensor([1 - 1 / cells for cells in grid], dtype=start.dtype, device=start.device)
    return bool((end - start >= LEAST_SPREAD * expected).all())


def _not_whole(one: _Seen, batch: int) -> MethodError:
    return MethodError(
        f"the attention {one.path!r} gave {list(one.node.shape)} for {batch} image{'s' * (batch > 1)}: "
        "windows, reduced keys, several grids or something else than the image's positions, where every "
        f"block must attend over one grid of the whole image; {ADVICE}"
    )
