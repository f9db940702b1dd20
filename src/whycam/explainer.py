"""Model, images, target and method in; an explanation out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import nn

from whycam.engine import (
    STAGES,
    Address,
    Inputs,
    LayerChoice,
    StageChoice,
    address_of,
    capture,
    explaining,
    find_layer,
    stages_of,
)
from whycam.engine.inputs import with_shared
from whycam.engine.layers import choose_layer as choose_layer_of
from whycam.engine.nested import detached, joined
from whycam.errors import LayerError, MethodError, UsageError
from whycam.explanation import Explanation, Origin
from whycam.methods import Averaging, FirstComponent, Method, Smoothing, find_method
from whycam.methods.gradient import WeightedSum
from whycam.methods.registry import Explained, MethodFunction
from whycam.passes import Pass, passes_of
from whycam.targets import Finer, Target, TargetLike, as_target, join_targets
from whycam.types import CropGeometry, Images, Map

if TYPE_CHECKING:
    from PIL.Image import Image

MethodLike: TypeAlias = str | MethodFunction | Method
INPUT = "input"
"""What stands for the layer where a method looks at none."""
OF_THE_INPUT = "the method looks at the input itself, and at no layer"
ATTENTION = "attention"
"""What stands for the layer where a method looks at all self-attentions."""
OF_THE_ATTENTION = "the methods look at all of the model's self-attentions"

LayerLike: TypeAlias = str | nn.Module | LayerChoice
Layers: TypeAlias = LayerLike | StageChoice | Sequence[LayerLike] | None


@dataclass(frozen=True)
class _Asked:
    """A method with the layers that it is given, and why these."""

    method: Method
    addresses: tuple[Address, ...] = ()
    reason: str = OF_THE_INPUT


@runtime_checkable
class Prepared(Protocol):
    """Images as a model takes them, with the pictures they were made from."""

    @property
    def images(self) -> Images:
        """The preprocessed batch [B, C, H, W], on the model's device."""
        ...

    @property
    def pictures(self) -> Sequence["Image"]:
        """The original pictures, RGB."""
        ...

    @property
    def geometries(self) -> Sequence[CropGeometry]:
        """Which part of each picture the model sees."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """A name an image, for captions."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A model that knows how to read and preprocess its images, such as ``whycam.load`` returns."""

    @property
    def module(self) -> nn.Module:
        """The network."""
        ...

    @property
    def class_names(self) -> Sequence[str] | None:
        """The names of the classes in order, where they are known."""
        ...

    def prepare(self, sources: Any) -> Prepared:
        """Read and preprocess pictures given as paths or PIL images."""
        ...


@runtime_checkable
class Documented(Protocol):
    """A model that knows where it comes from; without this a run folder says that it is not known."""

    @property
    def reference(self) -> str:
        """What the model was loaded by."""
        ...

    @property
    def provenance(self) -> Any:
        """Where the weights come from: ``describe()`` in words, ``sha256`` of their file or None."""
        ...

    @property
    def preprocessing(self) -> Any:
        """How pictures become images; ``to_dict()`` gives plain values."""
        ...


def explain(
    model: nn.Module | Preparing,
    images: Any,
    *,
    method: MethodLike = "gradcam",
    target: TargetLike = None,
    layer: Layers = None,
    smoothing: Smoothing | None = None,
    batch_size: int | None = None,
) -> Explanation:
    """Explain a model's decision on images.

    ``model`` is any nn.Module with ``images`` [B, C, *size] already preprocessed, or what ``whycam.load``
    returns with image files. A model that takes more than images gets a tuple of its arguments, or a dict of
    them by name, such as a processor's answer; the first float tensor with a channel axis and a size is what
    is explained. ``target``: each image's top class, a class index, a target, a function from
    the outputs to [B] scores, or a sequence with one an image. ``layer``: chosen by tracing, a dotted path
    (``relu#2`` for its second call), a module, or several from shallow to deep, whose maps are fused; the
    word "stages" stands for the deepest fit layer at each resolution (and ``["stages"]`` for a module of that
    name). Without a layer, methods that fuse by themselves take the stages, and the others the chosen layer.
    ``batch_size`` bounds the memory. Raises a WhycamError that says what was wrong and the mend.
    """
    return _explain_all(model, images, [method], [target], layer, smoothing, batch_size)[0][0]


