"""One forward, and a backward of what follows the layer: activations, gradients and outputs.

Up to the earliest captured layer the forward runs without autograd. The layer's hook turns autograd on
and hands the model a copy of a leaf that holds what the layer returned. So a backward costs what follows
the layer, no parameter's ``.grad`` is touched, and a frozen model is like any other.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from whycam.engine.grid import Layout, read_layout, require_layout
from whycam.engine.inputs import Inputs, copied
from whycam.engine.nested import grid_key, putting, tensors_in
from whycam.engine.recording import Recording, recording_by, recordings_for
from whycam.engine.session import check_parameters
from whycam.errors import EngineError, LayerError
from whycam.types import Activations, Gradients, Images, Scores

Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """A layer: its dotted path and, where it runs several times in a forward, which call (from 1)."""

    path: str
    call: int | None = None

    def __str__(self) -> str:
        """Return ``path`` or ``path#call``."""
        return self.path if self.call is None else f"{self.path}#{self.call}"


def address_of(module: nn.Module, layer: str | nn.Module) -> Address:
    """Turn a path (``layer4``, ``relu#2``) or a submodule into an address; raises LayerError."""
    if isinstance(layer, nn.Module):
        path = next((name for name, part in module.named_modules() if part is layer), None)
        if not path:
            what = "the model itself" if path == "" else "no part of the model"
            raise LayerError(
                f"the layer, a {type(layer).__name__}, is {what}; "
                "give one of the model's submodules or its dotted path (whycam layers MODEL lists them)"
            )
        return Address(path)
    path, _, call = layer.partition("#")
    if call and not (call.isdigit() and int(call) >= 1):
        raise LayerError(f"layer {layer!r}: {call!r} is no call number; write {path}#1 for the first call")
    while not _has(module, path) and path.startswith(("module.", "_orig_mod.")):
        path = path.partition(".")[2]  # the path as it was in a wrapper that has been taken off
    if not _has(module, path):
        known = dict(module.named_modules())
        raise LayerError(f"layer {layer!r} does not exist; {_nearest(path, known)} (whycam layers MODEL)")
    return Address(path, int(call) if call else None)


def _has(module: nn.Module, path: str) -> bool:
    try:
        return bool(path) and isinstance(module.get_submodule(path), nn.Module)
    except AttributeError:
        return False


