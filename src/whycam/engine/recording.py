"""What one forward had done when a layer was reached: a list to run the rest from, without doing it again."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whycam.engine.nested import is_plain, mapped, tensors_in
from whycam.types import Images, Rows

Doing = Literal["open", "done", "layer"]
"""What became of a part that was called before the layer's end: not over yet, returned, the layer itself."""


@dataclass(frozen=True)
class Batched:
    """Where a tensor keeps the images: along ``axis``, ``each`` rows an image (windows, folded patches).

    ``image_first``: an image's rows stand together; otherwise every ``batch``-th row is the same image's.
    """

    axis: int = 0
    each: int = 1
    image_first: bool = True

    def rows_of(self, rows: Rows, batch: int) -> Tensor:
        """Return the rows that hold these images of a batch."""
        inner = torch.arange(self.each, device=rows.device)
        if self.image_first:
            return (rows[:, None] * self.each + inner).flatten()
        return (inner[:, None] * batch + rows).flatten()


@dataclass(frozen=True)
class Leaf:
    """How a kept tensor is given again.

    ``batched`` is None where it doesn't grow with the batch. One that is not ``read`` only passes by, and one
    that is ``written`` to must not be a view of what is kept.
    """

    batched: Batched | None
    read: bool = True
    written: bool = True


@dataclass(frozen=True)
class Plan:
    """How what follows a layer is run alone, as it was proven on one batch. Holds no module and no tensor.

    ``leaves`` are the tensors of each step's output, in order; ``images`` are the model's input.
    ``widest`` and ``total`` are the bytes a variant takes after the layer: its largest tensor, and all.
    """

    steps: tuple[tuple[str, Doing], ...]
    leaves: tuple[tuple[Leaf, ...], ...]
    images: Leaf
    writes: bool
    widest: float
    total: float


@dataclass
class Step:
    """A part that was called: its path, what became of it, and what it returned, copied."""

    path: str
    doing: Doing = "open"
    output: Any = None
    kept: bool = False


@dataclass(frozen=True)
class Key:
    """What a plan is good for: one layer, one kind of input, one precision."""

    layer: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    single: bool
    autocast: torch.dtype | None

    @classmethod
    def of(cls, layer: object, images: Images) -> "Key":
        """Return the key of a layer's address and a batch, under the autocast that is on."""
        device = images.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return cls(str(layer), tuple(images.shape[1:]), images.dtype, device, len(images) == 1, autocast)


_plans: WeakKeyDictionary[nn.Module, dict[Key, "Plan | str"]] = WeakKeyDictionary()
"""What is known of each model: how a layer's rest is run alone, or why it can't be."""


def known_plan(module: nn.Module, key: Key) -> "Plan | str | None":
    """Return the plan, the reason why there is none, or None where nobody has looked yet."""
    return _plans.get(module, {}).get(key)


def remember(module: nn.Module, key: Key, plan: "Plan | str | None") -> None:
    """Keep what was found out; None forgets it."""
    plans = _plans.setdefault(module, {})
    if plan is None:
        plans.pop(key, None)
    else:
        plans[key] = plan


def parts_by_path(module: nn.Module) -> dict[str, nn.Module]:
    """Return the parts whose ``forward`` Python calls, each once; the model itself is left out."""
    return {
        path: part
        for path, part in module.named_modules()
        if path and not isinstance(part, torch.jit.ScriptModule)
    }


