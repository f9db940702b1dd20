"""Run again only what follows a layer, for any number of variants of what the layer returned.

One forward records what the parts that precede the layer returned. After that, such a part hands back what
it returned instead of running, the layer returns the variants, and what follows runs for real. Whether that
is the same as a whole forward with the layer's output replaced is proven once for each model and layer, on
random variants; where it isn't, whole forwards are run, and a warning says so.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from whycam.engine.capture import CapturedLayer, is_out_of_memory, outputs_with, pick
from whycam.engine.inputs import Inputs, copied
from whycam.engine.nested import joined, mapped, row_of, tensors_in
from whycam.engine.recording import (
    Batched,
    Key,
    Leaf,
    Plan,
    Recording,
    hollow,
    known_plan,
    leaves_of,
    parts_by_path,
    recording_by,
    remember,
)
from whycam.engine.variants import chunk_size
from whycam.types import Activations, Rows

TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""How far outputs may differ between batch sizes, as a share of the largest, where nothing else is known."""
CHANGES = (1.0, 100.0)
"""How strongly the layer is changed in the proof; the second is for a layer with little influence."""


class _DivergedError(Exception):
    """The forward did not take the recorded way."""


class Suffix:
    """What follows a captured layer, for one batch. ``module`` comes from ``explaining``.

    ``recording`` comes from the forward that captured the layer; without one, a forward is run for it.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        layer: CapturedLayer,
        outputs: Any,
        recording: Recording | None = None,
    ) -> None:
        """Keep what is needed; nothing runs until the first call."""
        self.module, self.inputs, self.layer = module, inputs, layer
        self._outputs, self._recording = outputs, recording
        self._key = Key.of(layer.address, inputs.images)
        self._settled = False
        self._seen_running = False
        self._certain = True
        self.plan: Plan | None = None
        self.reason = ""
        """Why whole forwards are run; empty where they are not."""

    def __call__(self, rows: Rows, variants: Activations, *, grad: bool = False) -> Any:
        """Return the model's outputs with the layer's grid replaced by ``variants`` [n, C, *grid].

        ``rows`` [n] says which image of the batch each is of. With ``grad``, autograd leads from the outputs
        to the variants. The variants are not written to.
        """
        self.settle()
        if self.plan is None:
            return self.whole(rows, variants, grad=grad)
        try:
            return self._replayed(self.plan, rows, variants, grad)
        except Exception as error:  # a model may raise anything where it finds what it doesn't know
            if is_out_of_memory(error):
                raise
            found = self.whole(rows, variants, grad=grad)  # it may be the model's own error: raised again
            self._give_up(_first_line(error))
            return found

    def whole(self, rows: Rows, variants: Activations, *, grad: bool = False) -> Any:
        """Return the same from whole forwards, some variants at a time; with ``grad``, all at once."""
        step = max(1, len(rows)) if grad else chunk_size(self.inputs.images[0].numel())
        starts = range(0, len(rows), step)
        found = [
            outputs_with(
                self.module,
                self.inputs.select(rows[start : start + step]),
                self.layer,
                variants[start : start + step],
                grad=grad,
            )
            for start in starts
        ]
        return found[0] if len(found) == 1 else joined(found, [len(rows[s : s + step]) for s in starts])

    def settle(self) -> None:
        """Find out how the suffix is run: as known of the model, or by a proof."""
        if self._settled:
            return
        self._settled = True
        known = known_plan(self.module, self._key)
        if isinstance(known, str):
            self.reason = known
            return
        if known is not None and self._recorded(known):
            self.plan = known
            return
        try:
            plan = self._proven()
        except _DivergedError as error:
            plan = _first_line(error)
        if isinstance(plan, str):
            self._give_up(plan)
            return
        self.plan = plan
        if self._certain:
            remember(self.module, self._key, plan)

    def _give_up(self, reason: str) -> None:
        self.plan, self.reason = None, reason
        remember(self.module, self._key, reason)
        warnings.warn(
            f"what follows layer '{self.layer.address}' can't be run alone ({reason}); whole forwards are "
            "run instead: the maps are the same, and take longer",
            RuntimeWarning,
            stacklevel=2,
        )

    # --- recording

    def _recorded(self, plan: Plan) -> bool:
        """Have a recording that fits the plan; False where the model took another way."""
        if self._recording is None or not self._recording.finished:
            self._record(plan=plan)
        return self._recording is not None and self._recording.follows(plan)

    def _record(self, *, plan: Plan | None = None, copies_all: bool = False) -> None:
        address = self.layer.address
        self._recording = Recording(
            self.module, address.path, address.call or 1, plan=plan, copies_all=copies_all
        )
        with recording_by(self._recording), torch.no_grad():
            self.inputs.run(self.module, copied(self.inputs.images))

    def _full_recording(self) -> Recording:
        if self._recording is None or self._recording.plan is not None:
            self._record()
        if self._recording is not None and not self._recording.complete:
            self._record(copies_all=True)
        if self._recording is None or not self._recording.complete:
            raise _DivergedError("the layer was not reached again")
        return self._recording

    # --- the proof

    def _proven(self) -> Plan | str:
        """Return the plan that gives what whole forwards give, or why there is none."""
        recording = self._full_recording()
        probing = any(
            _guess(leaf, len(self.inputs)) is None for step in recording.steps for leaf in leaves_of(step)
        )
        strengths = list(CHANGES)
        while True:
            proof = _Proof(self, recording, strengths[0], probing)
            plan, reason = proof.plan()
            if plan is not None:
                self._certain = proof.certain
                return plan
            if not proof.moved and len(strengths) > 1:
                strengths.pop(0)
            elif probing or not proof.moved:
                return reason
            else:
                probing = True

    # --- the replay

    def _replayed(
        self,
        plan: Plan,
        rows: Rows,
        variants: Activations,
        grad: bool,
        watch: "_Watch | None" = None,
    ) -> Any:
        recording = self._recording
        if recording is None:
            raise _DivergedError("nothing was recorded")
        given = _Given(plan, rows, len(self.inputs), watch)
        images = given.again(plan.images, self.inputs.images, (-1, 0))
        inputs = self.inputs.select(rows, images)
        # A part may have been changed for one that works in place since the proof: the first run shows it.
        copies = plan.writes or grad or not self._seen_running
        handed = variants.clone() if copies else variants
        before = handed._version
        way = _Way(self.module, recording, given, self.layer, inputs, handed, watch)
        with torch.set_grad_enabled(grad), way.taken(), watch or nullcontext():
            outputs = inputs.run(self.module, images)
        way.check()
        if not grad:
            self._see_running(plan, handed._version != before, copies)
        return outputs

    def _see_running(self, plan: Plan, written: bool, copied: bool) -> None:
        """Remember whether the layer's output is written to: if so, variants are copied from now on."""
        if written and not copied:
            raise _DivergedError("the layer's output is written to, unlike before")
        if plan is self.plan and not self._seen_running:
            self._seen_running = True
            if written and not plan.writes:
                self.plan = replace(plan, writes=True)
                remember(self.module, self._key, self.plan)


