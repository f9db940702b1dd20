"""DeepLIFT's multipliers from a layer of zeros to the layer, through what follows it.

The rows of a forward are pairs: first the activations, then their references. A rule keeps each function's
values and changes its gradient, so that gradient times difference sums to the function's own difference.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.engine.activations import at_once, gradient_of
from whycam.engine.suffix import Suffix
from whycam.engine.variants import in_chunks
from whycam.types import Gradients, Rows

Function = Callable[..., Tensor]


def multipliers(suffix: Suffix, target: Any) -> Gradients:
    """Return DeepLIFT's multipliers [B, C, *grid] of the target's scores, by the rescale rule.

    Multiplier times activation sums to the score less the score of a layer of zeros where what follows is
    made of linear layers, functions of single numbers, products, softmax and norms over an image's own
    values; other functions pass their plain gradient on. Source: Shrikumar 2017, section 3.5.1.
    """
    clean = suffix.layer.activations()

    def run(which: Rows) -> Tensor:
        rows = torch.cat([which, which])
        leaf = clean[which].clone().requires_grad_()
        with torch.enable_grad(), Rescaling(len(rows)):
            scores = target.select(rows)(suffix(rows, torch.cat([leaf, torch.zeros_like(leaf)]), grad=True))
            total = scores[: len(which)].sum()
        return gradient_of(total, leaf)

    size = max(1, at_once(suffix, clean.device, grad=True) // 2)
    with _frozen(suffix.module):
        return torch.cat([found for _, found in in_chunks(len(clean), size, run, clean.device)])


class Rescaling(TorchFunctionMode):
    """Gives the functions in ``RULES`` the gradient that leads from their reference to their value.

    Where tokens come before the ``rows``, halves are no pairs, and the plain gradient is passed on.
    """

    def __init__(self, rows: int) -> None:
        """Take the number of rows that go through: activations, then as many references."""
        super().__init__()
        self.rows = rows

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Apply the function's rule where it has one and something comes from the layer."""
        kwargs = kwargs or {}
        rule = RULES.get(func)
        paired = [value for value in args[:3] if _is_paired(value)]
        if rule is None or not paired or any(self._is_rows_second(value) for value in paired):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        in_place = kwargs.pop("inplace", False) or (name.endswith("_") and not name.endswith("__"))
        found = rule(func, *args, **kwargs)
        return args[0].copy_(found) if in_place else found

    def _is_rows_second(self, value: Tensor) -> bool:
        if len(value) % self.rows:
            return True
        return value.ndim == 3 and len(value) != self.rows and value.shape[1] == self.rows


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Take autograd off the weights for a while: what requires a gradient then comes from the layer."""
    # weights made in inference mode keep their flag: it could not be set again
    learning = [one for one in module.parameters() if one.requires_grad and not one.is_inference()]
    try:
        for parameter in learning:
            parameter.requires_grad = False
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad = True


def _is_paired(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.requires_grad
        and value.ndim > 0
        and len(value) % 2 == 0
    )


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    actual, reference = value.chunk(2)
    return actual, reference


def _with_gradient_of(values: Tensor, slope: Tensor) -> Tensor:
    """Return ``values``, of which the first half has the gradient of ``slope``."""
    actual, reference = _halves(values.detach())
    return torch.cat([actual + (slope - slope.detach()).to(values.dtype), reference])


def single(function: Function, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Rescale a function of single numbers: its difference over the difference of what went in."""
    if not _is_paired(value):
        return function(value, *args, **kwargs)
    with torch.no_grad():
        found = function(value.clone(), *args, **kwargs)
        actual, reference = _halves(value)
        difference = actual - reference
        precision = torch.finfo(value.dtype).eps ** 0.5
        close = difference.abs() <= precision * (actual.abs() + reference.abs())
        ratio = (_halves(found)[0] - _halves(found)[1]) / torch.where(close, 1.0, difference)
        slopes = torch.where(close, _slope((actual + reference) / 2, function, args, kwargs), ratio)
    return _with_gradient_of(found, slopes * _halves(value)[0])


def _slope(at: Tensor, function: Function, args: Any, kwargs: Any) -> Tensor:
    """Return the function's derivative, where value and reference are too close for a quotient."""
    with torch.enable_grad():
        leaf = at.detach().clone().requires_grad_()
        total = function(leaf.clone(), *args, **kwargs).sum()
    return gradient_of(total, leaf)


