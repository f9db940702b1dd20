"""What a model returned: the class scores in it, one image's share of it, and its shape in words."""

import copy
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import TargetError

Outputs: TypeAlias = Any
Logits = Float[Tensor, "batch classes"]
Activation: TypeAlias = Literal["softmax", "sigmoid"]

CLASS_SCORES = ("logits", "logits_per_image", "out")


def logits_of(outputs: Outputs) -> Logits:
    """Return the class scores [B, classes] inside a model's outputs, in float32 or wider.

    Takes a tensor, ``logits``, ``logits_per_image`` or ``out`` of a dict or model output, or the first
    entry of a tuple or list; [B] counts as one class. Raises TargetError for anything else.
    """
    found = main_tensor(outputs, CLASS_SCORES)
    if found is not None and found.ndim == 1:
        found = found.unsqueeze(1)
    if found is None or found.ndim != 2 or not found.is_floating_point():
        raise TargetError(
            f"the model returned {described(outputs)}; class targets need scores [batch, classes]. "
            f"{_mend(outputs, found)}"
        )
    return wide(found)


def _mend(outputs: Outputs, found: Tensor | None) -> str:
    """Say which target fits outputs that are no class scores."""
    if found is not None and found.ndim >= 4:
        return "For a class's pixels use SegmentationClass(index), on the command line mask:CLASS"
    if is_an_image_each(outputs) or entry(outputs, "pred_boxes") is not None:
        return "For detections use BoxScore(), on the command line box:1"
    return "Pass target=a function from the outputs to one score an image"


def main_tensor(outputs: Outputs, names: tuple[str, ...]) -> Tensor | None:
    """Return the outputs if they are a tensor, else the named entry, else a tuple's first; None without."""
    if isinstance(outputs, Tensor):
        return outputs
    found = entry(outputs, *names)
    if found is None and isinstance(outputs, tuple | list) and outputs:
        found = outputs[0]
    return found if isinstance(found, Tensor) else None


def entry(outputs: Outputs, *names: str) -> Tensor | None:
    """Return the first of the named entries of a dict or record that is a tensor, or None."""
    for name in names:
        found = outputs.get(name) if isinstance(outputs, dict) else getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    return None


def wide(values: Tensor) -> Tensor:
    """Return values in float32, or float64 where they are."""
    return values if values.dtype == torch.float64 else values.float()


def described(outputs: Outputs) -> str:
    """Name outputs by their kind and shape, for a message."""
    if isinstance(outputs, Tensor):
        return f"a tensor {list(outputs.shape)} of {outputs.dtype}"
    if isinstance(outputs, dict):
        kind = "dict" if type(outputs) is dict else type(outputs).__name__
        return f"a {kind} with {', '.join(map(str, outputs)) or 'no entries'}"
    return f"a {type(outputs).__name__}"


def batch_of(outputs: Outputs) -> int | None:
    """Return the number of images that outputs are for, where they tell: a tensor's, or a list of dicts'."""
    if isinstance(outputs, Tensor):
        return outputs.shape[0] if outputs.ndim else None
    if is_an_image_each(outputs):
        return len(outputs)
    found = entry(outputs, *CLASS_SCORES)
    if found is not None:
        return batch_of(found)
    values = outputs.values() if isinstance(outputs, dict) else outputs
    if not isinstance(outputs, dict | list | tuple):
        return None
    return next((batch_of(value) for value in values if isinstance(value, Tensor) and value.ndim), None)


def is_an_image_each(outputs: Outputs) -> bool:
    """Say whether outputs are a list with a dict an image, as torchvision's detectors give."""
    return isinstance(outputs, list) and bool(outputs) and all(isinstance(one, dict) for one in outputs)


def image_of(outputs: Outputs, position: int) -> Outputs:
    """Return one image's share of the outputs, in the structure they came in, as a batch of one."""
    if isinstance(outputs, Tensor):
        return outputs[position : position + 1] if outputs.ndim else outputs
    if isinstance(outputs, dict):
        copied = outputs.copy()
        for name, value in outputs.items():
            copied[name] = image_of(value, position)
        return copied
    if is_an_image_each(outputs):
        return outputs[position : position + 1]
    if isinstance(outputs, tuple | list):
        parts = [image_of(value, position) for value in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    if entry(outputs, *CLASS_SCORES) is None:
        return outputs
    changed = copy.copy(outputs)
    for name, value in vars(outputs).items():
        object.__setattr__(changed, name, image_of(value, position))
    return changed


def check_activation(activation: str) -> None:
    """Refuse what is neither "softmax" nor "sigmoid"; raises TargetError."""
    if activation not in ("softmax", "sigmoid"):
        raise TargetError(f"activation {activation!r} is unknown; give 'softmax' or 'sigmoid'")
