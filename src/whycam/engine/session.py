"""The state a model is explained in, and the promise that it leaves as it came."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whycam.errors import EngineError

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the plain module inside torch.compile's and the data-parallel wrappers.

    Raises EngineError for a scripted model.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise EngineError(
            "the model is scripted (TorchScript), and scripted code passes by Python's hooks; "
            "give the nn.Module it was made from"
        )
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(model, wrappers):
        return unwrap(model.module)
    original = getattr(model, "_orig_mod", None)
    return unwrap(original) if isinstance(original, nn.Module) else model


@contextmanager
def explaining(model: nn.Module) -> Iterator[nn.Module]:
    """Give the plain module in eval mode, and put everything back at the end, also after an error.

    Mode is set by flag, module by module: a model's own ``train``/``eval`` may do more than that. One
    model is explained by one thread at a time, since its mode is shared; nested calls are fine.
    """
    module = unwrap(model)
    with ExitStack() as stack:
        stack.enter_context(_lock_of(module))
        parts = _parts_of(module)  # walked once
        stack.enter_context(_inference_mode_off())
        stack.enter_context(_eval_mode(parts))
        stack.enter_context(same_random_state())
        stack.enter_context(_uncached_autocast())
        stack.enter_context(_eager(parts))
        yield module


def _parts_of(module: nn.Module) -> list[nn.Module]:
    """Return all submodules, each once. ``modules()`` takes three times as long: a percent of a forward."""
    found = {module: None}
    waiting = [module]
    while waiting:
        for part in waiting.pop()._modules.values():
            if part is not None and part not in found:
                found[part] = None
                waiting.append(part)
    return list(found)


def _lock_of(module: nn.Module) -> threading.RLock:
    with _locks_guard:
        return _locks.setdefault(module, threading.RLock())


@contextmanager
def _inference_mode_off() -> Iterator[None]:
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False):
        yield


@contextmanager
def _eval_mode(parts: Sequence[nn.Module]) -> Iterator[None]:
    training = [part for part in parts if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def same_random_state() -> Iterator[None]:
    """Put back the state of torch's random number generators at the end."""
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # asking starts no device
    devices = range(torch.cuda.device_count()) if initialised else ()
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def _uncached_autocast() -> Iterator[None]:
    """Keep weights cast without autograd out of the caller's autocast cache: training would miss them."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)


_eager_sessions = 0
_stance = ExitStack()


@contextmanager
def _eager(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Run compiled parts eagerly: a compiled graph passes by hooks that were added after it was built.

    The stance is the process's, not the thread's: the first session sets it and the last one takes it back.
    """
    if not any(part._compiled_call_impl is not None or "_orig_mod" in part._modules for part in parts):
        yield
        return
    _count_eager(1)
    try:
        yield
    finally:
        _count_eager(-1)


def _count_eager(step: int) -> None:
    global _eager_sessions
    with _locks_guard:
        _eager_sessions += step
        if step == 1 and _eager_sessions == 1:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        elif not _eager_sessions:
            _stance.close()


def plain(images: Tensor) -> Tensor:
    """Return images that autograd can work with: a copy where they were made in inference mode."""
    return images.clone() if images.is_inference() else images


def check_parameters(module: nn.Module) -> None:
    """Raise EngineError for weights or buffers that autograd cannot work with."""
    if any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers())):
        raise EngineError(
            "the model's weights were made inside torch.inference_mode(), where autograd can't use them; "
            "build and load the model outside of it (running it inside is fine)"
        )
