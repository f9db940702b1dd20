"""Make a weights file's keys fit a network, and load them whole or not at all."""

from collections.abc import Iterator
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


def load_strictly(module: nn.Module, weights: WeightsFile, *, owner: str) -> None:
    """Load every key or none. ``owner`` names the network in a refusal.

    Batch norm's ``num_batches_tracked``, which old files lack and a prediction does not use, keeps the
    network's own value. Raises WeightsError when keys, shapes or kinds of number differ, or when a
    parameter is not finite; the module is then untouched.
    """
    network = module.state_dict()
    counters = {key: value for key, value in network.items() if _is_counter(key)}
    tensors = {**counters, **weights.tensors}
    _refuse_misfit(weights, tensors, network, owner)
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for key, tensor in tensors.items():
        _refuse_kind(key, tensor, network[key], weights.name)
        _refuse_bad_numbers(key, tensor, weights.name, is_parameter=key in parameters)
    module.load_state_dict(tensors, strict=True)


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


def _refuse_misfit(weights: WeightsFile, tensors: StateDict, network: StateDict, owner: str) -> None:
    counters = [key for key in network if _is_counter(key)]
    missing = [key for key in network if key not in tensors]
    unexpected = [key for key in tensors if key not in network]
    reshaped = [key for key in tensors if key in network and tensors[key].shape != network[key].shape]
    if not missing and not unexpected and not reshaped:
        return
    shapes = [f"'{key}' is {_shape(tensors[key])}, expected {_shape(network[key])}" for key in reshaped[:3]]
    firsts = [
        f"missing {some_of(missing, 3)}" if missing else "",
        f"unexpected {some_of(unexpected, 3)}" if unexpected else "",
        "; ".join(one_line(shape, 160) for shape in shapes),
    ]
    raise WeightsError(
        f"'{weights.name}' does not fit {owner}: of {len(network) - len(counters)} keys {len(missing)} "
        f"are missing and {len(reshaped)} of another shape, and {len(unexpected)} are unexpected "
        f"({'; '.join(first for first in firsts if first)}); likely "
        f"{_likely_cause(tensors, network, missing, unexpected, reshaped)}"
    )


def _likely_cause(
    tensors: StateDict, network: StateDict, missing: list[str], unexpected: list[str], reshaped: list[str]
) -> str:
    total = len(network)
    for cause, holds in (
        ("another architecture or a wrapped network: compare the keys", len(missing) > total / 2),
        ("another variant of the architecture: compare the keys", bool(missing and unexpected)),
        ("the weights of a part, such as a network without its head (num_classes=0)", bool(missing)),
        ("the weights of a larger network, such as one with a head or a loss", bool(unexpected)),
        ("another number of classes: see num_classes", _all_differ_on(0, reshaped, tensors, network)),
        ("another number of input channels: see channels", _all_differ_on(1, reshaped, tensors, network)),
        ("another input size: see size", all("pos" in key or "attn" in key for key in reshaped)),
    ):
        if holds:
            return cause
    return "another width or depth of the architecture"


def _all_differ_on(axis: int, keys: list[str], tensors: StateDict, network: StateDict) -> bool:
    def only_there(ours: torch.Size, theirs: torch.Size) -> bool:
        return len(ours) == len(theirs) > axis and all(
            (a == b) != (index == axis) for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
        )

    return len(keys) <= 4 and all(only_there(network[key].shape, tensors[key].shape) for key in keys)


def _refuse_kind(key: str, tensor: Tensor, own: Tensor, name: str) -> None:
    if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex() != own.is_complex():
        raise WeightsError(
            f"'{one_line(key, 80)}' in '{name}' is {tensor.dtype}; expected {own.dtype}; "
            "save the state dict of the unquantised network"
        )


def _refuse_bad_numbers(key: str, tensor: Tensor, name: str, *, is_parameter: bool) -> None:
    # a buffer may hold infinities on purpose, as attention masks do
    bad = ~torch.isfinite(tensor) if is_parameter else torch.isnan(tensor)
    if bad.any():
        raise WeightsError(
            f"'{one_line(key, 80)}' in '{name}' holds {int(bad.sum())} values of {tensor.numel()} that are "
            "no finite numbers; expected finite weights; the training diverged: use an earlier checkpoint"
        )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