class _Given:
    """Makes what was kept of a batch into what is given for some variants."""

    def __init__(self, plan: Plan, rows: Rows, batch: int, watch: "_Watch | None") -> None:
        self.plan, self.rows, self.batch, self.watch = plan, rows, batch, watch
        first = rows[:1]
        self.single = batch == 1 or bool((rows == first).all())
        self.places: dict[Batched, Rows] = {}

    def again(self, leaf: Leaf, value: Tensor, number: tuple[int, int]) -> Tensor:
        """Return what a kept tensor is for the variants: a view, a copy, or nothing but its shape."""
        found = self._found(leaf, value)
        if self.watch is not None:
            self.watch.give(found, number)
        return found

    def _found(self, leaf: Leaf, value: Tensor) -> Tensor:
        batched = leaf.batched
        if batched is None:
            return value.clone() if leaf.written else value
        if not leaf.read and value.is_floating_point():
            shape = list(value.shape)
            shape[batched.axis] = batched.each * len(self.rows)
            return hollow(value, tuple(shape))
        if self.single and not leaf.written and batched.each == 1:
            one = value if self.batch == 1 else value.index_select(batched.axis, self.rows[:1])
            shape = list(value.shape)
            shape[batched.axis] = len(self.rows)
            return one.expand(shape)
        if batched not in self.places:
            self.places[batched] = batched.rows_of(self.rows, self.batch)
        return value.index_select(batched.axis, self.places[batched])


