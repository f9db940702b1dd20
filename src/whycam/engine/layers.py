"""Which layer to explain: found by tracing one forward, without a table of names.

A layer is fit when its output has a grid, when the top score's gradient reaches most of the grid's
positions, and when all that the model makes of the image passes through it. The last is a question to
the autograd graph: a layer lies on every path from the score to the image when the paths through it are
as many as all paths. Block outputs and their norms pass; queries, keys and branch interiors don't.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from whycam.engine.capture import HALF_SCALE, channels_of, hints_of, queries_of
from whycam.engine.grid import Layout, read_layout
from whycam.engine.inputs import Inputs
from whycam.engine.nested import grid_key, tensors_in
from whycam.engine.paths import earliest_uses, paths_between
from whycam.engine.session import check_parameters, explaining, plain, same_random_state
from whycam.errors import AbsentError, EngineError, LayerError
from whycam.types import Images

FEWEST_CHANNELS = 8
FEWEST_POSITIONS = 9
SHALLOWEST = 0.5
MERGED = (1, 2, 4)
LEAST_SUPPORT = 0.5
ANSWER_NAMES = (
    "logits",
    "scores",
    "logits_per_image",
    "class_queries_logits",
    "out",
    "image_embeds",
    "pooler_output",
)
"""Where outputs that go by name hold the answer; the first there is is taken."""


@dataclass(frozen=True)
class Candidate:
    """A layer that could be explained: where it is, what it gives, and what speaks against it.

    ``support`` is the share of the grid's positions that the top score's gradient reaches; ``trunk`` says
    whether everything the model makes of the image passes through; ``objection`` is empty for a fit one.
    """

    path: str
    layout: str
    grid: tuple[int, ...]
    channels: int
    support: float
    trunk: bool
    objection: str = ""


@dataclass(frozen=True)
class LayerChoice:
    """The layer to explain, why, and the runners-up from the deepest to the shallowest."""

    path: str
    layout: str
    grid: tuple[int, ...]
    reason: str
    candidates: tuple[Candidate, ...]


_cache: WeakKeyDictionary[nn.Module, dict[Any, LayerChoice]] = WeakKeyDictionary()


def choose_layer(model: nn.Module, inputs: Images | Inputs) -> LayerChoice:
    """Choose the layer to explain by tracing one forward of the first image [1, C, *size].

    Remembered by architecture and input size. Raises LayerError where no layer is fit.
    """
    with explaining(model) as module:
        return find_layer(module, Inputs.of(inputs))


def find_layer(module: nn.Module, inputs: Inputs) -> LayerChoice:
    """Do what ``choose_layer`` does for a module that ``explaining`` gave."""
    images = inputs.images
    remembered = _cache.setdefault(module, {})
    key = (_architecture(module), images.dtype, tuple(images.shape[1:]))
    if key in remembered:
        return remembered[key]
    with same_random_state():  # or the first explanation of a model that draws numbers would differ
        visits = _trace(module, inputs.part(0, 1))
    choice = _choose(visits, images.shape[2:])
    if any(visit.support for visit in visits):  # an untrained head may learn
        remembered[key] = choice
    return choice


def _architecture(module: nn.Module) -> int:
    """Return a number that changes when a part is replaced: by name, type and plain settings."""
    return hash(
        tuple(
            (name, type(part), *(v for v in vars(part).values() if type(v) in (int, tuple, str, float)))
            for name, part in module.named_modules()
        )
    )


@dataclass
class _Visit:
    """One call of a module in the traced forward; ``depth`` counts the learned layers that ran before.

    ``rooted`` tokens lie on a grid that the model has made of the image before; a detector's queries don't.
    ``finished`` is the number of the autograd operations that were recorded when the call ended, and
    ``passed_by`` says that some of them used its output already: what it returns is then not all that counts.
    """

    path: str
    call: int
    layout: Layout
    edge: GradientEdge
    parametrised: bool
    rooted: bool = True
    half: bool = False
    depth: int = 0
    finished: int = 0
    passed_by: bool = False
    calls: int = 1
    reached: Tensor | None = None
    support: float = 0.0
    trunk: bool = False
    merged: tuple[int, int] = (0, 0)

    @property
    def address(self) -> str:
        return self.path if self.calls == 1 else f"{self.path}#{self.call}"

    def see(self, gradient: Tensor) -> None:
        """Note the share of positions with any gradient, on the device."""
        self.reached = self.layout.to_grid(gradient).ne(0).any(1).float().mean()


def _trace(module: nn.Module, inputs: Inputs) -> list[_Visit]:
    """Run one forward with autograd on; return the calls whose output has a grid, in order."""
    check_parameters(module)
    images = inputs.images
    pixels = plain(images).detach().clone().requires_grad_()
    visits: list[_Visit] = []
    watched: list[Any] = []
    learned: list[str] = []
    calls: dict[str, int] = {}
    hints = hints_of(module)
    grids = {hints["grid"]} if "grid" in hints else set()
    queries = queries_of(module)

    def watch(path: str) -> Any:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            calls[path] = calls.get(path, 0) + 1
            parametrised = next(part.parameters(), None) is not None
            if parametrised and next(part.children(), None) is None:
                learned.append(path)
            key = grid_key(output, 1)
            value = output if key is None else output[key]
            if not _is_traceable(value) or _does_nothing(part, inputs, value):
                return
            told = channels_of(part)
            layout = read_layout(value.shape, images.shape[2:], channels=told, **hints)
            if layout is not None and prod(layout.grid) > 1:
                edge, half = get_gradient_edge(value), value.dtype == torch.float16
                rooted = _is_rooted(layout, grids, told) and not _is_of_queries(value, queries)
                if rooted:
                    grids.add(layout.grid)
                finished = _operations()
                visit = _Visit(
                    path, calls[path], layout, edge, parametrised, rooted, half, len(learned), finished
                )
                # Reduced as it passes by: to keep all gradients would take much memory.
                watched.append(value.register_hook(visit.see))
                visits.append(visit)

        return hook

    def record(part: nn.Module, inputs: Any) -> None:
        torch.set_grad_enabled(True)  # a frozen part of the model may have turned autograd off

    handles = []
    for name, part in module.named_modules():
        if name and not isinstance(part, torch.jit.ScriptModule):
            handles.append(part.register_forward_pre_hook(record))
            handles.append(part.register_forward_hook(watch(name)))
    try:
        with torch.enable_grad():
            outputs = inputs.run(module, pixels.clone())
            score = top_score(outputs, signal=images.ndim == 3)
        for visit in visits:
            visit.calls = calls[visit.path]
        _measure(visits, score, pixels)
    finally:
        for handle in (*handles, *watched):  # a hook left on the graph would keep it, and the weights, alive
            handle.remove()
    answer = _answer(outputs)
    if answer is None or answer.ndim < 4:
        return visits
    # A class's scores over all places are the answer, not what it was made of.
    return [v for v in visits if v.depth < len(learned) or v.layout.channels != answer.shape[1]]


def _operations() -> int:
    """Return how many operations autograd has recorded in this thread so far."""
    return get_gradient_edge(torch.zeros((), requires_grad=True) * 1).node._sequence_nr()


def _is_rooted(layout: Layout, grids: Iterable[tuple[int, ...]], told: int | None) -> bool:
    """Say whether tokens lie on one of the grids, or on one of them that was merged to a coarser one.

    ``told`` is the number of channels that the layer itself tells of; tokens that come last need it, or the
    channels of as many queries would pass for positions.
    """
    if layout.order in ("channels-first", "channels-last"):
        return True
    if layout.order == "tokens-last" and told != layout.channels:
        return False
    return any(
        all(
            cells in (fine // merged, ceil(fine / merged))
            for cells, fine in zip(layout.grid, grid, strict=True)
        )
        for grid in grids
        if len(grid) == len(layout.grid)
        for merged in MERGED
    )


def _is_of_queries(value: Tensor, queries: frozenset[int]) -> bool:
    """Say whether an output holds a vector for each query, or what the queries attend to in each other."""
    rows, columns = value.shape[-2:]
    return rows in queries if value.ndim == 3 else rows == columns and rows in queries


def _is_traceable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value.ndim >= 3 and len(value) == 1


def _does_nothing(part: nn.Module, inputs: Any, output: Tensor) -> bool:
    """Say whether a part without parameters gave back what it took: dropout, a pooling to the same grid."""
    taken = next((t for t in tensors_in(inputs) if t.shape == output.shape), None)
    if taken is None or taken is output or next(part.parameters(), None) is not None:
        return False
    return torch.equal(taken, output)


def top_score(outputs: Any, *, signal: bool) -> Tensor:
    """Return one number that speaks for the whole answer: the strongest class, over all places if many."""
    first = _answer(outputs)
    if first is None and any(t.is_floating_point() and not t.numel() for t in tensors_in(outputs)):
        raise AbsentError(
            "the model found nothing in this image, so there is no score that a layer could be chosen by; "
            "give an image with a detection, lower the model's threshold, or name the layer (layer=...)"
        )
    if first is None:
        raise EngineError(
            "the outputs don't depend on the image through differentiable operations; the model detaches "
            "them (no_grad, detach, argmax, numpy). Name the layer yourself (layer=...)"
        )
    if first.ndim <= 2:
        return first.max()
    if first.ndim == 3 and not signal:
        return first.mean(1).max()  # [B, queries or tokens, classes or features]
    return first.flatten(2).mean(2).max()  # [B, classes, *size]


def _answer(outputs: Any) -> Tensor | None:
    """Return the tensor that holds the model's answer, by its usual name or the first that is not empty."""
    one = outputs[0] if isinstance(outputs, list) and outputs else outputs  # a detector's first image
    named = [one[name] for name in ANSWER_NAMES if isinstance(one, dict) and name in one]
    return next(
        (t for t in tensors_in([*named, outputs]) if t.is_floating_point() and t.requires_grad and t.numel()),
        None,
    )


