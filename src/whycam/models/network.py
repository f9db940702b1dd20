"""From a model source to a network: with random weights, with a file's, or with the published ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from whycam.errors import ModelError, UsageError
from whycam.models.fitting import fit_keys, head_classes, keys_fit, load_partially, load_strictly
from whycam.models.loaded import Provenance
from whycam.models.source import Built, ModelOptions, ModelSource, refuse_other_classes
from whycam.models.weights import WeightsFile, read_weights, state_sha256


@dataclass(frozen=True)
class Network:
    """A built network, where its weights are from, and its classes as far as they are known.

    ``refill`` is as in `LoadedModel`.
    """

    built: Built
    provenance: Provenance
    class_names: tuple[str, ...] | None
    class_count: int | None
    refill: Callable[[Path], Provenance] | None = None


def unweighted_network(source: ModelSource, options: ModelOptions) -> Network:
    """Build the network with the weights it has when none are asked for: random ones, mostly."""
    built = source.build(options.num_classes)
    count = source.default_classes if options.num_classes is None else options.num_classes
    provenance = source.unweighted
    if provenance.kind == "factory":  # no reference, seed or file says which weights these are
        provenance = replace(provenance, sha256=state_sha256(built.module.state_dict()))
    return Network(built, provenance, _names_of(source, count), count)


def published_network(source: ModelSource, reference: str, options: ModelOptions) -> Network:
    """Build the network with its published weights. Raises UsageError where there are none."""
    if source.fetch is not None:
        fetched = source.fetch()
        if fetched.own_weights is None:
            raise ModelError(f"no weights are published for {reference}; give a file with --weights")
        return own_network(fetched, reference, fetched.own_weights, options)
    if source.download is None:
        raise UsageError(
            f"there are no published weights for {reference}; leave download out, "
            "or give a file with --weights"
        )
    published = source.download()
    count = None if published.class_names is None else len(published.class_names)
    provenance = Provenance("pretrained", name=published.name)
    return Network(published.built, provenance, published.class_names, count)


def own_network(source: ModelSource, reference: str, path: Path, options: ModelOptions) -> Network:
    """Build the network with the weights that come with its reference, and so with its classes.

    Raises UsageError for another number of classes, whose head would be random.
    """
    refuse_other_classes(options, source.default_classes, reference)
    network = weighted_network(source, reference, path, options)
    return replace(network, class_names=_names_of(source, network.class_count))


def _names_of(source: ModelSource, count: int | None) -> tuple[str, ...] | None:
    names = source.class_names
    return names if names is None or count in (None, len(names)) else None


def weighted_network(source: ModelSource, reference: str, path: str | Path, options: ModelOptions) -> Network:
    """Build the network with a file's weights, its number of classes read from them unless given.

    Raises WeightsError when the file cannot be read safely, or does not fit: whole, or with
    ``options.allow_partial`` in one key at least.
    """
    if not source.takes_weights:
        raise UsageError(f"{reference} brings its own weights; leave weights out")
    weights = renamed(source, read_weights(path))
    read_count = _classes_read(source, weights) if options.num_classes is None else None
    count = options.num_classes if read_count is None else read_count
    built = source.build(count)
    fitted = fit_keys(source.convert(weights, count), built.module.state_dict())
    part = None
    if options.allow_partial:
        part = load_partially(built.module, fitted, owner=reference)
    else:
        load_strictly(built.module, fitted, owner=reference)
    notes = [*fitted.notes, *(part.notes if part else ())]
    if read_count is not None:
        notes.append(f"{read_count} classes read from the weights' head")
    notes += source.set_trained(built.module)
    if source.preprocessing_of and options.preprocessing is None:
        notes.append(f"preprocessing of {source.preprocessing_of}")
    provenance = Provenance(
        "file",
        name=weights.name,
        sha256=weights.sha256,
        notes=tuple(notes),
        loaded=None if part is None else (part.loaded, part.total),
    )
    refill = partial(_refilled, built.module, source, reference, count)
    return Network(built, provenance, None, source.default_classes if count is None else count, refill)


def _refilled(
    module: nn.Module, source: ModelSource, reference: str, count: int | None, path: Path
) -> Provenance:
    """Load another file's weights into the built module, whole or not at all."""
    weights = source.convert(renamed(source, read_weights(path)), count)
    fitted = fit_keys(weights, module.state_dict())
    load_strictly(module, fitted, owner=reference)
    return Provenance("file", name=fitted.name, sha256=fitted.sha256, notes=fitted.notes)


def renamed(source: ModelSource, weights: WeightsFile) -> WeightsFile:
    """Give the weights with keys of older releases brought up to date."""
    return replace(weights, tensors={source.rename_key(key): value for key, value in weights.tensors.items()})


def _classes_read(source: ModelSource, weights: WeightsFile) -> int | None:
    default = source.default_classes
    if default is None:
        return None
    # an architecture that has no head by default is tried with one as well
    for trial, count in ((None, default),) if default else ((None, 0), (2, 2)):
        outline = source.outline(trial)
        fitted = fit_keys(source.convert(weights, trial), outline)
        if default:  # also of weights that fit in part only, for those who ask for them
            return head_classes(fitted.tensors, outline, count)
        if keys_fit(fitted, outline):
            return head_classes(fitted.tensors, outline, count) or trial
    return None