def product(function: Function, one: Any, other: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Share the difference of a product equally: each factor counts with the other's mean."""
    if not (_is_paired(one) and _is_paired(other) and one.ndim == other.ndim and len(one) == len(other)):
        return function(one, other, *args, **kwargs)
    with torch.no_grad():
        found = function(one, other, *args, **kwargs)
    mean = sum(_halves(one.detach())) / 2
    other_mean = sum(_halves(other.detach())) / 2
    slope = function(_halves(one)[0], other_mean, *args, **kwargs)
    return _with_gradient_of(found, slope + function(mean, _halves(other)[0], *args, **kwargs))


def product_in_place(function: Function, one: Tensor, other: Any) -> Tensor:
    """Do what ``product`` does, into the first factor."""
    return one.copy_(product(torch.mul, one, other))


def quotient(function: Function, one: Any, other: Any, **kwargs: Any) -> Tensor:
    """Take a division as a product with the reciprocal."""
    if kwargs or not _is_paired(other):
        return function(one, other, **kwargs)
    return product(torch.mul, one, single(torch.reciprocal, other))


def softmax(function: Function, value: Tensor, dim: int = -1, *args: Any, **kwargs: Any) -> Tensor:
    """Take it apart: exponentials, their sum, its reciprocal and a product."""
    if not _is_paired(value):
        return function(value, dim, *args, **kwargs)
    dtype = kwargs.get("dtype") or value.dtype
    wide = value.double() if value.device.type != "mps" else value.float()
    # one shift for both halves: another for each would be a difference that no rule sees
    actual, reference = (half.detach().amax(dim, keepdim=True) for half in _halves(wide))
    shift = (actual + reference) / 2
    if not bool((torch.exp((actual - reference).abs()).isfinite()).all()):
        return function(value, dim, *args, **kwargs)  # no number holds both halves' exponentials
    powers = single(torch.exp, wide - torch.cat([shift, shift]))
    found = product(torch.mul, powers, single(torch.reciprocal, powers.sum(dim, keepdim=True)))
    return found.to(dtype)


def layer_norm(
    function: Function,
    value: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    """Take it apart: the centred values, their mean square, its root and a product."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    return _affine(_standardised(value, axes, eps), weight, bias)


def rms_norm(
    function: Function,
    value: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Take it apart as ``layer_norm``, without the mean."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    least = torch.finfo(value.dtype).eps if eps is None else eps
    return _affine(_standardised(value, axes, least, centred=False), weight, None)


def group_norm(
    function: Function,
    value: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    """Take it apart as ``layer_norm``, over groups of channels."""
    grouped = value.reshape(len(value), num_groups, -1)
    shape = (-1, *[1] * (value.ndim - 2))
    scale = None if weight is None else weight.view(shape)
    shift = None if bias is None else bias.view(shape)
    return _affine(_standardised(grouped, (-1,), eps).reshape(value.shape), scale, shift)


def _standardised(value: Tensor, axes: tuple[int, ...], eps: float, *, centred: bool = True) -> Tensor:
    if centred:
        value = value - value.mean(axes, keepdim=True)
    spread = product(torch.mul, value, value).mean(axes, keepdim=True)
    return product(torch.mul, value, single(torch.rsqrt, spread + eps))


def _affine(value: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    value = value if weight is None else value * weight
    return value if bias is None else value + bias


def attention(
    function: Function,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **kwargs: Any,
) -> Tensor:
    """Take it apart: two products with a softmax between them."""
    if is_causal or kwargs.get("enable_gqa"):
        return function(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs)
    scores = product(torch.matmul, query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        mask = attn_mask
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return product(torch.matmul, softmax(torch.softmax, scores), value)


Rule = Callable[..., Any]


def _named(rule: Rule, names: str) -> Iterator[tuple[Any, Rule]]:
    """Give the rule for every function of these names in torch, torch.nn.functional and Tensor."""
    for name in names.split():
        for place in (torch, F, Tensor):
            if hasattr(place, name):
                yield getattr(place, name), rule


SINGLE = (
    "relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu selu_ celu celu_ gelu silu mish softplus softsign "
    "hardswish hardsigmoid hardtanh hardtanh_ logsigmoid tanhshrink softshrink hardshrink sigmoid sigmoid_ "
    "tanh tanh_ exp exp_ pow __pow__ __rdiv__ __rtruediv__ log log1p sqrt rsqrt square reciprocal abs erf "
    "clamp clamp_min clamp_max"
)
RULES: Mapping[Any, Rule] = dict(
    [
        *_named(single, SINGLE),
        *_named(product, "mul multiply __mul__ __rmul__ matmul __matmul__ bmm"),
        *_named(product_in_place, "mul_ __imul__"),
        *_named(quotient, "div true_divide divide __truediv__"),
        *_named(softmax, "softmax"),
        *_named(layer_norm, "layer_norm"),
        *_named(rms_norm, "rms_norm"),
        *_named(group_norm, "group_norm"),
        *_named(attention, "scaled_dot_product_attention"),
    ]
)