def _measure(visits: list[_Visit], score: Tensor, pixels: Tensor) -> None:
    """Fill in each visit's support, whether it is on the trunk, and how many paths meet in it."""
    if not visits:
        return
    # Half precision would lose a gradient spread over many positions; only where there is one counts here.
    half = any(visit.half for visit in visits)
    with torch.enable_grad():
        scaled = score * (HALF_SCALE if half else 1.0)
    torch.autograd.grad(scaled, pixels, retain_graph=True, allow_unused=True)
    paths = paths_between(score, pixels)
    earliest = earliest_uses(paths)
    none = score.new_zeros((), dtype=torch.float32)
    shares = torch.stack([none if visit.reached is None else visit.reached for visit in visits])
    for visit, share in zip(visits, shares.tolist(), strict=True):
        visit.support = share
        visit.trunk = paths.all_pass(visit.edge.node)
        visit.passed_by = earliest.get((visit.edge.node, visit.edge.output_nr), inf) < visit.finished
        visit.merged = (paths.to_image.get(visit.edge.node, 0), paths.from_score.get(visit.edge.node, 0))


@dataclass(frozen=True)
class _Group:
    """Calls that gave the same tensor: one layer under several names."""

    visits: tuple[_Visit, ...] = field(default_factory=tuple)

    @property
    def parametrised(self) -> bool:
        return any(visit.parametrised for visit in self.visits)

    @property
    def best(self) -> _Visit:
        """The name a reader knows: a part with parameters, the outermost, the first to finish.

        But none that its own output passes by, such as a backbone that pools it inside.
        """
        return min(
            self.visits, key=lambda v: (v.passed_by, not v.parametrised, v.path.count("."), v.calls > 1)
        )


