"""One target on one captured forward: what methods ask for by name is made here, when the first one asks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam.engine import Address, Capture, Inputs, capture
from whycam.engine.activations import scores_of_activations, slopes_of_activations
from whycam.engine.attention import AttentionRun, attend
from whycam.engine.biases import sum_of_parts
from whycam.engine.curvature import hessian_product
from whycam.engine.head import class_weights
from whycam.engine.lift import multipliers
from whycam.engine.suffix import Suffix
from whycam.engine.variants import scores_of_images, slopes_of_images
from whycam.errors import MethodError
from whycam.methods import (
    FirstComponent,
    Method,
    ScoresOf,
    Slope,
    SlopesOf,
    Smoothing,
    Stage,
    SumOfParts,
    Tokens,
    fuse,
)
from whycam.methods.activation import first_component
from whycam.methods.gradient import WeightedSum
from whycam.methods.needs import Into, Make, Penalty, SlopesByRule, SuffixSlopesOf
from whycam.methods.registry import MethodFunction
from whycam.targets import Target
from whycam.types import Activations, Gradients, Images, Map, Rows, Rule, Scores


@dataclass(frozen=True, eq=False)
class Batch:
    """A captured forward with all targets that are explained on it, and what they share.

    ``shared`` keeps each target's scores [T, N] of variants that don't depend on the target, by their name;
    ``suffixes`` what follows each layer, ready to be run alone.
    """

    module: nn.Module
    inputs: Inputs
    capture: Capture
    targets: tuple[Target, ...]
    shared: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    suffixes: dict[int, Suffix] = field(default_factory=dict)

    def suffix(self, layer: int) -> Suffix:
        """Return what follows the layer; all targets and methods share it."""
        if layer not in self.suffixes:
            found = self.capture.layers[layer]
            recording = self.capture.recordings[layer] if self.capture.recordings else None
            self.suffixes[layer] = Suffix(self.module, self.inputs, found, self.capture.outputs, recording)
        return self.suffixes[layer]

    @cached_property
    def attention(self) -> AttentionRun:
        """A forward with all its attentions, for all targets and methods."""
        return attend(self.module, self.inputs)


def passes_of(module: nn.Module, inputs: Inputs, capture: Capture, targets: Sequence[Target]) -> list["Pass"]:
    """Return a pass a target; they share what does not depend on the target."""
    batch = Batch(module, inputs, capture, tuple(targets))
    return [Pass(batch, place) for place in range(len(targets))]


@dataclass(frozen=True)
class Pass:
    """One of a batch's targets, by its place."""

    batch: Batch
    place: int

    @property
    def capture(self) -> Capture:
        """The captured forward."""
        return self.batch.capture

    @property
    def inputs(self) -> Inputs:
        """What went into the model."""
        return self.batch.inputs

    @property
    def target(self) -> Target:
        """What is explained, pinned to this batch."""
        return self.batch.targets[self.place]

    @cached_property
    def scores(self) -> Scores:
        """The target's scores [B], with autograd where a layer was captured."""
        return self.capture.score(self.target)

    @cached_property
    def gradients(self) -> tuple[Gradients, ...]:
        """The scores' gradients at each captured layer, in the order they were named."""
        return self.capture.gradients(self.scores)

    @cached_property
    def gradient_peaks(self) -> tuple[Scores, ...]:
        """The gradients' largest magnitude in each image [B], by captured layer; all methods share it."""
        return tuple(gradients.abs().flatten(1).amax(1) for gradients in self.gradients)

    @cached_property
    def activations(self) -> tuple[Activations, ...]:
        """The activations of each captured layer, in the order they were named."""
        return tuple(layer.activations() for layer in self.capture.layers)

    @cached_property
    def attention_scores(self) -> Scores:
        """The target's scores [B], with autograd from the attentions on."""
        return self.batch.attention.score(self.target)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The captured layers from shallow to deep, as the model runs them, however they were named."""
        depths = [layer.depth for layer in self.capture.layers]
        return tuple(sorted(range(len(depths)), key=depths.__getitem__))

    def places_of(self, layers: Sequence[Address]) -> tuple[int, ...]:
        """Return where these of the captured layers are, from shallow to deep."""
        return tuple(place for place in self.order if self.capture.layers[place].address in layers)

    def map(self, method: Method, smoothing: Smoothing | None, layers: Sequence[Address]) -> Map:
        """Return the method's map of these layers, fused where there are several."""
        function = method.function
        if isinstance(smoothing, FirstComponent) and isinstance(function, WeightedSum):
            function = _first_component_of(function)
        places = self.places_of(layers)
        once = method.takes_all_layers_at_once or not method.takes_layer
        maps = [
            _computed(function, {need: PROVIDERS[need](self, layer) for need in method.needs}, self.inputs)
            for layer in (places[-1:] or (0,) if once else places)
        ]
        for found in maps:
            _check_map(found, method, self.inputs.images)
        return maps[0] if len(maps) == 1 else fuse(maps)


