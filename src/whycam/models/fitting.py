"""Make a weights file's keys fit a network, and load them whole or not at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whycam.errors import WeightsError
from whycam.models.messages import one_line, some_of
from whycam.models.weights import StateDict, WeightsFile

# an averaged copy comes before the plain one where a file holds both, as among the state dicts
PREFIXES = ("ema_model.", "module.", "_orig_mod.", "model.", "backbone.", "net.")

_PREFIX_DEPTH = 3
_BOOKKEEPING = ("n_averaged", "total_ops", "total_params")


def fit_keys(weights: WeightsFile, network: StateDict) -> WeightsFile:
    """Give the weights with their keys as the network's, when removing prefixes makes them so.

    A prefix may be removed when what it leads to is the whole network; entries outside it (a loss's
    buffers, say) are then left behind, and noted. Where nothing fits, the closest attempt is given, for
    `load_strictly` to refuse.
    """
    wrapper = _wrapper(network)
    wanted = {key.removeprefix(wrapper) for key in network}
    attempts = sorted(
        _without_prefixes(weights.tensors), key=lambda attempt: _misfit(attempt.tensors, wanted)
    )
    best = next((attempt for attempt in attempts if _is_whole(attempt.tensors, wanted)), attempts[0])
    tensors = {
        wrapper + key: value for key, value in best.tensors.items() if not _is_bookkeeping(key, wanted)
    }
    notes = [*weights.notes]
    if best.removed:
        notes.append(f"prefix '{best.removed}' removed from the keys")
    if best.left_behind:
        notes.append(f"{len(best.left_behind)} entries outside it not used: {some_of(best.left_behind)}")
    return replace(weights, tensors=tensors, notes=tuple(notes))


def keys_fit(weights: WeightsFile, network: StateDict) -> bool:
    """Say whether the weights' keys, as `fit_keys` left them, are the network's."""
    return _is_whole(weights.tensors, set(network))


def head_classes(weights: StateDict, network: StateDict, default: int) -> int | None:
    """Read the number of classes off the weights, or None where the head tells of no other number.

    The head is what differs from the network, which was made with ``default`` classes, in the length
    of the first axis alone, from ``default`` to one common other number.
    """
    differing = [key for key in weights.keys() & network.keys() if weights[key].shape != network[key].shape]
    pairs = [(tuple(weights[key].shape), tuple(network[key].shape)) for key in differing]
    if not all(ours[:1] == (default,) and theirs[1:] == ours[1:] and theirs for theirs, ours in pairs):
        return None
    counts = {theirs[0] for theirs, _ in pairs}
    return counts.pop() if len(counts) == 1 else None


PARTIAL_MEND = "--allow-partial (allow_partial=True) loads the {fitting} that fit, and no others"


def load_strictly(module: nn.Module, weights: WeightsFile, *, owner: str, mend: str = PARTIAL_MEND) -> None:
    """Load every key or none. ``owner`` names the network in a refusal, which ends with the ``mend``.

    Batch norm's ``num_batches_tracked``, which old files lack and a prediction does not use, keeps the
    network's own value. Raises WeightsError when keys, shapes or kinds of number differ, or when a
    parameter is not finite; the module is then untouched.
    """
    comparison = _compared(weights.tensors, module.state_dict())
    if not comparison.is_whole:
        raise WeightsError(
            f"'{weights.name}' does not fit {owner}: {comparison.describe()}{comparison.ending(mend)}"
        )
    _load(module, weights, comparison.fitting)


def load_partially(module: nn.Module, weights: WeightsFile, *, owner: str) -> "PartialFit | None":
    """Load the keys that fit and leave the others as the network has them. None where all fit.

    ``owner`` names the network in a refusal. Raises WeightsError when not one key fits, or when what fits
    is not finite or another kind of number; the module is then untouched.
    """
    comparison = _compared(weights.tensors, module.state_dict())
    if not comparison.fitting:
        raise WeightsError(
            f"nothing in '{weights.name}' fits {owner}: {comparison.describe()}; use the weights of this "
            "architecture, or the architecture of these weights"
        )
    _load(module, weights, comparison.fitting)
    return None if comparison.is_whole else comparison.partial_fit()


@dataclass(frozen=True)
class PartialFit:
    """How much of a network a file could fill: ``loaded`` of ``total`` keys; the others by name."""

    loaded: int
    total: int
    left: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Say which keys were left random and which of the file were not used, a line each."""
        return (
            *((f"{len(self.left)} keys left random: {some_of(self.left)}",) if self.left else ()),
            *(
                (f"{len(self.unused)} of the file's keys not used: {some_of(self.unused)}",)
                if self.unused
                else ()
            ),
        )


