"""One network and fixed images -> the overlays of one step, with nothing of the training changed."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from whycam.callbacks.fixed_images import FixedImages
from whycam.errors import EngineError, UsageError
from whycam.explainer import Layers, MethodLike, explain
from whycam.explanation import Explanation
from whycam.methods import Smoothing, find_method
from whycam.models.source import fixed_seed
from whycam.targets import TargetLike

Where: TypeAlias = str | nn.Module | Callable[[Any], nn.Module] | None
"""Which part of a training module is explained: a dotted path, the part, a function of the module, or all."""


@dataclass(frozen=True)
class Drawn:
    """The overlays of one step: ``tag`` says of what, and each has a name and a caption."""

    tag: str
    step: int
    names: tuple[str, ...]
    pictures: tuple[Image, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Drawing:
    """What is drawn each time, and how; the values are ``whycam.explain``'s."""

    images: FixedImages
    method: MethodLike
    target: TargetLike
    layer: Layers
    smoothing: Smoothing | None
    batch_size: int | None
    class_names: tuple[str, ...] | None
    colormap: str

    @property
    def tag(self) -> str:
        """What the pictures are logged under."""
        return f"heatmaps/{find_method(self.method).name}"

    def draw(self, network: nn.Module, step: int) -> Drawn:
        """Explain the images with the network as it is now; raises a WhycamError where that fails."""
        # a noisy method must not differ from epoch to epoch by its draws
        with _same_host_random_state(), fixed_seed():
            explanation = explain(
                network,
                self.images.inputs_for(network),
                method=self.method,
                target=self.target,
                layer=self.layer,
                smoothing=self.smoothing,
                batch_size=self.batch_size,
            )
        shown = replace(explanation, pictures=self.images.pictures, geometries=self.images.geometries)
        captions = _captions(explanation, self.images.names, self.class_names)
        pictures = tuple(shown.overlays(colormap=self.colormap))
        return Drawn(self.tag, step, self.images.names, pictures, captions)


def part_of(root: nn.Module, where: Where) -> nn.Module:
    """Return the part of a training module that is explained. Raises UsageError where there is none."""
    if where is None or isinstance(where, nn.Module):
        return root if where is None else where
    if not isinstance(where, str):
        return where(root)
    try:
        return root.get_submodule(where)
    except AttributeError as error:
        parts = ", ".join(name for name, _ in root.named_children()) or "no parts"
        raise UsageError(
            f"{type(root).__name__} has no module {where!r}; it has {parts}; give one of them as network="
        ) from error


def check_whole(module: nn.Module) -> None:
    """Raise EngineError for weights that are spread over processes: one process alone would wait for ever."""
    if _is_spread(module):
        raise EngineError(
            "the weights are spread over several processes (FSDP, tensor parallel or DeepSpeed stage 3), "
            "which one process alone can't run; explain a saved checkpoint instead"
        )


def _is_spread(module: nn.Module) -> bool:
    if any(hasattr(weight, "ds_id") for weight in module.parameters()):  # DeepSpeed's mark
        return True
    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    whole = (isinstance(part, FullyShardedDataParallel) for part in module.modules())
    return any(whole) or any(isinstance(weight, DTensor) for weight in module.parameters())


@contextmanager
def _same_host_random_state() -> Iterator[None]:
    """Put back the state of Python's and NumPy's generators, from which a network may draw too."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _captions(
    explanation: Explanation, names: tuple[str, ...], class_names: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Say of each picture what it explains, and why it is empty where it is."""
    columns = (explanation.classes.tolist(), explanation.scores.tolist(), explanation.diagnosis())
    return tuple(
        f"{name}: {_named(index, explanation, class_names)}, score {score:.4g}, layer {explanation.layer}"
        + (f"; {reason}" if reason else "")
        for name, index, score, reason in zip(names, *columns, strict=True)
    )


def _named(index: int, explanation: Explanation, class_names: tuple[str, ...] | None) -> str:
    if index < 0:
        return explanation.targets.describe()
    known = class_names is not None and index < len(class_names)
    return class_names[index] if class_names is not None and known else f"class {index}"
