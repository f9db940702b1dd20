"""Attention opened: its probabilities become a tensor of their own, whatever kernel would hide them."""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOFTMAXES = frozenset({F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax})


def _looked_into(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return PyTorch's own code of a function that asks no mode whether to run: a mode sees its steps."""
    return FunctionType(
        function.__code__,
        {**function.__globals__, "has_torch_function": lambda tensors: False},
        argdefs=function.__defaults__,
    )


# nn.MultiheadAttention's steps, with weights and without; and a backward, where checkpointing computes a part
# of the forward again, which must come out as it was.
_LOOKED_INTO = {
    function: _looked_into(function) for function in (F.multi_head_attention_forward, torch.autograd.grad)
}


class OpenedAttention(TorchFunctionMode):
    """While it is on, in this thread, ``see(logits, probabilities)`` gets every softmax over a last axis.

    Fused attention is computed by its plain formula, equal up to rounding. ``see`` says whether it keeps the
    probabilities: these are then a node of the autograd graph that nothing rewrites. Nothing outside is
    changed: PyTorch's own fast paths step aside for any such mode.
    """

    def __init__(self, see: Callable[[Tensor, Tensor], bool]) -> None:
        """Remember whom to tell."""
        super().__init__()
        self.see = see

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function of PyTorch, or what stands for it."""
        named = kwargs or {}
        if func in _LOOKED_INTO:
            with self:
                return _LOOKED_INTO[func](*args, **named)
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **named)
        result = func(*args, **named)
        if func not in SOFTMAXES or not _is_over_last_axis(result, *args[1:2], **named):
            return result
        kept = self.see(args[0] if args else named["input"], result)
        return result.clone() if kept else result  # a copy: what is done in place must not reach the node

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Return what ``F.scaled_dot_product_attention`` returns; half precision is summed in float32."""
        if enable_gqa:
            key, value = (_repeated(one, query.shape[-3]) for one in (key, value))
        wide = query.dtype if query.dtype == torch.float64 else torch.float32
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        logits = (query.to(wide) * factor) @ key.to(wide).mT
        if is_causal:
            attn_mask = torch.ones_like(logits[(0,) * (logits.ndim - 2)], dtype=torch.bool).tril()
        probabilities = _masked_softmax(logits, attn_mask).to(value.dtype)
        self.see(logits, probabilities)
        if dropout_p > 0:
            probabilities = F.dropout(probabilities, dropout_p)
        return probabilities @ value


def reopened() -> OpenedAttention:
    """Return what a backward of an opened forward runs in: checkpointing computes parts of it again."""
    return OpenedAttention(lambda logits, probabilities: False)


def _is_over_last_axis(result: Tensor, dim: int | None = None, **named: Any) -> bool:
    return dim in (-1, result.ndim - 1)


def _repeated(value: Tensor, heads: int) -> Tensor:
    return value.repeat_interleave(heads // value.shape[-3], -3)


def _masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax with a mask that is added, or false where nothing is attended to.

    A row that may attend to nothing is 0, as it is in PyTorch's kernels, and not NaN.
    """
    if mask is None:
        return logits.softmax(-1)
    masked = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    empty = masked.isneginf().all(-1, keepdim=True)
    return masked.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
