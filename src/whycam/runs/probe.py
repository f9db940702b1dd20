"""Before anything is written: one image through everything that was asked for."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from whycam.engine import STAGES, StageChoice, choose_layer, stages_of
from whycam.errors import AbsentError, EngineError, WhycamError
from whycam.explainer import ATTENTION, INPUT, OF_THE_ATTENTION, OF_THE_INPUT, explain_methods
from whycam.methods import find_method
from whycam.models import LoadedModel
from whycam.models.messages import one_line
from whycam.models.source import fixed_seed
from whycam.runs.reading import Planned, Seen, reader
from whycam.runs.request import RunRequest
from whycam.store import LayerRecord
from whycam.types import Images

SEED = 0
_MOST_TRIED = 32


def stand_in_image(model: LoadedModel) -> Images:
    """Return noise [1, C, H, W] of the size that the model takes, always the same: for no image at hand."""
    shape = (1, model.preprocessing.channels, *model.preprocessing.size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    return model.as_input(noise)


def first_images(request: RunRequest, plan: Iterable[Planned]) -> Iterator[Images]:
    """Give the first pictures of the plan that can be read, each preprocessed [1, C, H, W].

    A stand-in where the first few cannot: that is each image's own error, not the run's.
    """
    read = reader(request.model.preprocessing, request.max_pixels)
    some = False
    for planned in islice(plan, _MOST_TRIED):
        seen = read(planned)
        if isinstance(seen, Seen):
            some = True
            yield request.model.as_input(seen.view.unsqueeze(0))
    if not some:
        yield stand_in_image(request.model)


def settle_layer(request: RunRequest, images: Iterable[Images], earlier: LayerRecord | None) -> LayerRecord:
    """Settle which layer is explained, and prove on one image that the run can be done.

    That is the first image that holds what the target speaks of. ``earlier`` is the layer of the run that is
    resumed. Raises LayerError, TargetError, MethodError or EngineError for what would fail on every image,
    AbsentError where none of the first ones holds it.
    """
    absent: AbsentError | None = None
    tried = 0
    for image in images:
        tried += 1
        try:
            return _proven_layer(request, image, earlier)
        except AbsentError as error:
            absent = error
    where = f"any of the first {tried} images" if tried > 1 else "the image"
    raise AbsentError(f"what is asked for is not in {where}; {absent}")


def _proven_layer(request: RunRequest, image: Images, earlier: LayerRecord | None) -> LayerRecord:
    try:
        layer = _layer(request, image, earlier)
        with fixed_seed():
            explain_methods(
                request.model.module,
                image,
                request.methods,
                target=request.target,
                layer=layers_for(request, layer),
                smoothing=request.smoothing,
            )
    except WhycamError:
        raise
    # the model's own code may raise anything, and on the first image it is the run's error
    except Exception as error:
        size = " x ".join(map(str, image.shape[2:]))
        raise EngineError(
            f"the model failed on its first image, {image.shape[1]} channel(s) of {size}: "
            f"{type(error).__name__}: {one_line(error)}; check --size, --weights and the model's own code"
        ) from error
    return layer


def _layer(request: RunRequest, image: Images, earlier: LayerRecord | None) -> LayerRecord:
    methods = [find_method(method) for method in request.methods]
    if all(method.takes_attention and not method.takes_layer for method in methods):
        return LayerRecord(paths=(ATTENTION,), reason=OF_THE_ATTENTION)
    if not any(method.takes_layer for method in methods):
        return LayerRecord(paths=(INPUT,), reason=OF_THE_INPUT)
    if request.layers and request.layers != (STAGES,):
        return LayerRecord(paths=request.layers, reason="given with --layer")
    if earlier is not None:
        return earlier
    choice = choose_layer(request.model.module, image)
    if request.layers or _over_stages(request):
        stages = stages_of(choice)
        others = [method for method in request.methods if find_method(method).takes_layer]
        others = [method for method in others if not request.layers and not _is_over_stages(method)]
        only = f"; {', '.join(others)}: the last one, {choice.reason}" if others else ""
        return LayerRecord(paths=stages.paths, reason=stages.reason + only)
    return LayerRecord(paths=(choice.path,), reason=choice.reason)


def _is_over_stages(method: str) -> bool:
    return find_method(method).takes_all_layers_at_once


def _over_stages(request: RunRequest) -> bool:
    return any(map(_is_over_stages, request.methods))


def layers_for(request: RunRequest, layer: LayerRecord) -> tuple[str, ...] | StageChoice:
    """Return the settled layers as ``explain_methods`` takes them."""
    return layers_of(request.methods, layer, given=bool(request.layers))


def layers_of(methods: Sequence[str], layer: LayerRecord, *, given: bool) -> tuple[str, ...] | StageChoice:
    """Return a run's layers as ``explain_methods`` takes them for these methods.

    Where nobody gave them, methods that fuse by themselves take all, and the others the last one.
    """
    if given or not any(map(_is_over_stages, methods)):
        return layer.paths
    return StageChoice(layer.paths, layer.reason, layer.reason)