def _nearest(path: str, known: dict[str, nn.Module]) -> str:
    import difflib

    near = difflib.get_close_matches(path, [name for name in known if name], n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    top = [name for name in known if name and "." not in name]
    return f"the model has {', '.join(top[:8])}{', ...' if len(top) > 8 else ''}"


@dataclass(frozen=True, eq=False)
class CapturedLayer:
    """What one layer returned, as a node of the autograd graph, with its layout.

    ``depth`` counts the captured layers that finished before it.
    """

    address: Address
    node: Tensor
    layout: Layout
    depth: int = 0

    def activations(self) -> Activations:
        """Return the activations [B, C, *grid] in float32 or wider, without autograd."""
        return wide(self.layout.to_grid(self.node.detach()))


@dataclass(frozen=True, eq=False)
class Capture:
    """One forward's outputs and captured layers; the graph after the layers is alive.

    ``recordings`` hold, for each layer, what is needed to run its suffix alone; empty where nobody asked.
    """

    outputs: Any
    layers: tuple[CapturedLayer, ...]
    recordings: tuple[Recording | None, ...] = ()

    def score(self, target: Callable[[Any], Scores]) -> Scores:
        """Return the target's scores [B] with autograd on."""
        with torch.enable_grad():
            return target(self.outputs)

    def gradients(self, scores: Scores) -> tuple[Gradients, ...]:
        """Return d score / d activations for each layer, [B, C, *grid], in float32 or wider.

        Can be called again with other scores of the same forward. Raises LayerError where a layer has no
        influence on the scores.
        """
        require_graph(scores)
        found = gradients_at(scores, [layer.node for layer in self.layers])
        return tuple(
            wide(layer.layout.to_grid(_require(gradient, layer)))
            for layer, gradient in zip(self.layers, found, strict=True)
        )


def require_graph(scores: Scores) -> None:
    """Raise EngineError for scores that autograd cannot go back from."""
    if not scores.requires_grad:
        raise EngineError(
            "the scores don't depend on the layer through differentiable operations; the model or "
            "the target detaches them (no_grad, detach, argmax, numpy). Return scores that autograd "
            "can follow"
        )


def _require(gradient: Tensor | None, layer: CapturedLayer) -> Tensor:
    if gradient is None:
        raise LayerError(
            f"layer '{layer.address}' does not influence the score; pick one that does (whycam layers MODEL)"
        )
    return gradient


def wide(values: Tensor) -> Tensor:
    """Return values in float32, or float64 where they are."""
    return values if values.dtype == torch.float64 else values.float()


HALF_SCALE = 4096.0
QUERY_COUNTS = ("num_queries", "num_latents", "num_detection_tokens")


def gradients_at(scores: Scores, nodes: list[Tensor], *, once: bool = False) -> list[Tensor | None]:
    """Return d scores / d nodes; in float16 from two backwards, of which one is scaled up.

    Spread over many positions, a gradient may be too small for float16 on its way back; scaled up, another
    may be too large. Where the scaled one is finite it is the better of the two. After ``once`` the graph
    is gone, and its memory with it.
    """
    half = _passes_float16([*nodes, scores])
    plain_ones = list(gradients_to(scores, nodes, keep=half or not once))
    if not half:
        return plain_ones
    return [
        None
        if small is None or scaled is None
        else torch.where(scaled.isfinite(), scaled / HALF_SCALE, small)
        for small, scaled in (
            (small if small is None else small.float(), scaled if scaled is None else scaled.float())
            for small, scaled in zip(
                plain_ones, gradients_to(scores, nodes, HALF_SCALE, keep=not once), strict=True
            )
        )
    ]


def _passes_float16(tensors: Sequence[Tensor]) -> bool:
    """Say whether a gradient between these goes through float16, their own or autocast's."""
    device = tensors[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return autocast or any(tensor.dtype == torch.float16 for tensor in tensors)


def gradients_to(
    scores: Scores, nodes: list[Tensor], scale: float = 1.0, *, keep: bool = True
) -> tuple[Tensor | None, ...]:
    """Return d scores / d nodes times ``scale``, None for a node without influence; ``keep`` the graph.

    Raises EngineError where autograd cannot go back.
    """
    try:
        with torch.enable_grad():
            total = (scores * scale).sum()  # a sum: given weights of its own, grad would import sympy first
        with torch.autocast(scores.device.type, enabled=False):  # each gradient has its forward's precision
            return torch.autograd.grad(total, nodes, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise EngineError(
            f"autograd can't go back from the scores: {reason}. Use checkpointing with "
            "use_reentrant=False, and no operation that refuses a gradient on the way to the output"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out; PyTorch's allocator on a processor raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def capture(
    module: nn.Module, inputs: Images | Inputs, layers: Sequence[Address], *, suffixes: bool = False
) -> Capture:
    """Run the model once and capture what the layers returned; without layers, the outputs alone.

    With ``suffixes``, what precedes each layer is recorded too. ``module`` comes from ``explaining``. Raises
    LayerError where a layer doesn't run, runs several times without a call number, or has no grid;
    EngineError where autograd can't reach the outputs.
    """
    given = Inputs.of(inputs)
    recordings = recordings_for(module, given.images, layers) if suffixes else ()
    recorder = _Recorder(module, given, layers, recordings)
    outputs = recorder.run(grad_before_the_layer=False)
    if not layers:
        return Capture(outputs, ())
    if recorder.interrupted or not _reaches(outputs):
        # The model turns autograd off around the layer; what follows it is only recorded if it was on before.
        outputs = recorder.run(grad_before_the_layer=True)
    return Capture(outputs, recorder.captured(), recordings)


def outputs_with(
    module: nn.Module,
    inputs: Images | Inputs,
    layer: CapturedLayer,
    activations: Activations,
    *,
    grad: bool = False,
) -> Any:
    """Run the whole model with a layer's grid replaced by ``activations`` [B, C, *grid]; return its outputs.

    Tokens before the grid's stay as they are. With ``grad``, autograd leads to the activations. ``module``
    comes from ``explaining``.
    """
    calls = 0
    given = Inputs.of(inputs)

    def hook(part: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != (layer.address.call or 1):
            return output
        value, replace = pick(output, layer.address.path, given.images)
        put = activations.to(value.dtype).clone()  # what follows may write into it
        return replace(layer.layout.from_grid(put, like=value.detach()))

    handle = module.get_submodule(layer.address.path).register_forward_hook(hook)
    try:
        with torch.set_grad_enabled(grad):
            return given.run(module, copied(given.images))
    finally:
        handle.remove()


def _reaches(outputs: Any) -> bool:
    return any(tensor.requires_grad for tensor in tensors_in(outputs))


# Models that have failed on images whose channels come last in memory.
_needs_contiguous: WeakSet[nn.Module] = WeakSet()

CHANNELS_LAST_FROM = 8
"""Batch size from which no convolutional network was measured to lose by channels that come last."""


def faster_channels_last(images: Images) -> bool:
    """Say whether the copy that the model gets is better laid out with its channels last in memory.

    On a processor this saves a convolutional network an eighth of its time, and nothing is lost without
    convolutions; but wide kernels on few images take longer, up to 1.8 times for VGG on one.
    """
    return (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and images.ndim == 4
        and len(images) >= CHANNELS_LAST_FROM
    )


def run_on_a_copy(module: nn.Module, images: Images, run: Callable[[Images], Result]) -> Result:
    """Run a forward of the module on a copy of the images, since some models normalise in place.

    The copy's channels come last in memory where that is faster and the model works with it.
    """
    if module in _needs_contiguous:
        return run(copied(images, torch.contiguous_format))
    if not faster_channels_last(images):
        return run(copied(images))
    try:
        return run(copied(images, torch.channels_last))
    except RuntimeError:  # most likely a view() that wants the usual order in memory
        outputs = run(copied(images, torch.contiguous_format))
        _needs_contiguous.add(module)
        return outputs


class _Recorder:
    """Hooks for one forward: they act on this thread's calls only, and are gone after it."""

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        layers: Sequence[Address],
        recordings: Sequence[Recording | None],
    ) -> None:
        self.recordings = [recording for recording in recordings if recording is not None]
        self.module = module
        self.inputs = inputs
        self.images = inputs.images
        self.layers = layers
        self.thread = threading.get_ident()
        self.calls: dict[str, int] = {}
        self.found: dict[Address, CapturedLayer] = {}
        self.interrupted = False

    def run(self, *, grad_before_the_layer: bool) -> Any:
        parts = {address.path: self.module.get_submodule(address.path) for address in self.layers}
        _refuse_scripted(parts)
        handles: list[Any] = []
        try:
            handles += [part.register_forward_hook(self._hook(path)) for path, part in parts.items()]
            with _restored_grad_mode():
                return run_on_a_copy(
                    self.module, self.images, lambda images: self._forward(images, grad_before_the_layer)
                )
        except RuntimeError as error:
            check_parameters(self.module)  # a likely cause, in a user's words
            error.add_note(_expectation(self.module, self.images))
            raise
        finally:
            for handle in handles:
                handle.remove()

    def _forward(self, images: Images, grad_before_the_layer: bool) -> Any:
        self.calls, self.found, self.interrupted = {}, {}, False
        torch.set_grad_enabled(grad_before_the_layer)
        with ExitStack() as stack:
            for recording in self.recordings:
                stack.enter_context(recording_by(recording))
            outputs = self.inputs.run(self.module, images)
        self.interrupted |= bool(self.found) and not torch.is_grad_enabled()
        return outputs

    def _hook(self, path: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if threading.get_ident() != self.thread:
                return output
            self.calls[path] = call = self.calls.get(path, 0) + 1
            wanted = [a for a in self.layers if a.path == path and a.call in (None, call)]
            if not wanted or (wanted[0].call is None and call > 1):
                return output
            value, replace = pick(output, path, self.images)
            layout = _layout_of(self.module, module, path, value, self.images)
            # Off again after an earlier layer turned it on: what lies between may not be recorded.
            self.interrupted |= bool(self.found) and not torch.is_grad_enabled()
            torch.set_grad_enabled(True)
            node = value.clone() if value.requires_grad else value.detach().clone().requires_grad_()
            for address in wanted:
                self.found[address] = CapturedLayer(address, node, layout, depth=len(self.found))
            return replace(node.clone())  # a copy: a later in-place ReLU must not rewrite the capture

        return hook

    def captured(self) -> tuple[CapturedLayer, ...]:
        for address in self.layers:
            ran = self.calls.get(address.path, 0)
            if ran == 0:
                raise LayerError(
                    f"layer '{address}' did not run in the model's forward; pick one that does "
                    "(whycam layers MODEL lists them)"
                )
            if address.call is None and ran > 1:
                raise LayerError(
                    f"layer '{address}' ran {ran} times in one forward; say which call is meant: "
                    f"'{address}#1' to '{address}#{ran}'"
                )
            if address not in self.found:
                raise LayerError(
                    f"layer '{address}' ran only {ran} time{'s' * (ran > 1)} in the forward; "
                    f"the last call is '{address.path}#{ran}'"
                )
        return tuple(self.found[address] for address in self.layers)


def _expectation(module: nn.Module, images: Images) -> str:
    weights = next((parameter.dtype for parameter in module.parameters()), images.dtype)
    return (
        f"whycam: the model's forward failed on images {list(images.shape)} of {images.dtype} on "
        f"{images.device}; expected [batch, channels, *size] of {weights}, on the model's device"
    )


def _refuse_scripted(parts: dict[str, nn.Module]) -> None:
    for path, part in parts.items():
        if isinstance(part, torch.jit.ScriptModule):
            raise LayerError(
                f"layer {path!r} is scripted (TorchScript), and scripted code passes by Python's hooks; "
                "pick a layer outside of it (whycam layers MODEL lists them)"
            )


@contextmanager
def _restored_grad_mode() -> Iterator[None]:
    before = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


def pick(output: Any, path: str, images: Images) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Return the first tensor of a layer's output that keeps the batch, and how to put another there."""
    if isinstance(output, Tensor) and output.is_floating_point():
        _check_batch(output, path, images)
        return output, lambda changed: changed
    key = grid_key(output, len(images))
    if key is not None:
        return output[key], putting(output, key)
    found = f"{output.dtype} numbers" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise LayerError(
        f"layer {path!r} gave {found}; a CAM needs a float tensor [batch, ...]; "
        "pick a layer that returns its activations (whycam layers MODEL lists them)"
    )


def _check_batch(output: Tensor, path: str, images: Images) -> None:
    if not output.ndim or len(output) != len(images):
        raise LayerError(
            f"layer {path!r} gave {list(output.shape)} for a batch of {len(images)}; it folds the batch "
            "(windows, patches). Pick the block around it (whycam layers MODEL lists them)"
        )


def _layout_of(module: nn.Module, part: nn.Module, path: str, value: Tensor, images: Images) -> Layout:
    size = images.shape[2:]
    layout = read_layout(value.shape, size, channels=channels_of(part), **hints_of(module))
    return require_layout(layout, path, value.shape, size)


def hints_of(module: nn.Module) -> dict[str, Any]:
    """Return what a model says of its tokens: ``prefix``, ``grid`` and ``time_last``, where it does."""
    hints: dict[str, Any] = {}
    prefix = getattr(module, "num_prefix_tokens", None)
    if isinstance(prefix, int) and not isinstance(prefix, bool):
        hints["prefix"] = prefix
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    if isinstance(grid, tuple) and all(isinstance(cells, int) for cells in grid):
        hints["grid"] = grid
    if getattr(module, "tokens_time_last", False) is True:
        hints["time_last"] = True
    return hints


def queries_of(module: nn.Module) -> frozenset[int]:
    """Return how many queries, latents or detection tokens a model says it has: they are no positions."""
    config = getattr(module, "config", None)
    told = [module, config, *(vars(config).values() if hasattr(config, "__dict__") else ())]
    counts = (getattr(one, name, None) for one in told for name in QUERY_COUNTS)
    return frozenset(count for count in counts if isinstance(count, int) and not isinstance(count, bool))


def channels_of(part: nn.Module) -> int | None:
    """Return the number of channels a layer gives, where its last parametrised part says so."""
    for inner in reversed(list(part.modules())):
        for name in ("out_channels", "num_features", "out_features"):
            count = getattr(inner, name, None)
            if isinstance(count, int) and next(inner.parameters(recurse=False), None) is not None:
                return count
        shape = getattr(inner, "normalized_shape", None)
        if shape:
            return int(shape[-1])
    return None
