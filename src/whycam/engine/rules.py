"""Modified backward passes: what ReLU-like activations give back, in place of their derivative alone.

A function mode sees every call of such a function, whether a module, the model's own forward or a tensor's
method makes it, in place or not. Forward values stay as they are, and the model is not touched. What it
can't see are scripted parts and custom autograd functions: through them goes the plain gradient.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.types import Rule

RELU_LIKE = (
    {"relu", "relu6", "leaky_relu", "prelu", "rrelu"}
    | {"elu", "selu", "celu", "gelu", "silu"}
    | {"hardswish", "mish", "softplus"}
)
"""Functions that let large values through and hold small ones back, by their names in torch, in
torch.nn.functional and on a tensor; those that work in place have an underscore more."""
LOWER_BOUND = {"clamp": 1, "clip": 1, "clamp_min": 1, "hardtanh": 1, "threshold": 1}
"""Functions that are a ReLU where their lower bound is 0, and the place of this bound."""
BOUND_NAMES = ("min", "min_val", "threshold")
COMPOSED = re.compile("elu|silu|swish|mish|softplus", re.IGNORECASE)
"""What the class of an activation module is called that is written out of smaller operations."""


@contextmanager
def backward_rule(module: nn.Module, rule: Rule | None) -> Iterator[None]:
    """Run the module's forward in here, and gradients on the way back through it obey the rule.

    Under ``guided`` only positive gradients reach an activation, and its own derivative follows; under
    ``deconvnet`` only positive gradients pass, and nothing else is asked of the activation.
    """
    if rule is None:
        yield
        return
    mode = _RuleMode(_RULES[rule])
    handles: list[Any] = []
    try:
        for part in module.modules():
            if _is_composed(part):
                handles.append(part.register_forward_pre_hook(mode.enter_part))
                handles.append(part.register_forward_hook(mode.leave_part))
        with mode:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _is_composed(part: nn.Module) -> bool:
    """Say whether a module is an activation that torch doesn't have as one function, such as QuickGELU."""
    kind = type(part)
    ours = not kind.__module__.startswith("torch.") and next(part.children(), None) is None
    return ours and COMPOSED.search(kind.__name__) is not None


class _RuleMode(TorchFunctionMode):
    """Applies a rule to every ReLU-like function, and to composed activations as wholes."""

    def __init__(self, rule: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.thread = threading.get_ident()
        self.entered: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.entered or not torch.is_grad_enabled() or not _is_relu_like(func, args, kwargs):
            return func(*args, **kwargs)
        given, call = _unary(func, args, kwargs)
        if not _writes(func, args, kwargs):
            return self.rule(given, call(given))
        if self.rule is _guided and not given._is_view():  # a view's hook would not see its base's gradient
            return self.rule(given, call(given))
        return given.copy_(self.rule(given, call(given.clone())))

    def enter_part(self, part: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """Keep what goes into a composed activation, and give it a copy, since it may write into it."""
        if not self._concerns(inputs):
            return None
        self.entered.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])

    def leave_part(self, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Apply the rule to a composed activation's output."""
        if not self._concerns(inputs):
            return output
        given = self.entered.pop()
        written = output is inputs[0]
        if torch.is_grad_enabled() and isinstance(output, Tensor) and output.shape == given.shape:
            output = self.rule(given, output)
        return given.copy_(output) if written else output

    def _concerns(self, inputs: tuple[Any, ...]) -> bool:
        return threading.get_ident() == self.thread and bool(inputs) and isinstance(inputs[0], Tensor)


def _is_relu_like(func: Any, args: Any, kwargs: Any) -> bool:
    name = getattr(func, "__name__", "").strip("_")
    if name in LOWER_BOUND:
        place = LOWER_BOUND[name]
        bound = args[place] if len(args) > place else next((kwargs[n] for n in BOUND_NAMES if n in kwargs), 1)
        return isinstance(bound, int | float) and bound == 0
    return name in RELU_LIKE


def _writes(func: Any, args: Any, kwargs: Any) -> bool:
    return func.__name__.endswith("_") or kwargs.get("inplace", False) or any(one is True for one in args)


def _unary(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return what an activation is called on, and the call as a function of it."""
    if args:
        return args[0], lambda values: func(values, *args[1:], **kwargs)
    return kwargs["input"], lambda values: func(**{**kwargs, "input": values})


def _guided(given: Tensor, output: Tensor) -> Tensor:
    """Let only positive gradients into the activation's own derivative. Source: Springenberg 2015."""
    if output.requires_grad:
        output.register_hook(torch.relu)  # type: ignore[no-untyped-call]
    return output


def _deconvnet(given: Tensor, output: Tensor) -> Tensor:
    """Let only positive gradients past the activation, whatever its input. Source: Zeiler 2014."""
    past: Tensor = _PastActivation.apply(given, output.detach())
    return past


class _PastActivation(torch.autograd.Function):
    """An activation's values, with positive gradients passed on as they are."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, output: Tensor) -> Tensor:
        return output.clone()  # not the input itself: a later in-place operation would be refused

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].relu(), None


_RULES: dict[Rule, Callable[[Tensor, Tensor], Tensor]] = {"guided": _guided, "deconvnet": _deconvnet}
