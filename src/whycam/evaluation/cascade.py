"""Cascading randomisation: how far maps move as a model's layers become random, one more at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from whycam.evaluation.figures import Figure, summarise
from whycam.evaluation.sanity import cascade, randomisation
from whycam.explainer import Layers, Preparing, explain_methods, ready
from whycam.explanation import Explanation
from whycam.methods import find_method
from whycam.targets import TargetLike


@dataclass(frozen=True)
class CascadeStep:
    """The last layer so far that became random, and by method how far the maps moved since the start."""

    layer: str
    moved: Mapping[str, Figure]


def cascading_randomisation(
    model: nn.Module | Preparing,
    images: Any,
    methods: Sequence[str] = ("gradcam",),
    *,
    target: TargetLike = None,
    layer: Layers = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[str], None] = lambda layer: None,
) -> list[CascadeStep]:
    """Return how far each method's maps move as layers become random, from the last one to the first.

    ``model``, ``images``, ``target``, ``layer`` and ``batch_size`` as for ``explain``; what is explained, the
    classes and the layers are those of the model as it is. A figure is the mean of ``randomisation`` over the
    images, 0 (the map stays) to 2. It takes an explanation a method and layer of the model, and the memory of
    one copy. The model is left as it came. Raises a WhycamError. Source: Adebayo 2018.
    """
    module, inputs, _ = ready(model, images)
    first = [
        explain_methods(module, inputs, [method], target=target, layer=layer, batch_size=batch_size)[0]
        for method in methods
    ]
    steps = []
    for name, copy in cascade(module, seed=seed):
        progress(name)
        moved = {}
        for own in first:
            again = explain_methods(
                copy, inputs, [own.method], target=own.targets, layer=_layers_of(own), batch_size=batch_size
            )[0]
            moved[own.method] = summarise(randomisation(own.maps, again.maps).tolist(), seed=seed)
        steps.append(CascadeStep(name, moved))
    return steps


def _layers_of(explanation: Explanation) -> Layers:
    """Return an explanation's layers by their paths, which are the copies' too; None where it has none."""
    takes_layer = find_method(explanation.method).takes_layer
    return explanation.layer.split(" + ") if takes_layer else None
