"""What models return that is not one tensor: tuples, lists, dicts and objects with class scores."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Give the tensors inside nested tuples, lists, dicts and model outputs, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif _is_record(value):
        yield from tensors_in(vars(value))


def grid_key(output: Any, batch: int) -> Any | None:
    """Return where in a tuple, list or dict the first float tensor [batch, a, b, ...] is, or None."""
    parts = output.items() if isinstance(output, dict) else ()
    for key, part in enumerate(output) if isinstance(output, tuple | list) else parts:
        if isinstance(part, Tensor) and part.is_floating_point() and part.ndim >= 3 and len(part) == batch:
            return key
    return None


def putting(output: Any, key: Any) -> Callable[[Tensor], Any]:
    """Return what gives the output, a tuple, list or dict, with another tensor at ``key``."""

    def put(changed: Tensor) -> Any:
        if isinstance(output, dict):
            copied = output.copy()
            copied[key] = changed
            return copied
        parts = [*output[:key], changed, *output[key + 1 :]]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)

    return put


def joined(parts: Sequence[Any], counts: Sequence[int]) -> Any:
    """Return the outputs of consecutive batches of ``counts`` images as one, in the structure they came in.

    A tensor is joined along the first axis that counts the images; one without such an axis, what a model
    says of its texts, say, is the first batch's.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return _joined_tensors(parts, counts)
    if isinstance(first, dict):
        copied = first.copy()
        for key in first:
            copied[key] = joined([part[key] for part in parts], counts)
        return copied
    if isinstance(first, list) and all(isinstance(one, dict) for one in first):
        return [one for part in parts for one in part]  # a detector's answer: a dict an image
    if isinstance(first, tuple | list):
        columns = [joined(column, counts) for column in zip(*parts, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
    if _is_record(first):
        changed = copy.copy(first)
        for name in vars(first):
            object.__setattr__(changed, name, joined([vars(part)[name] for part in parts], counts))
        return changed
    return first


def _joined_tensors(parts: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    if not parts[0].ndim:
        return torch.stack(list(parts))
    for axis in range(parts[0].ndim):
        if all(
            part.ndim > axis and part.shape[axis] == count for part, count in zip(parts, counts, strict=True)
        ):
            return torch.cat(list(parts), axis)
    return parts[0]


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return outputs with each tensor changed, in the structure they came in, in ``tensors_in``'s order."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        copied = value.copy()
        for key, part in value.items():
            copied[key] = mapped(part, change)
        return copied
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple | list):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if _is_record(value):
        changed = copy.copy(value)
        for name, part in vars(value).items():
            object.__setattr__(changed, name, mapped(part, change))
        return changed
    return value


def detached(value: Any) -> Any:
    """Return outputs without their graph, in the structure they came in."""
    return mapped(value, Tensor.detach)


def is_plain(value: Any) -> bool:
    """Say whether all tensors in a value are found by ``tensors_in``: no object hides any."""
    if isinstance(value, dict):
        return all(is_plain(part) for part in value.values())
    if isinstance(value, tuple | list):
        return all(is_plain(part) for part in value)
    return (
        value is None
        or isinstance(value, Tensor | int | float | complex | str | torch.dtype | torch.device)
        or _is_record(value)
    )


def row_of(outputs: Any, count: int, row: int) -> list[Tensor]:
    """Return the float tensors that outputs of ``count`` images hold for one of them, and those of all."""
    if isinstance(outputs, list) and len(outputs) == count and all(isinstance(one, dict) for one in outputs):
        return row_of(outputs[row], 0, row)  # a detector's answer: a dict an image
    found = [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point()]
    return [tensor[row] if tensor.ndim and len(tensor) == count else tensor for tensor in found]


def _is_record(value: Any) -> bool:
    """Say whether a value is an object that holds class scores among its attributes."""
    return hasattr(value, "__dict__") and isinstance(vars(value).get("logits"), Tensor)