def explain_targets(
    model: nn.Module | Preparing,
    images: Any,
    targets: Sequence[TargetLike],
    *,
    method: MethodLike = "gradcam",
    layer: Layers = None,
    smoothing: Smoothing | None = None,
    batch_size: int | None = None,
) -> list[Explanation]:
    """Explain several targets from one forward; like ``explain`` otherwise. One explanation a target."""
    if not targets:
        raise UsageError("no targets; give at least one, such as targets=[0, 1]")
    return [rows[0] for rows in _explain_all(model, images, [method], targets, layer, smoothing, batch_size)]


def explain_methods(
    model: nn.Module | Preparing,
    images: Any,
    methods: Sequence[MethodLike],
    *,
    target: TargetLike = None,
    layer: Layers = None,
    smoothing: Smoothing | None = None,
    batch_size: int | None = None,
) -> list[Explanation]:
    """Explain by several methods that share one forward and backward; one explanation a method."""
    if not methods:
        raise UsageError("no methods; give at least one, such as methods=['gradcam', 'layercam']")
    return _explain_all(model, images, methods, [target], layer, smoothing, batch_size)[0]


def _explain_all(
    model: nn.Module | Preparing,
    images: Any,
    methods: Sequence[MethodLike],
    targets: Sequence[TargetLike],
    layer: Layers,
    smoothing: Smoothing | None,
    batch_size: int | None,
) -> list[list[Explanation]]:
    """Return explanations as [target][method]."""
    known = [find_method(method) for method in methods]
    for method in known:
        _check_smoothing(method, smoothing)
    module, inputs, prepared = ready(model, images)
    context = {} if prepared is None else _context(model, prepared)
    context["smoothing"] = smoothing
    rows = _in_batches(module, inputs, known, targets, layer, smoothing, batch_size)
    return [[replace(one, **context) for one in row] for row in rows]


def ready(model: nn.Module | Preparing, images: Any) -> tuple[nn.Module, Inputs, Prepared | None]:
    """Return the network, what goes into it, and what files were read, if any; raises UsageError."""
    if isinstance(model, nn.Module):
        return model, Inputs.of(images), None
    if isinstance(model, Preparing):
        prepared = model.prepare(images)
        return model.module, Inputs.of(prepared.images), prepared
    raise UsageError(
        f"the model is a {type(model).__name__}; give an nn.Module, or what whycam.load(...) returns"
    )


def _context(model: Any, prepared: Prepared) -> dict[str, Any]:
    origin = Origin()
    if isinstance(model, Documented):
        weights = model.provenance
        settings = model.preprocessing.to_dict()
        origin = Origin(model.reference, weights.describe(), weights.sha256, settings)
    return {
        "pictures": tuple(prepared.pictures),
        "geometries": tuple(prepared.geometries),
        "names": tuple(prepared.names),
        "class_names": None if model.class_names is None else tuple(model.class_names),
        "origin": origin,
    }


def choose_layer(model: nn.Module | Preparing, images: Any) -> LayerChoice:
    """Choose the layer to explain, by tracing one forward of the first image.

    ``model`` and ``images`` as for ``explain``. The answer carries its reason and the other candidates; it
    is remembered by architecture and input size. Raises LayerError where no layer is fit.
    """
    module, inputs, _ = ready(model, images)
    return choose_layer_of(module, inputs)


def _check_smoothing(method: Method, smoothing: Smoothing | None) -> None:
    if isinstance(smoothing, FirstComponent) and not isinstance(method.function, WeightedSum):
        raise MethodError(
            f"FirstComponent() reduces weighted channels, which {method.name!r} has not; "
            "use it with gradcam, gradcam++, xgradcam, hirescam, gradcam-elementwise or layercam"
        )
    if smoothing is None:
        return
    if isinstance(smoothing, type) or not isinstance(smoothing, FirstComponent | Averaging):
        raise MethodError(
            f"a {type(smoothing).__name__} is no smoothing; give FlipAverage(), NoiseAverage(), "
            "ScaleAverage() or FirstComponent()"
        )