class _Way:
    """The recorded order of calls, taken again: each part's ``forward`` is overridden for one forward."""

    def __init__(
        self,
        module: nn.Module,
        recording: Recording,
        given: _Given,
        layer: CapturedLayer,
        inputs: Inputs,
        variants: Tensor,
        watch: "_Watch | None",
    ) -> None:
        self.recording, self.given, self.layer = recording, given, layer
        self.inputs, self.variants, self.watch = inputs, variants, watch
        paths = parts_by_path(module)
        self.parts = {step.path: paths[step.path] for step in recording.steps if step.path in paths}
        self.thread = threading.get_ident()
        self.next = 0
        self.replaced = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Override the parts; put them back as they were at the end."""
        layer = self.parts[self.recording.steps[-1].path]
        handle = layer.register_forward_hook(self._replace)
        before = {part: part.__dict__.get("forward") for part in self.parts.values()}
        try:
            for path, part in self.parts.items():
                part.__dict__["forward"] = self._overriding(path, part.forward)
            yield
        finally:
            handle.remove()
            for part, forward in before.items():
                if forward is None:
                    part.__dict__.pop("forward", None)
                else:
                    part.__dict__["forward"] = forward

    def check(self) -> None:
        """Raise where the forward ended before the layer was reached."""
        if not self.replaced:
            raise _DivergedError("the layer was not reached again")

    def _overriding(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def overriding(*args: Any, **kwargs: Any) -> Any:
            steps = self.recording.steps
            if self.next == len(steps) or threading.get_ident() != self.thread:
                return forward(*args, **kwargs)
            number, step = self.next, steps[self.next]
            if step.path != path:
                raise _DivergedError(f"'{path}' was called where '{step.path}' was before")
            self.next += 1
            return forward(*args, **kwargs) if step.doing == "open" else self._again(number)

        return overriding

    def _again(self, number: int) -> Any:
        leaves = iter(enumerate(self.given.plan.leaves[number]))

        def again(value: Tensor) -> Tensor:
            place, leaf = next(leaves)
            return self.given.again(leaf, value, (number, place))

        return mapped(self.recording.steps[number].output, again)

    def _replace(self, part: nn.Module, inputs: Any, output: Any) -> Any:
        if self.replaced or self.next < len(self.recording.steps) or threading.get_ident() != self.thread:
            return output
        self.replaced = True
        value, put = pick(output, self.layer.address.path, self.inputs.images)
        changed = self.layer.layout.from_grid(self.variants.to(value.dtype), like=value)
        if self.watch is not None:
            self.watch.after(changed, self.variants)
        return put(changed)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees which of the tensors that are given again are read or written to, and how wide the rest is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.leaves: dict[int, tuple[int, int]] = {}
        self.alive: list[Tensor] = []  # else a storage's address might be another's later
        self.read: set[tuple[int, int]] = set()
        self.written: set[tuple[int, int]] = set()
        self.variants: int | None = None
        self.reached = False
        self.writes = False
        self.widest = 0
        self.total = 0

    def give(self, leaf: Tensor, number: tuple[int, int]) -> None:
        """Watch a tensor that is given again."""
        self.alive.append(leaf)
        self.leaves[leaf.untyped_storage()._cdata] = number

    def after(self, layer: Tensor, variants: Tensor) -> None:
        """Take note of what the layer returned: what comes now follows it."""
        self.variants = variants.untyped_storage()._cdata
        self.reached = True
        self.widest = self.total = layer.numel() * layer.element_size()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, taken = kwargs or {}, set()
        for number, argument in enumerate(func._schema.arguments):
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            for tensor in tensors_in(value):
                taken.add(tensor.untyped_storage()._cdata)
                self._seen(tensor, argument.alias_info is not None and argument.alias_info.is_write)
        found = func(*args, **kwargs)
        if self.reached:
            for tensor in tensors_in(found):
                if tensor.untyped_storage()._cdata in taken:
                    continue  # a view, of weights even
                size = tensor.numel() * tensor.element_size()
                self.widest = max(self.widest, size)
                self.total += size
        return found

    def _seen(self, tensor: Tensor, written: bool) -> None:
        storage = tensor.untyped_storage()._cdata
        if storage == self.variants:
            self.writes |= written
        leaf = self.leaves.get(storage)
        if leaf is not None:
            self.read.add(leaf)
            if written:
                self.written.add(leaf)

    def passed_out(self, outputs: Any) -> None:
        """Count what the model returned as read."""
        for tensor in tensors_in(outputs):
            self._seen(tensor, False)


class _Proof:
    """Random variants, unchanged ones beside them: run alone they must give what whole forwards give.

    ``probing`` records a second batch of another size, to see where each kept tensor has its images.
    """

    def __init__(self, suffix: Suffix, recording: Recording, strength: float, probing: bool) -> None:
        self.suffix, self.recording, self.probing = suffix, recording, probing
        self.batch = len(suffix.inputs)
        self.clean = suffix.layer.activations()
        self.changed = _shaken(self.clean, strength)
        self.moved = False
        self.certain = True
        """Whether a plan holds for other images too: folded rows of plain pictures tell no order."""
        self._probe: Recording | None = None

    def plan(self) -> tuple[Plan | None, str]:
        """Return the plan that was proven, or why there is none."""
        try:
            return self._tried()
        except Exception as error:  # a model may raise anything where it finds what it doesn't know
            if is_out_of_memory(error):
                raise
            self.moved = True
            return None, _first_line(error)

    def _tried(self) -> tuple[Plan | None, str]:
        reference = self._reference()
        batched = self._batched()
        rows, changed = self._rows()
        variants = torch.where(
            changed.view(-1, *[1] * (self.clean.ndim - 1)), self.changed[rows], self.clean[rows]
        )
        watch = _Watch()
        everything = Plan(
            tuple((step.path, step.doing) for step in self.recording.steps),
            tuple(tuple(Leaf(one) for one in each) for each in batched),
            Leaf(Batched()),
            True,
            0.0,
            0.0,
        )
        suffix = self.suffix
        first = suffix._replayed(everything, rows, variants, False, watch)
        watch.passed_out(first)
        plan = _with_what_was_seen(everything, watch, len(rows))
        found = suffix._replayed(plan, rows, variants.clone(), False)
        wrong, self.moved = self._compared(found, reference, rows, changed, 0.0)
        if wrong:
            whole = suffix.whole(rows, variants)
            noise = self._distance(whole, reference, rows, changed)
            wrong, self.moved = self._compared(found, reference, rows, changed, noise)
        return (None, wrong) if wrong else (plan, "")

    def _reference(self) -> Any:
        """Run the whole model on one changed image; on two where a second batch size must be seen."""
        several = self.probing and self.batch == 1
        device = self.clean.device
        self.reference_rows = torch.zeros(1 + several, dtype=torch.long, device=device)
        suffix = self.suffix
        address = suffix.layer.address
        if self.probing:
            self._probe = Recording(suffix.module, address.path, address.call or 1, copies_all=True)
        with recording_by(self._probe) if self._probe else nullcontext():
            return suffix.whole(self.reference_rows, self.changed[self.reference_rows])

    def _rows(self) -> tuple[Rows, Tensor]:
        """Return the rows of the variants, another number than the batch, and which are changed."""
        rows = [0, self.batch - 1, 0] if self.batch <= 2 else [0, self.batch - 1]
        if self.batch == 1 and not self.probing:
            rows = [0, 0]
        device = self.clean.device
        return torch.tensor(rows, device=device), torch.arange(len(rows), device=device) == 0

    def _batched(self) -> list[list[Batched | None]]:
        if self._probe is None:
            return [[_guess(leaf, self.batch) for leaf in leaves_of(step)] for step in self.recording.steps]
        if [s.path for s in self._probe.steps] != [s.path for s in self.recording.steps]:
            raise _DivergedError("another batch size takes another way")
        pairs = zip(self.recording.steps, self._probe.steps, strict=True)
        return [
            [self._read(leaf, other) for leaf, other in zip(leaves_of(step), leaves_of(second), strict=True)]
            for step, second in pairs
        ]

    def _read(self, leaf: Tensor, other: Tensor) -> Batched | None:
        batched, certain = _read_batched(leaf, self.batch, other, len(self.reference_rows))
        self.certain &= certain
        return batched

    def _compared(
        self, found: Any, reference: Any, rows: Rows, changed: Tensor, noise: float
    ) -> tuple[str, bool]:
        error = self._distance(found, reference, rows, changed)
        size = len(self.reference_rows)
        still = row_of(self.suffix._outputs, self.batch, 0)
        moved = _difference(row_of(reference, size, 0), still)
        if not moved > 10 * max(error, 1e-30):
            if not error <= max(self._tolerance(), 4 * noise):
                return f"its outputs differ from a whole forward's by {error:.1g} of the largest", True
            return "a change of the layer hardly moves the outputs, so that nothing can be proven", False
        if not error <= max(self._tolerance(), 4 * noise):
            return f"its outputs differ from a whole forward's by {error:.1g} of the largest", True
        return "", True

    def _distance(self, found: Any, reference: Any, rows: Rows, changed: Tensor) -> float:
        """Return the largest error of any variant, as a share of the outputs' largest value."""
        errors = []
        for number, (row, is_changed) in enumerate(zip(rows.tolist(), changed.tolist(), strict=True)):
            if is_changed:
                expected = row_of(reference, len(self.reference_rows), 0)
            else:
                expected = row_of(self.suffix._outputs, self.batch, row)
            errors.append(_difference(row_of(found, len(rows), number), expected))
        return max(errors)

    def _tolerance(self) -> float:
        key = self.suffix._key
        dtypes = {self.suffix.layer.node.dtype, key.autocast or key.dtype, key.dtype}
        return max(TOLERANCES.get(dtype, 0.0) for dtype in dtypes)