Provider: TypeAlias = Callable[[Pass, int], Any]
"""Gives what a method asks for under a name, for one of the captured layers."""


def _class_weights(one: Pass, layer: int) -> Tensor:
    return class_weights(one.batch.module, one.inputs, one.capture, one.target, layer)


def _hessian_product(one: Pass, layer: int) -> Gradients:
    return hessian_product(one.batch.module, one.inputs, one.capture, one.target, layer)


def _gradients_of(one: Pass, layer: int) -> Callable[[Images], Gradients]:
    address = one.capture.layers[layer].address

    def gradients_of(images: Images) -> Gradients:
        changed = capture(one.batch.module, one.inputs.with_images(images), [address])
        return changed.gradients(changed.score(one.target))[0]

    return gradients_of


def _stages(one: Pass, layer: int) -> tuple[Stage, ...]:
    return tuple(Stage(one.activations[each], one.gradients[each]) for each in one.order)


def _scores_of(one: Pass, layer: int) -> ScoresOf:
    batch = one.batch

    def score(targets: Sequence[Target], rows: Rows, make: Make) -> Tensor:
        return scores_of_images(batch.module, batch.inputs, targets, rows, make)

    return _shared_between_targets(one, layer, score)


def _suffix_scores_of(one: Pass, layer: int) -> ScoresOf:
    def score(targets: Sequence[Target], rows: Rows, make: Make) -> Tensor:
        return scores_of_activations(one.batch.suffix(layer), targets, rows, make)

    return _shared_between_targets(one, layer, score)


def _shared_between_targets(
    one: Pass, layer: int, score: Callable[[Sequence[Target], Rows, Make], Tensor]
) -> ScoresOf:
    """Score for this target alone, or under a name once for all targets of the batch."""

    def scores_of(rows: Rows, make: Make, *, known_as: str | None = None) -> Scores:
        if known_as is None:
            return score([one.target], rows, make)[0]
        key = (known_as, layer)
        if key not in one.batch.shared:
            one.batch.shared[key] = score(one.batch.targets, rows, make)
        return one.batch.shared[key][one.place]

    return scores_of


def _slopes_of(one: Pass, layer: int, rule: Rule | None = None) -> SlopesOf:
    def slopes_of(
        rows: Rows, points: Make, *, into: Into | None = None, penalty: Penalty | None = None
    ) -> Iterator[Slope]:
        found = slopes_of_images(one.batch.module, one.inputs, one.target, rows, points, into, penalty, rule)
        return (Slope(*slope) for slope in found)

    return slopes_of


def _sum_of_parts(one: Pass, layer: int) -> SumOfParts:
    return lambda reduce: sum_of_parts(one.batch.module, one.inputs, one.target, reduce)