def _in_batches(
    module: nn.Module,
    inputs: Inputs,
    methods: Sequence[Method],
    targets: Sequence[TargetLike],
    layer: Layers,
    smoothing: Smoothing | None,
    batch_size: int | None,
) -> list[list[Explanation]]:
    """Return explanations as [target][method]."""
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; expected at least 1")
    step = batch_size or len(inputs)
    whole = [as_target(target, len(inputs)) for target in targets]
    with explaining(module) as live:
        inputs = with_shared(live, inputs)
        asked = _asked(live, inputs, layer, methods)
        parts = []
        for start in range(0, len(inputs), step):
            batch = inputs.part(start, start + step) if step < len(inputs) else inputs
            some = [target.part(start, start + len(batch)) for target in whole]
            parts.append(_explain_batch(live, batch, asked, some, smoothing))
    if len(parts) == 1:
        return parts[0]
    return [
        [_joined([part[t][m] for part in parts], inputs.images) for m in range(len(methods))]
        for t in range(len(targets))
    ]


def _asked(module: nn.Module, inputs: Inputs, layer: Layers, methods: Sequence[Method]) -> list[_Asked]:
    """Return each method with its layers: none, those that were named, the stages, or the chosen one."""
    if not any(method.takes_layer for method in methods):
        return [_Asked(method) for method in methods]
    if layer is None:
        choice = find_layer(module, inputs)
        over_stages = any(method.takes_all_layers_at_once for method in methods)
        layer = stages_of(choice) if over_stages else choice
    if isinstance(layer, str) and layer == STAGES:
        fused = stages_of(find_layer(module, inputs))
        every = deepest = (_each_once(module, fused.paths), fused.reason)
    elif isinstance(layer, StageChoice):
        every = (_each_once(module, layer.paths), layer.reason)
        deepest = (every[0][-1:], layer.last)
    else:
        every = deepest = _named(module, layer)
    return [
        _Asked(method, *(every if method.takes_all_layers_at_once else deepest))
        if method.takes_layer
        else _Asked(method)
        for method in methods
    ]


def _named(module: nn.Module, layer: LayerLike | Sequence[LayerLike]) -> tuple[tuple[Address, ...], str]:
    """Return the addresses of layers that the caller gave, and why they were taken."""
    several = [layer] if isinstance(layer, str | nn.Module | LayerChoice) else list(layer)
    if not several:
        raise LayerError("no layers; give one, several, or None for the one chosen by tracing")
    reasons = [one.reason for one in several if isinstance(one, LayerChoice)]
    paths = [one.path if isinstance(one, LayerChoice) else one for one in several]
    return _each_once(module, paths), "; ".join(reasons) or "named by the caller"


def _each_once(module: nn.Module, layers: Sequence[str | nn.Module]) -> tuple[Address, ...]:
    return tuple(dict.fromkeys(address_of(module, one) for one in layers))


def _explain_batch(
    module: nn.Module,
    inputs: Inputs,
    asked: Sequence[_Asked],
    targets: Sequence[Target],
    smoothing: Smoothing | None,
) -> list[list[Explanation]]:
    """Return explanations as [target][what is asked], from one forward."""
    layers = list(dict.fromkeys(address for one in asked for address in one.addresses))
    clean = capture(module, inputs, layers, suffixes=any(one.method.runs_suffix for one in asked))
    kinds = tuple(dict.fromkeys(one.method.explained for one in asked))
    pinned = [_explained(target, kind).pin(clean.outputs) for target in targets for kind in kinds]
    passes = passes_of(module, inputs, clean, pinned)
    own = [[one for one in asked if one.method.explained == kind] for _ in targets for kind in kinds]
    if isinstance(smoothing, Averaging):
        maps = _averaged(passes, layers, own, smoothing)
    else:
        maps = [
            [each.map(one.method, smoothing, one.addresses) for one in some]
            for each, some in zip(passes, own, strict=True)
        ]
    found = [
        [_explanation(each, one, its_map) for one, its_map in zip(some, row, strict=True)]
        for each, some, row in zip(passes, own, maps, strict=True)
    ]
    return [_in_order(found[at : at + len(kinds)], kinds, asked) for at in range(0, len(found), len(kinds))]


