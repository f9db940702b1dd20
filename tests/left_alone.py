"""What explaining must leave as it was: all of a model's state, and the settings of the process."""

from typing import Any

import torch
from torch import Tensor, nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return all that explaining could leave changed in a model, and around it."""
    parts = list(model.modules())
    held = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    return {
        "mode": [part.training for part in parts],
        "requires_grad": {name: value.requires_grad for name, value in held.items()},
        "hooks": [[dict(getattr(part, name)) for name in HOOKS] for part in parts],
        "hooks of weights": {
            name: list((value._backward_hooks or {}).items()) for name, value in held.items()
        },
        "attributes": [sorted(vars(part)) for part in parts],
        "forwards": [vars(part).get("forward") for part in parts],
        "parts": [id(part) for part in parts],
        "weights' identities": {name: (id(value), value.data_ptr()) for name, value in held.items()},
        "gradients' identities": {name: id(value.grad) for name, value in model.named_parameters()},
        "process": _settings(),
        "weights": {name: _bits(value) for name, value in held.items()},
        "gradients": {name: _bits(value.grad) for name, value in model.named_parameters()},
        "random state": torch.get_rng_state(),
    }


def _settings() -> tuple[Any, ...]:
    """Return what is set for the process or this thread, and not for a model."""
    cuda = torch.backends.cuda
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_cache_enabled(),
        torch.get_default_dtype(),
        torch.overrides._len_torch_function_stack(),
        torch.utils._python_dispatch._len_torch_dispatch_stack(),
        (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
    )


def _bits(value: Tensor | None) -> Tensor | None:
    """Return a copy that compares -0 and NaN as the bits they are."""
    return None if value is None else value.detach().clone().reshape(-1).view(torch.uint8)


def assert_unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    """Compare a model with what ``state_of`` gave earlier."""
    after = state_of(model)
    for name in before:
        if name in ("weights", "gradients"):
            assert after[name].keys() == before[name].keys()
            for path, value in after[name].items():
                assert _are_equal(value, before[name][path]), f"{name}: {path}"
        elif name == "random state":
            assert torch.equal(after[name], before[name]), name
        else:
            assert after[name] == before[name], name


def _are_equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