def _tokens(one: Pass, layer: int) -> Tokens:
    run = one.batch.attention
    return Tokens(run.first, run.grid, run.rows_read(one.attention_scores))


def _slopes_by_rule(one: Pass, layer: int) -> SlopesByRule:
    return lambda rule: _slopes_of(one, layer, rule)


def _suffix_slopes_of(one: Pass, layer: int) -> SuffixSlopesOf:
    def slopes_of(rows: Rows, points: Make) -> Iterator[Slope]:
        found = slopes_of_activations(one.batch.suffix(layer), one.target, rows, points)
        return (Slope(*slope) for slope in found)

    return slopes_of


PROVIDERS: Mapping[str, Provider] = {
    "images": lambda one, layer: one.inputs.images.detach(),
    "scores": lambda one, layer: one.scores.detach(),
    "activations": lambda one, layer: one.activations[layer],
    "gradients": lambda one, layer: one.gradients[layer],
    "hessian_product": _hessian_product,
    "class_weights": _class_weights,
    "gradients_of": _gradients_of,
    "stages": _stages,
    "scores_of": _scores_of,
    "suffix_scores_of": _suffix_scores_of,
    "slopes_of": _slopes_of,
    "sum_of_parts": _sum_of_parts,
    "attentions": lambda one, layer: one.batch.attention.attentions(),
    "attention_gradients": lambda one, layer: one.batch.attention.gradients(one.attention_scores),
    "block_gradients": lambda one, layer: one.batch.attention.block_gradients(one.target),
    "tokens": _tokens,
    "slopes_by_rule": _slopes_by_rule,
    "suffix_multipliers": lambda one, layer: multipliers(one.batch.suffix(layer), one.target),
    "suffix_slopes_of": _suffix_slopes_of,
}


def _computed(function: MethodFunction, given: Mapping[str, Any], inputs: Inputs) -> Map:
    """Call a method outside of the caller's autocast: its sums are in float32. The model runs inside."""
    device = inputs.images.device.type
    if not torch.is_autocast_enabled(device):
        return function(**given)
    dtype = torch.get_autocast_dtype(device)

    def on() -> AbstractContextManager[Any]:
        return torch.autocast(device, dtype)

    def off() -> AbstractContextManager[Any]:
        return torch.autocast(device, enabled=False)

    given = {need: _inside(on, value, off) for need, value in given.items()}
    with off():
        return function(**given)


Around: TypeAlias = Callable[[], AbstractContextManager[Any]]


def _inside(one: Around, value: Any, other: Around) -> Any:
    """Return a function or an iterator that runs inside ``one``, and functions given to it inside ``other``.

    Other values stay as they are.
    """
    if isinstance(value, Iterator):
        return _steps_inside(one, value)
    if not callable(value):
        return value

    def call(*args: Any, **named: Any) -> Any:
        args = tuple(_inside(other, each, one) for each in args)
        named = {name: _inside(other, each, one) for name, each in named.items()}
        with one():
            found = value(*args, **named)
        return _inside(one, found, other)

    return call


def _steps_inside(around: Around, values: Iterator[Any]) -> Iterator[Any]:
    missing = object()
    while True:
        with around():
            value = next(values, missing)
        if value is missing:
            return
        yield value


def _first_component_of(function: WeightedSum) -> MethodFunction:
    def reduced(activations: Activations, gradients: Gradients) -> Map:
        return first_component(function.weights(activations, gradients) * activations)

    return reduced


def _check_map(maps: Any, method: Method, images: Images) -> None:
    axes = images.ndim - 1
    if not isinstance(maps, Tensor) or maps.ndim != axes or len(maps) != len(images):
        got = list(maps.shape) if isinstance(maps, Tensor) else f"a {type(maps).__name__}"
        raise MethodError(
            f"method {method.name!r} gave {got} for {len(images)} images; expected maps [batch, *grid], "
            f"{axes} axes for images {list(images.shape)}"
        )
