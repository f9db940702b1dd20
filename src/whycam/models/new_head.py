"""Load a network for new classes: trained weights where they fit, and a new head where they can't."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from whycam.errors import ModelError, TargetError, UsageError
from whycam.models.fitting import fit_keys, load_strictly
from whycam.models.loaded import LoadedModel, Provenance
from whycam.models.messages import one_line
from whycam.models.network import renamed
from whycam.models.references import model_of, refuse_clashes, source_of, usable_device
from whycam.models.sidecar import sidecar_beside
from whycam.models.source import Built, ModelOptions, ModelSource, fixed_seed, settled_preprocessing
from whycam.models.weights import StateDict, WeightsFile, is_weights_file, read_weights
from whycam.targets import logits_of

_MEND = "give weights of this architecture, or leave them out"


@dataclass(frozen=True)
class _Start:
    """Trained weights to start from, their kind, and the preprocessing that is published with them."""

    weights: WeightsFile
    provenance: Provenance
    built: Built | None = None


def load_with_new_head(
    reference: str,
    class_names: Sequence[str],
    options: ModelOptions,
    *,
    weights: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load a classifier with one output for each of ``class_names``, to be trained.

    The reference, ``weights`` and ``download`` are as for `whycam.models.load`, and so is the file that
    ``whycam train`` wrote beside the weights. The head, which is whatever changes its shape with the number
    of classes, keeps its random values where the weights have none of its shape; the rest is loaded whole or
    not at all. Random values are drawn from ``seed``. The outputs are counted in a forward.

    Raises ModelError, WeightsError or UsageError, each with the mend in its one line.
    """
    if weights is None and not download and is_weights_file(reference):
        weights, reference = reference, model_of(reference)
    refuse_clashes(options, weights, download=download)
    place = usable_device(device)
    options = replace(_as_trained(options, weights, reference), num_classes=None)
    with torch.inference_mode(False), torch.device("cpu"), fixed_seed(seed):
        source = source_of(reference, options)
        built = _built(source, len(class_names))
        start = _start(source, one_line(reference), weights, download=download)
        if start is None:
            provenance = _drawn(source.unweighted, seed)
        else:
            notes = _fill(source, built, start.weights, len(class_names), one_line(reference))
            provenance = replace(start.provenance, notes=notes)
        # also of random weights: what is trained with it must be loaded with it
        source.set_trained(built.module)
    own = start.built if start and start.built else built
    model = LoadedModel(
        module=built.module.to(place).eval(),
        preprocessing=settled_preprocessing(options, own.preprocessing, one_line(reference)),
        class_names=tuple(class_names),
        reference=reference,
        provenance=provenance,
        device=place,
        needs_clips=built.needs_clips,
    )
    model.check_takes_pictures()
    _check_outputs(model, built, len(class_names))
    return model


def _as_trained(options: ModelOptions, weights: str | Path | None, reference: str) -> ModelOptions:
    beside = None if weights is None else sidecar_beside(weights)
    if beside is None or options.preprocessing is not None:
        return options
    settled = settled_preprocessing(options, beside.preprocessing, one_line(reference))
    return ModelOptions(preprocessing=settled)


def _built(source: ModelSource, count: int) -> Built:
    try:
        return source.build(count)
    except UsageError as refusal:
        # a function that takes no number of classes may have the right one inside: the forward says
        try:
            return source.build(None)
        except UsageError:
            raise refusal from None


def _start(
    source: ModelSource, reference: str, weights: str | Path | None, *, download: bool
) -> _Start | None:
    if download and source.fetch is not None:
        source = source.fetch()
    elif download:
        return _published(source, reference)
    path = source.own_weights if weights is None else weights
    if path is None:
        if download:
            raise ModelError(f"no weights are published for {reference}; give a file with --weights")
        return None
    if not source.takes_weights:
        raise UsageError(f"{reference} brings its own weights; leave weights out")
    read = read_weights(path)
    return _Start(renamed(source, read), Provenance("file", name=read.name, sha256=read.sha256))


def _published(source: ModelSource, reference: str) -> _Start:
    if source.download is None:
        raise UsageError(
            f"there are no published weights for {reference}; leave download out, or give a file with "
            "--weights"
        )
    published = source.download()
    weights = WeightsFile(published.name, "", published.built.module.state_dict())
    return _Start(weights, Provenance("pretrained", name=published.name), published.built)


def _drawn(unweighted: Provenance, seed: int) -> Provenance:
    return replace(unweighted, notes=(f"seed {seed}",)) if unweighted.kind == "random" else unweighted


def _fill(
    source: ModelSource, built: Built, weights: WeightsFile, count: int, reference: str
) -> tuple[str, ...]:
    """Load the weights, but for a head of another shape or of none; say in the notes what was done."""
    own = built.module.state_dict()
    fitted = fit_keys(source.convert(weights, count), own)
    new = [
        key
        for key in _head_keys(source, count)
        if key in own and (key not in fitted.tensors or fitted.tensors[key].shape != own[key].shape)
    ]
    tensors = {**fitted.tensors, **{key: own[key] for key in new}}
    load_strictly(built.module, replace(fitted, tensors=tensors), owner=reference, mend=_MEND)
    return (*fitted.notes, *((f"a new head of {count} classes, with random weights",) if new else ()))


def _head_keys(source: ModelSource, count: int) -> list[str]:
    """Name what changes its shape with the number of classes."""
    try:
        outlines: list[StateDict] = [source.outline(count), source.outline(count + 1)]
    except UsageError:  # a function that takes no number of classes has no head to be replaced
        return []
    less, more = outlines
    return [key for key in less if key in more and less[key].shape != more[key].shape]


def _check_outputs(model: LoadedModel, built: Built, count: int) -> None:
    """Put two blank images through the network, and refuse what is no score for each class."""
    height, width = model.preprocessing.size
    images = torch.zeros(2, model.preprocessing.channels, height, width, device=model.device)
    reference = one_line(model.reference, 80)
    try:
        with torch.no_grad():
            scores = logits_of(model.module(images))
    except TargetError as error:
        raise UsageError(
            f"{reference} is no classifier: {str(error).partition(';')[0]}; expected scores of classes; "
            "choose one that gives them, such as timm:resnet18"
        ) from error
    # a network can fail on an input in as many ways as there are networks
    except Exception as error:
        raise ModelError(
            f"{reference} fails on images {list(images.shape)}: {type(error).__name__}: "
            f"{one_line(error, 120)}; give another --size, or mend the network"
        ) from error
    if built.embed_text is not None or scores.shape != (2, count):
        kind = "values of an embedding" if built.embed_text is not None else "outputs"
        raise UsageError(
            f"{reference} gives {scores.shape[-1]} {kind} an image; expected {count}, one for each class; "
            "choose a classifier whose head takes a number of classes, such as timm:resnet18"
        )
