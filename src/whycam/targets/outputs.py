"""What a model returned: the class scores in it, and its shape in words."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import TargetError

Outputs: TypeAlias = Any
Logits = Float[Tensor, "batch classes"]


def logits_of(outputs: Outputs) -> Logits:
    """Return the class scores [B, classes] inside a model's outputs, in float32 or wider.

    Takes a tensor, the first entry of a tuple or list, or ``logits``/``out`` of a dict or model output;
    [B] counts as one class. Raises TargetError for anything else.
    """
    found = outputs
    if isinstance(found, dict):
        found = found.get("logits", found.get("out"))
    elif not isinstance(found, Tensor) and hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.ndim == 1:
        found = found.unsqueeze(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        raise TargetError(
            f"the model returned {described(outputs)}; class targets need scores [batch, classes]. "
            "Pass target=a function from the outputs to one score an image"
        )
    return found if found.dtype == torch.float64 else found.float()


def described(outputs: Outputs) -> str:
    """Name outputs by their kind and shape, for a message."""
    if isinstance(outputs, Tensor):
        return f"a tensor {list(outputs.shape)} of {outputs.dtype}"
    if isinstance(outputs, dict):
        return f"a dict with {', '.join(map(str, outputs)) or 'no entries'}"
    return f"a {type(outputs).__name__}"


def batch_of(outputs: Outputs) -> int | None:
    """Return the number of images that outputs are for, where a tensor in them tells."""
    if isinstance(outputs, Tensor):
        return outputs.shape[0] if outputs.ndim else None
    values = outputs.values() if isinstance(outputs, dict) else outputs
    if not isinstance(values, Sequence) and not isinstance(outputs, dict):
        return None
    return next((batch_of(value) for value in values if isinstance(value, Tensor)), None)
