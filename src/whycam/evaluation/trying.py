"""Which methods a comparison has: by name or by cost, those that run on the model, and how long they take."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.data import find_images
from whycam.engine import STAGES, address_of, capture, explaining
from whycam.engine.inputs import Inputs, with_shared
from whycam.errors import MethodError, WhycamError
from whycam.explainer import ATTENTION, INPUT, explain_methods
from whycam.explanation import Explanation
from whycam.methods import METHODS, find_method
from whycam.methods.costs import FEW, forwards_of
from whycam.models.source import fixed_seed
from whycam.runs.probe import first_images, layers_for, settle_layer
from whycam.runs.reading import Planned
from whycam.runs.request import RunRequest
from whycam.store import LayerRecord

Advance: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is finished, and how much is planned."""

CHEAP, ALL = "cheap", "all"
_TIMED_IMAGES = 8


def methods_named(text: str) -> tuple[str, ...]:
    """Return the methods that ``cheap``, ``all`` or names with commas stand for. Raises MethodError.

    Cheap are those of a few forwards and backwards by their registered cost; neither word means controls,
    which are measured in any case.
    """
    if text not in (CHEAP, ALL):
        return tuple(dict.fromkeys(find_method(name.strip()).name for name in text.split(",")))
    known = [method for method in METHODS.values() if method.kind != "control"]
    return tuple(one.name for one in known if text == ALL or forwards_of(one) <= FEW)


@dataclass(frozen=True, eq=False)
class Tried:
    """The methods that run on the model, and why each other one doesn't.

    ``times`` are those of an explanation, by method, beside a bare forward of the same images, which takes
    ``forward_seconds`` an image. ``outputs`` are the model's for the first images.
    """

    methods: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    times: Mapping[str, float]
    forward_seconds: float
    outputs: Any


def try_methods(run: RunRequest, advance: Advance) -> Tried:
    """Explain the first image by each method of a run, and time it.

    Raises MethodError where none of several runs, what the only one raises, and LayerError for a layer that
    the model doesn't have, whatever the methods.
    """
    _check_layers(run)
    few = list(islice(_first_images(run), _TIMED_IMAGES))
    layers: dict[str, LayerRecord] = {}
    left_out: dict[str, WhycamError] = {}
    for place, method in enumerate(run.methods):
        advance("trying methods", place, len(run.methods))
        try:
            layers[method] = settle_layer(replace(run, methods=(method,)), few, None)
        except WhycamError as error:
            left_out[method] = error
    if not layers:
        first = next(iter(left_out.values()))
        if len(left_out) == 1:
            raise first
        raise MethodError(f"none of the {len(left_out)} methods runs on this model; the first says: {first}")
    images = _of_one_size(few)
    forward = {count: _seconds_of_forward(run, images[:count]) for count in (1, len(images))}
    times, outputs = {}, None
    for place, (method, layer) in enumerate(layers.items()):
        advance("timing methods", place, len(layers))
        count = len(images) if forwards_of(find_method(method)) <= FEW else 1
        seconds, explained = _seconds_of(replace(run, methods=(method,)), images[:count], layer)
        times[method] = seconds / forward[count]
        outputs = explained.outputs
    reasons = tuple((method, str(error)) for method, error in left_out.items())
    return Tried(tuple(layers), reasons, times, forward[len(images)] / len(images), outputs)


def _check_layers(run: RunRequest) -> None:
    """Refuse a layer that is not there: methods that look at no layer would be compared without a word."""
    if run.layers == (STAGES,):
        return
    with explaining(run.model.module) as live:
        for path in run.layers:
            address_of(live, path)


def layer_sizes(run: RunRequest, layer: LayerRecord) -> tuple[float, float]:
    """Return the deepest layer's channels and cells; infinite where methods look at no layer."""
    if layer.paths in ((INPUT,), (ATTENTION,)):
        return math.inf, math.inf
    with explaining(run.model.module) as live:
        inputs = with_shared(live, Inputs(next(_first_images(run))))
        found = capture(live, inputs, [address_of(live, layer.paths[-1])]).layers[0].activations()
    return float(found.shape[1]), float(found[0, 0].numel())


def _first_images(run: RunRequest) -> Iterator[Tensor]:
    plan = (Planned(index, item) for index, item in enumerate(find_images(run.sources)))
    return first_images(run, plan)


def _of_one_size(images: Sequence[Tensor]) -> Tensor:
    return torch.cat([image for image in images if image.shape == images[0].shape])


def _seconds_of(run: RunRequest, images: Tensor, layer: LayerRecord) -> tuple[float, Explanation]:
    def explained() -> Explanation:
        with fixed_seed():
            layers = layers_for(run, layer)
            return explain_methods(
                run.model.module,
                images,
                run.methods,
                target=run.target,
                layer=layers,
                smoothing=run.smoothing,
            )[0]

    return _timed(explained, images)


def _seconds_of_forward(run: RunRequest, images: Tensor) -> float:
    def forward() -> Any:
        with torch.no_grad():
            return live(images)

    with explaining(run.model.module) as live:
        forward()  # the first one also prepares
        return min(_timed(forward, images)[0] for _ in range(3))


def _timed(work: Callable[[], Any], images: Tensor) -> tuple[float, Any]:
    """Return how long work takes, until the device has done it, and what it gives."""
    _wait_for(images)
    start = time.perf_counter()
    found = work()
    _wait_for(images)
    return time.perf_counter() - start, found


def _wait_for(images: Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