def _explained(target: Target, kind: Explained) -> Target:
    """Return what a method explains of a target; a comparison that is asked for already stays as it is."""
    return target if kind == "target" or isinstance(target, Finer) else Finer(target)


def _in_order(
    found: Sequence[Sequence[Explanation]], kinds: Sequence[Explained], asked: Sequence[_Asked]
) -> list[Explanation]:
    """Bring one target's explanations, grouped by what was explained, into the order that was asked for."""
    waiting = {kind: iter(some) for kind, some in zip(kinds, found, strict=True)}
    return [next(waiting[one.method.explained]) for one in asked]


def _averaged(
    clean: Sequence[Pass],
    layers: Sequence[Address],
    asked: Sequence[Sequence[_Asked]],
    smoothing: Averaging,
) -> list[list[Map]]:
    """Return each target's maps by what is asked for it, averaged over the views.

    ``clean`` are the passes of the images as they are, which serve where a view is just these.
    """
    module, inputs = clean[0].batch.module, clean[0].inputs
    sums: list[list[Any]] = [[0 for _ in some] for some in asked]
    suffixes = any(one.method.runs_suffix for some in asked for one in some)
    count = 0
    for images, undo in smoothing.views(inputs.images):
        count += 1
        passes = clean
        if images is not inputs.images:
            view = inputs.with_images(images)
            seen = capture(module, view, layers, suffixes=suffixes)
            moved = [one.target.in_view(undo, tuple(images.shape[2:])) for one in clean]
            passes = passes_of(module, view, seen, moved)
        for row, each, some in zip(sums, passes, asked, strict=True):
            row[:] = [
                total + undo(each.map(one.method, None, one.addresses))
                for total, one in zip(row, some, strict=True)
            ]
    return [[total / count for total in row] for row in sums]


def _explanation(one: Pass, asked: _Asked, maps: Map) -> Explanation:
    maps = maps.detach()
    maps = maps if maps.dtype == torch.float64 else maps.float()
    classes = one.target.classes(one.capture.outputs)
    none = torch.full((len(maps),), -1, device=maps.device)
    peak = None
    if "gradients" in asked.method.needs:
        peak = torch.stack([one.gradient_peaks[place] for place in one.places_of(asked.addresses)]).amax(0)
    layer, reason = " + ".join(map(str, asked.addresses)) or INPUT, asked.reason
    if asked.method.takes_attention:
        layer, reason = ATTENTION, one.batch.attention.describe()
    return Explanation(
        maps=maps,
        scores=one.scores.detach(),
        targets=one.target,
        classes=none if classes is None else classes,
        outputs=detached(one.capture.outputs),
        layer=layer,
        reason=reason,
        method=asked.method.name,
        size=tuple(one.inputs.images.shape[2:]),
        blank=(maps == 0).flatten(1).all(1),
        images=one.inputs.images.detach(),
        gradient_peak=peak,
    )


def _joined(parts: Sequence[Explanation], images: Images) -> Explanation:
    """Join the explanations of consecutive batches into one."""
    first = parts[0]
    counts = [len(part) for part in parts]
    peaks = [part.gradient_peak for part in parts if part.gradient_peak is not None]
    return replace(
        first,
        maps=torch.cat([part.maps for part in parts]),
        scores=torch.cat([part.scores for part in parts]),
        targets=join_targets([part.targets for part in parts], counts),
        classes=torch.cat([part.classes for part in parts]),
        outputs=joined([part.outputs for part in parts], counts),
        blank=torch.cat([part.blank for part in parts]),
        images=images.detach(),
        gradient_peak=torch.cat(peaks) if peaks else None,
    )