@dataclass(frozen=True)
class _Comparison:
    """A file's tensors beside a network's, by key; batch counters, which may lack, are left out."""

    tensors: StateDict
    network: StateDict
    fitting: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.fitting) + len(self.missing) + len(self.reshaped)

    @property
    def is_whole(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def partial_fit(self) -> PartialFit:
        left = tuple(key for key in self.network if key in {*self.missing, *self.reshaped})
        return PartialFit(len(self.fitting), self.total, left, (*self.reshaped, *self.unexpected))

    def ending(self, mend: str) -> str:
        return f"; {mend.format(fitting=len(self.fitting))}" if self.fitting else ""

    def describe(self) -> str:
        """Give the counts, the first few of each kind, and the likely cause."""
        shapes = [
            f"'{key}' is {_shape(self.tensors[key])}, expected {_shape(self.network[key])}"
            for key in self.reshaped[:3]
        ]
        firsts = [
            f"missing {some_of(self.missing, 3)}" if self.missing else "",
            f"unexpected {some_of(self.unexpected, 3)}" if self.unexpected else "",
            "; ".join(one_line(shape, 160) for shape in shapes),
        ]
        shown = "; ".join(first for first in firsts if first)
        return (
            f"of {self.total} keys {len(self.missing)} are missing and {len(self.reshaped)} "
            f"of another shape, and {len(self.unexpected)} are unexpected ({shown}); "
            f"likely {_likely_cause(self)}"
        )


def _compared(tensors: StateDict, network: StateDict) -> _Comparison:
    common = [key for key in tensors if key in network]
    reshaped = tuple(key for key in common if tensors[key].shape != network[key].shape)
    return _Comparison(
        tensors=tensors,
        network=network,
        fitting=tuple(key for key in common if key not in reshaped and not _is_counter(key)),
        missing=tuple(key for key in network if key not in tensors and not _is_counter(key)),
        unexpected=tuple(key for key in tensors if key not in network),
        reshaped=reshaped,
    )


def _load(module: nn.Module, weights: WeightsFile, fitting: Sequence[str]) -> None:
    own = module.state_dict()
    counters = [key for key in weights.tensors if _is_counter(key) and key in own]
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    tensors = {key: weights.tensors[key] for key in (*fitting, *counters)}
    for key, tensor in tensors.items():
        _refuse_kind(key, tensor, own[key], weights.name)
        _refuse_bad_numbers(key, tensor, weights.name, is_parameter=key in parameters)
    module.load_state_dict({**own, **tensors}, strict=True)


@dataclass(frozen=True)
class _Attempt:
    tensors: StateDict
    removed: str = ""
    left_behind: tuple[str, ...] = ()


def _without_prefixes(tensors: StateDict, depth: int = _PREFIX_DEPTH) -> Iterator[_Attempt]:
    yield _Attempt(tensors)
    for prefix in PREFIXES if depth else ():
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        outside = tuple(key for key in tensors if not key.startswith(prefix))
        for attempt in _without_prefixes(inside, depth - 1) if inside else ():
            deeper = tuple(prefix + key for key in attempt.left_behind)
            yield _Attempt(attempt.tensors, prefix + attempt.removed, outside + deeper)


def _misfit(tensors: StateDict, wanted: set[str]) -> tuple[int, int]:
    common = len(tensors.keys() & wanted)
    return -common, len(tensors) - common


def _is_whole(tensors: StateDict, wanted: set[str]) -> bool:
    missing = {key for key in wanted - tensors.keys() if not _is_counter(key)}
    extra = {key for key in tensors.keys() - wanted if not _is_bookkeeping(key, wanted)}
    return not missing and not extra


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def _is_bookkeeping(key: str, wanted: set[str]) -> bool:
    return key not in wanted and key.rpartition(".")[2] in _BOOKKEEPING


def _wrapper(network: StateDict) -> str:
    """Give the prefix that every key of a wrapped network (DataParallel, torch.compile) begins with."""
    wrapper = ""
    while network:
        prefix = next((p for p in PREFIXES if all(key.startswith(wrapper + p) for key in network)), None)
        if prefix is None:
            break
        wrapper += prefix
    return wrapper


def _likely_cause(found: _Comparison) -> str:
    for cause, holds in (
        ("another architecture or a wrapped network: compare the keys", len(found.missing) > found.total / 2),
        ("another variant of the architecture: compare the keys", bool(found.missing and found.unexpected)),
        (
            "the weights of a part, such as a network without its head (num_classes=0), or a file that was "
            "not saved whole",
            bool(found.missing),
        ),
        ("the weights of a larger network, such as one with a head or a loss", bool(found.unexpected)),
        ("another number of classes: see num_classes", _all_differ_on(0, found)),
        ("another number of input channels: see channels", _all_differ_on(1, found)),
        ("another input size: see size", all("pos" in key or "attn" in key for key in found.reshaped)),
    ):
        if holds:
            return cause
    return "another width or depth of the architecture"


def _all_differ_on(axis: int, found: _Comparison) -> bool:
    def only_there(ours: torch.Size, theirs: torch.Size) -> bool:
        return len(ours) == len(theirs) > axis and all(
            (a == b) != (index == axis) for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
        )

    pairs = [(found.network[key].shape, found.tensors[key].shape) for key in found.reshaped]
    return len(pairs) <= 4 and all(only_there(ours, theirs) for ours, theirs in pairs)


def _refuse_kind(key: str, tensor: Tensor, own: Tensor, name: str) -> None:
    if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex() != own.is_complex():
        raise WeightsError(
            f"'{one_line(key, 80)}' in '{name}' is {tensor.dtype}; expected {own.dtype}; "
            "save the state dict of the unquantised network"
        )


def _refuse_bad_numbers(key: str, tensor: Tensor, name: str, *, is_parameter: bool) -> None:
    # another buffer may hold infinities on purpose, as attention masks do
    must_be_finite = is_parameter or key.rpartition(".")[2] in ("running_mean", "running_var")
    bad = ~torch.isfinite(tensor) if must_be_finite else torch.isnan(tensor)
    if bad.any():
        raise WeightsError(
            f"'{one_line(key, 80)}' in '{name}' holds {int(bad.sum())} values of {tensor.numel()} that are "
            "no finite numbers; expected finite weights; the training diverged: use an earlier checkpoint"
        )
    if key.rpartition(".")[2] == "running_var" and (tensor < 0).any():
        raise WeightsError(
            f"'{one_line(key, 80)}' in '{name}' holds {int((tensor < 0).sum())} values of {tensor.numel()} "
            "below 0; a variance is 0 or more, and its root would be NaN; use another checkpoint"
        )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
