"""Turn a model reference into a loaded network; `SOURCES` is the one registry of what is accepted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import torch

from whycam.errors import ModelError, UsageError
from whycam.models.class_names import read_class_names
from whycam.models.demo_source import demo_source
from whycam.models.factory_source import file_source, module_source
from whycam.models.hf_source import hf_source
from whycam.models.loaded import LoadedModel, Provenance
from whycam.models.messages import one_line, some_of
from whycam.models.network import (
    Network,
    own_network,
    published_network,
    unweighted_network,
    weighted_network,
)
from whycam.models.open_clip_source import open_clip_source
from whycam.models.preprocessing import Preprocessing
from whycam.models.sidecar import Sidecar, read_sidecar, sidecar_beside, sidecar_path
from whycam.models.source import ModelOptions, ModelSource, fixed_seed, settled_preprocessing
from whycam.models.testbed_source import testbed_source
from whycam.models.timm_source import timm_source
from whycam.models.torchvision_source import torchvision_names, torchvision_source
from whycam.models.weights import is_weights_file

SourceMaker = Callable[[str, ModelOptions], ModelSource]

SOURCES: dict[str, SourceMaker] = {
    "timm:NAME": timm_source,
    "torchvision:NAME": torchvision_source,
    "hf:ID_OR_FOLDER": hf_source,
    "open_clip:ARCH": open_clip_source,
    "path/to/file.py:factory": file_source,
    "package.module:factory": module_source,
    "demo": demo_source,
    "testbed:NAME": testbed_source,
}
CHECKPOINT = "path/to/checkpoint"
"""The other form of a reference: weights beside which ``whycam train`` wrote what they are of."""


def load(
    reference: str,
    *,
    weights: str | Path | None = None,
    download: bool = False,
    classes: str | Path | None = None,
    num_classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: str | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    channels: int | None = None,
    preprocessing: Preprocessing | str | Path | None = None,
    allow_partial: bool = False,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load the network that a reference names, in eval mode, with its preprocessing.

    ``reference`` is one of `SOURCES`' forms, or a checkpoint that ``whycam train`` wrote, whose own file
    beside it names its model. A factory reference runs the user's code; nothing else
    here runs code that is not installed, and nothing touches the network without ``download=True``,
    which gets the weights that are published for the reference. ``weights`` is a safetensors file or a
    checkpoint of tensors; it is loaded whole or not at all, and its head sets the number of classes
    unless ``num_classes`` does. With ``allow_partial=True`` what fits of it is loaded and the rest stays
    random, which the provenance and every picture then say. With neither weights nor download, the weights
    are those in the reference's own folder, and random, from a fixed seed, where it has none.

    ``classes`` is a file of class names. ``size`` (height, width; an int for a square), ``mean``,
    ``std``, ``resize``, ``crop_pct``, ``interpolation`` and ``channels`` change the preprocessing that
    comes with the network, and a factory that brings none needs the first three; ``preprocessing``
    replaces it whole: a value, or a YAML file (see `whycam.models.sidecar`) that may name the classes too.
    The file that ``whycam train`` wrote beside ``weights`` is heeded unasked; what is given goes before it.

    Raises ModelError, WeightsError or UsageError, each with the mend in its one line.
    """
    sidecar = None
    if isinstance(preprocessing, str | Path):
        sidecar = read_sidecar(preprocessing)
        preprocessing = sidecar.preprocessing
    options = ModelOptions(
        num_classes=num_classes,
        size=(size, size) if isinstance(size, int) else size,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        resize=resize,
        crop_pct=crop_pct,
        interpolation=interpolation,
        channels=channels,
        preprocessing=preprocessing,
        allow_partial=allow_partial,
    )
    if not isinstance(reference, str):
        raise UsageError(
            f"reference is a {type(reference).__name__}; expected a text: one of {some_of(SOURCES, 9)}"
        )
    if weights is None and not download and is_weights_file(reference):
        weights, reference = reference, model_of(reference)
    refuse_clashes(options, weights, download=download)
    beside = None if weights is None else sidecar_beside(weights)
    if beside is not None and sidecar is None:
        sidecar, options = _with_trained(beside, options, classes, reference)
    if sidecar and sidecar.class_names and classes is not None:
        raise UsageError("class names are in both the preprocessing file and --classes; expected one of them")
    place = usable_device(device)
    # parameters made inside the caller's inference mode could never have gradients
    with torch.inference_mode(False), torch.device("cpu"), fixed_seed():
        source = source_of(reference, options)
        if download:
            network = published_network(source, one_line(reference), options)
        elif weights is not None:
            network = weighted_network(source, one_line(reference), weights, options)
        elif source.own_weights is not None:
            network = own_network(source, one_line(reference), source.own_weights, options)
        else:
            network = unweighted_network(source, options)
    names = _sidecar_names(sidecar, network) if sidecar else None
    if names is None:
        names = network.class_names if classes is None else read_class_names(classes, network.class_count)
    return LoadedModel(
        module=network.built.module.to(place).eval(),
        preprocessing=settled_preprocessing(options, network.built.preprocessing, one_line(reference)),
        class_names=names,
        reference=reference,
        provenance=_noted(network, options, sidecar),
        device=place,
        embed_text=network.built.embed_text,
        needs_clips=network.built.needs_clips,
        refill=network.refill,
    )