def _shaken(clean: Activations, strength: float) -> Activations:
    """Add noise as strong as the activations themselves, times ``strength``."""
    generator = torch.Generator(clean.device).manual_seed(0)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    size = clean.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (clean.ndim - 1))
    return clean + strength * torch.where(size > 0, size, 1.0) * noise


def _guess(leaf: Tensor, batch: int) -> Batched | None:
    """Take the first axis for the images where it counts them."""
    return Batched() if leaf.ndim and len(leaf) == batch else None


def _read_batched(one: Tensor, batch: int, other: Tensor, size: int) -> tuple[Batched | None, bool]:
    """Find the images in a tensor that was kept of two batches: of ``batch`` and of ``size`` images.

    Says too whether its values leave no doubt.
    """
    if one.shape == other.shape:
        return None, True
    axes = [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]
    axis = axes[0]
    each, left = divmod(one.shape[axis], batch)
    if len(axes) != 1 or left or other.shape[axis] != each * size:
        raise _DivergedError("a tensor before the layer grows with the batch in no simple way")
    ways = [Batched(axis, each, True), Batched(axis, each, False)]
    rows = torch.zeros(size, dtype=torch.long, device=one.device)

    def misfit(way: Batched) -> float:
        return _difference([one.index_select(axis, way.rows_of(rows, batch)).float()], [other.float()])

    misfits = [misfit(way) for way in ways]
    return ways[misfits.index(min(misfits))], each == 1 or misfits[0] != misfits[1]


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference as a share of the largest value; infinite where shapes differ."""
    if len(found) != len(expected) or not expected:
        return torch.inf
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            return torch.inf
        wide, reference = one.detach().double(), other.detach().double()
        finite = reference.isfinite()
        if not bool((wide.isfinite() == finite).all()):
            return torch.inf
        if not bool(finite.any()):
            continue
        largest = float(reference[finite].abs().max())
        error = float((wide - reference)[finite].abs().max())
        worst = max(worst, error / largest if largest > 0 else (0.0 if error == 0 else torch.inf))
    return worst


def _with_what_was_seen(plan: Plan, watch: _Watch, count: int) -> Plan:
    def seen(leaf: Leaf, number: tuple[int, int]) -> Leaf:
        return replace(leaf, read=number in watch.read, written=number in watch.written)

    leaves = tuple(
        tuple(seen(leaf, (step, place)) for place, leaf in enumerate(each))
        for step, each in enumerate(plan.leaves)
    )
    return replace(
        plan,
        leaves=leaves,
        images=seen(plan.images, (-1, 0)),
        writes=watch.writes,
        widest=watch.widest / count,
        total=watch.total / count,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:160] or type(error).__name__