@dataclass
class Recording:
    """Hooks for one forward: what the parts that finished before the layer's call returned.

    Without a ``plan`` all parts are watched, and the output of each that may be the outermost one is copied;
    with ``copies_all`` of every one. With a plan, only what it reads is.
    """

    module: nn.Module
    path: str
    call: int
    plan: Plan | None = None
    copies_all: bool = False
    steps: list[Step] = field(default_factory=list)
    finished: bool = False

    def __post_init__(self) -> None:
        """Find the parts that contain the layer, and the ones to watch."""
        self._thread = threading.get_ident()
        self._layer = self.module.get_submodule(self.path)
        self._around = _ancestors(self.module, self._layer)
        parts = parts_by_path(self.module)
        if self.plan is not None:
            wanted = {path for path, _ in self.plan.steps}
            parts = {path: part for path, part in parts.items() if path in wanted or part is self._layer}
        self._parts = parts
        self.start()

    def start(self) -> None:
        """Forget what was recorded: the forward begins, perhaps again."""
        self.steps, self.finished = [], False
        self._stack: list[tuple[nn.Module, int]] = []
        self._calls = 0

    def install(self) -> Iterator[Any]:
        """Register the hooks, before the model's own ones; give their handles."""
        for path, part in self._parts.items():
            yield part.register_forward_pre_hook(self._begins(path), prepend=True)
            yield part.register_forward_hook(self._ends, prepend=True)

    @property
    def complete(self) -> bool:
        """Whether the layer was reached and all that must be given again was copied."""
        return self.finished and all(step.kept for step in self.steps if step.doing != "open")

    def _begins(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(part: nn.Module, inputs: Any) -> None:
            if not self.finished and threading.get_ident() == self._thread:
                self._stack.append((part, len(self.steps)))
                self.steps.append(Step(path))

        return hook

    def _ends(self, part: nn.Module, inputs: Any, output: Any) -> None:
        if self.finished or threading.get_ident() != self._thread:
            return
        while self._stack:
            opened, place = self._stack.pop()
            if opened is part:
                break
        else:
            return
        step = self.steps[place]
        if part is self._layer:
            self._calls += 1
            if self._calls == self.call:
                self.finished = True
        if not self.finished and not is_plain(output):
            return  # nobody knows how to give this again: the part runs, its own parts are given
        del self.steps[place + 1 :]
        step.doing = "layer" if self.finished else "done"
        if self.finished or self._may_be_outermost(place, step):
            step.output, step.kept = self._copy(place, output), True

    def _may_be_outermost(self, place: int, step: Step) -> bool:
        if self.plan is not None:
            return place < len(self.plan.steps) and self.plan.steps[place] == (step.path, "done")
        return self.copies_all or all(part in self._around for part, _ in self._stack)

    def _copy(self, place: int, output: Any) -> Any:
        leaves = self.plan.leaves[place] if self.plan is not None and place < len(self.plan.leaves) else None
        count = iter(range(2**31))

        def kept(value: Tensor) -> Tensor:
            number = next(count)
            passes = leaves is not None and number < len(leaves) and not leaves[number].read
            passes = passes and value.is_floating_point()
            return hollow(value) if passes else value.detach().clone()

        return mapped(output, kept)

    def follows(self, plan: Plan) -> bool:
        """Say whether the same parts were called in the same order, and returned as many tensors."""
        return self.finished and [(step.path, step.doing) for step in self.steps] == list(plan.steps)


def hollow(value: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a tensor of that shape that takes no memory; whoever reads it finds NaN."""
    nan = torch.full((), torch.nan, dtype=value.dtype, device=value.device)
    return nan.expand(tuple(value.shape) if shape is None else shape)


def _ancestors(module: nn.Module, layer: nn.Module) -> set[nn.Module]:
    """Return every part that contains the layer, under any of its names."""
    around = {module}
    for path, part in module.named_modules(remove_duplicate=False):
        if part is layer:
            names = path.split(".")
            around |= {module.get_submodule(".".join(names[:end])) for end in range(1, len(names))}
    return around


def leaves_of(step: Step) -> list[Tensor]:
    """Return the tensors of what a step's part returned, in order."""
    return list(tensors_in(step.output))


@contextmanager
def recording_by(recording: "Recording") -> Iterator[None]:
    """Record the forwards inside."""
    handles: list[Any] = []
    recording.start()
    try:
        handles.extend(recording.install())
        yield
    finally:
        for handle in handles:
            handle.remove()


def recordings_for(
    module: nn.Module, images: Images, layers: Sequence[Any]
) -> tuple["Recording | None", ...]:
    """Return what records a forward for each layer's suffix; None where that has been given up."""
    found: list[Recording | None] = []
    for layer in layers:
        known = known_plan(module, Key.of(layer, images))
        if isinstance(known, str):
            found.append(None)
        else:
            found.append(Recording(module, layer.path, layer.call or 1, plan=known))
    return tuple(found)