def _groups(visits: Iterable[_Visit]) -> list[_Group]:
    by_edge: dict[tuple[Node, int], list[_Visit]] = {}
    for visit in visits:
        by_edge.setdefault((visit.edge.node, visit.edge.output_nr), []).append(visit)
    return [_Group(tuple(group)) for group in by_edge.values()]


def _objection(visit: _Visit) -> str:
    if visit.layout.channels < FEWEST_CHANNELS:
        return f"{visit.layout.channels} channels, fewer than {FEWEST_CHANNELS}"
    if visit.support <= LEAST_SUPPORT:
        return f"the score's gradient reaches {visit.support:.0%} of its positions"
    if prod(visit.layout.grid) < FEWEST_POSITIONS:
        return f"{prod(visit.layout.grid)} positions, fewer than {FEWEST_POSITIONS}"
    if not visit.rooted:
        return "its tokens lie on no grid that was made of the image: queries, say, or latents"
    if not visit.trunk:
        return "inside a branch: part of the evidence passes by it"
    return ""


def _candidate(visit: _Visit) -> Candidate:
    layout = visit.layout
    return Candidate(
        visit.address,
        layout.name,
        layout.grid,
        layout.channels,
        visit.support,
        visit.trunk,
        _objection(visit),
    )


def _choose(visits: list[_Visit], size: Sequence[int]) -> LayerChoice:
    groups = [group for group in _groups(visits) if group.best.layout.channels >= FEWEST_CHANNELS][::-1]
    if not groups:
        raise LayerError(
            f"no layer has a grid for an input of {list(size)}; the model may flatten the image at once. "
            "Explain it at pixel level, or name a layer (layer=...)"
        )
    # A model that cuts its patches out without a module has made no grid that could be seen.
    chosen, why = _pick([group for group in groups if group.best.rooted] or groups)
    best = chosen.best
    names = [visit.address for visit in chosen.visits if visit is not best]
    same = f"; the same tensor as {', '.join(names[:3])}" if names else ""
    grid = " x ".join(map(str, best.layout.grid))
    reason = (
        f"{why}; {best.layout.name}, grid {grid}, {best.layout.channels} channels; "
        f"the top score's gradient reaches {best.support:.0%} of its positions{same}"
    )
    candidates = tuple(_candidate(group.best) for group in groups)
    return LayerChoice(best.address, best.layout.name, best.layout.grid, reason, candidates)