def model_of(checkpoint: str | Path, how: str = "with --weights") -> str:
    """Return the reference of the model that a checkpoint is of, as its own file beside it says.

    ``how`` tells the user how to give one instead. Raises ModelError where nothing says it, or where it is
    one whose code would be run.
    """
    name, beside = one_line(Path(checkpoint).name, 80), sidecar_beside(checkpoint)
    if beside is None or beside.model is None:
        raise ModelError(
            f"'{name}' is a weights file, and no {one_line(sidecar_path(checkpoint).name, 80)} of whycam "
            f"train beside it says of which model; give the model, such as timm:resnet50, {how}"
        )
    if not runs_no_code(beside.model):
        raise ModelError(
            f"'{name}' is of {one_line(beside.model, 80)}, whose code would be run; where you trust it, give "
            f"that model, {how}"
        )
    return beside.model


def runs_no_code(reference: str) -> bool:
    """Say whether a reference names no code but what is installed."""
    return reference == "demo" or reference.startswith(
        ("timm:", "torchvision:", "open_clip:", "hf:", "testbed:")
    )


def _with_trained(
    beside: Sidecar, options: ModelOptions, classes: str | Path | None, reference: str
) -> tuple[Sidecar | None, ModelOptions]:
    """Take what training wrote beside the weights, where the caller says nothing else."""
    if options.preprocessing is None:
        settled = settled_preprocessing(options, beside.preprocessing, one_line(reference))
        options = ModelOptions(
            options.num_classes, preprocessing=settled, allow_partial=options.allow_partial
        )
    elif classes is not None:
        return None, options
    return (beside if classes is None else replace(beside, class_names=None)), options


def _sidecar_names(sidecar: Sidecar, network: Network) -> tuple[str, ...] | None:
    names, count = sidecar.class_names, network.class_count
    if names is not None and count is not None and len(names) != count:
        raise UsageError(
            f"the preprocessing file names {len(names)} classes; expected {count}, one for each output of "
            "the network"
        )
    return names


def _noted(network: Network, options: ModelOptions, sidecar: Sidecar | None) -> Provenance:
    """Say in the provenance where a preprocessing comes from that is not the network's own or typed."""
    note = sidecar.note if sidecar else network.built.note
    if note is None or (options.gives_preprocessing and not sidecar):
        return network.provenance
    return replace(network.provenance, notes=(*network.provenance.notes, note))


def source_of(reference: str, options: ModelOptions) -> ModelSource:
    """Return how a reference becomes a network. Raises ModelError where it is none."""
    prefix, _, name = reference.partition(":")
    before, _, factory = reference.rpartition(":")
    if reference in SOURCES and ":" not in reference:
        return SOURCES[reference](reference, options)
    named = {form.partition(":")[0]: form for form in SOURCES if form.partition(":")[2].isupper()}
    if prefix in named and name:
        return SOURCES[named[prefix]](name, options)
    if factory.isidentifier() and before.lower().endswith(".py"):
        return SOURCES["path/to/file.py:factory"](reference, options)
    if factory.isidentifier() and _is_importable(before):
        return SOURCES["package.module:factory"](reference, options)
    raise ModelError(_unknown(reference))


def _is_importable(dotted: str) -> bool:
    if not dotted or not all(part.isidentifier() for part in dotted.split(".")):
        return False
    root = dotted.partition(".")[0]
    here = Path.cwd()
    # the spec of a top-level name is found without running anything
    return (here / root).is_dir() or (here / f"{root}.py").is_file() or find_spec(root) is not None


def _unknown(reference: str) -> str:
    prefix, colon, name = reference.partition(":")
    known = [form.partition(":")[0] for form in SOURCES]
    if colon:
        close = [f"{match}:{name}" for match in get_close_matches(prefix, known, n=2) if name]
    else:
        close = _catalogue_matches(reference)
    meant = f"; did you mean {some_of(close)}?" if close else ""
    return (
        f"'{one_line(reference, 80)}' is no model reference, nor a factory in a module that is there{meant}; "
        f"expected one of {some_of(SOURCES, 99)}"
    )


def _catalogue_matches(name: str) -> list[str]:
    import timm

    catalogues = {
        "timm": timm.list_models(),
        "torchvision": torchvision_names(),
        "demo": [],
    }
    exact = [f"{prefix}:{name}" for prefix, names in catalogues.items() if name in names]
    close = [
        f"{prefix}:{match}"
        for prefix, names in catalogues.items()
        for match in get_close_matches(name, names, n=2)
    ]
    return exact or [*get_close_matches(name, ["demo"]), *close]


def refuse_clashes(options: ModelOptions, weights: str | Path | None, *, download: bool) -> None:
    """Refuse options of which one says what another says too, with a UsageError."""
    if weights is not None and download:
        raise UsageError(
            "both weights and download were given; expected one: a file, or the published weights"
        )
    if options.allow_partial and weights is None:
        raise UsageError("allow_partial was given without weights; it is about a file given with --weights")
    if options.preprocessing is not None and options.changes_preprocessing:
        raise UsageError(
            "preprocessing was given together with single values of it (size, mean, std, resize, crop_pct, "
            "interpolation, channels); put those values into preprocessing"
        )


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device of that name. Raises UsageError where nothing can be computed on it."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # an accelerator that is not built in is an AssertionError in PyTorch
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UsageError(
            f"device '{one_line(device)}' cannot be used: {one_line(error, 120)}; "
            "use 'cpu', or check that the device is there"
        ) from error
    if place.type == "meta":
        raise UsageError("device 'meta' holds no values; expected a device that computes, such as 'cpu'")
    return place