def _pick(groups: list[_Group]) -> tuple[_Group, str]:
    """Return the deepest fit group, preferring parts with parameters, and say why."""
    fit = [group for group in groups if not _objection(group.best)]
    trunk = [group for group in groups if group.best.trunk]
    supported = [group for group in groups if group.best.support > LEAST_SUPPORT]
    large = [group for group in supported if prod(group.best.layout.grid) >= FEWEST_POSITIONS]
    # Where streams run side by side almost from the start, all evidence passes through the stem alone.
    deepest = max((group.best.depth for group in large), default=0)
    if fit and fit[0].best.depth >= SHALLOWEST * deepest:
        learned = next((group for group in fit if group.parametrised), fit[0])
        # An activation function after it belongs to it; a pooling to a coarser grid doesn't.
        same_grid = (group for group in fit if group.best.layout.grid == learned.best.layout.grid)
        return next(same_grid), "the deepest layer that all evidence passes through"
    if large and not any(
        group.best.trunk and group.best.depth >= SHALLOWEST * deepest for group in supported
    ):
        # Several streams: where most paths to the image have come together is the end of one.
        best = max(large, key=lambda group: group.best.merged)
        found = "only shallow layers carry all evidence" if trunk else "no layer carries all evidence"
        return best, f"{found}; in this one most of it has come together"
    for group in trunk:
        if group in supported:
            return group, "the deepest layer that all evidence passes through, though its grid is small"
    if supported:
        best = max(supported, key=lambda group: group.best.merged)
        return best, "no layer carries all evidence; in this one most of it has come together"
    if trunk and not any(group.best.support for group in groups):
        return trunk[
            0
        ], "the score's gradient is zero everywhere (an untrained head?): chosen by position alone"
    raise LayerError(
        "the top score's gradient reaches no layer with a grid at more than half of its positions; "
        "name a layer (layer=...)"
    )
