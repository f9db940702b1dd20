"""``torchvision:NAME``: a classifier of torchvision, with its preset and published weights."""

import re
import sys
import warnings
from typing import Any

from torch import nn

from whycam.errors import ModelError, UsageError
from whycam.models.fitting import fit_keys, load_strictly
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line, or_nothing_close, some_of
from whycam.models.preprocessing import Preprocessing
from whycam.models.source import (
    SEED,
    Built,
    ModelOptions,
    ModelSource,
    Published,
    building,
    outline_without_data,
    refuse_other_channels,
    refuse_other_classes,
)
from whycam.models.weights import WeightsFile

_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def torchvision_source(name: str, options: ModelOptions) -> ModelSource:
    """Give torchvision's classifier ``NAME`` or ``NAME.WEIGHTS``, such as ``resnet50.IMAGENET1K_V1``.

    The preprocessing is the preset of those weights, of the default ones where none are named.
    Raises ModelError when torchvision has no such classifier or weights.
    """
    reference = f"torchvision:{name}"
    refuse_other_channels(options, reference)
    architecture, _, tag = name.partition(".")
    published = _published(architecture, tag)
    preset = Preprocessing.from_torchvision(published)
    categories = tuple(published.meta["categories"])

    def build(num_classes: int | None) -> Built:
        fitting = _fitting_options(architecture, preset, options, num_classes)
        return Built(_built(architecture, fitting, reference), preset)

    def download() -> Published:
        refuse_other_classes(options, len(categories), reference)
        built = build(None)
        weights = fit_keys(_downloaded(published), built.module.state_dict())
        load_strictly(built.module, weights, owner=reference)
        _set_trained(built.module)
        return Published(built, f"torchvision {published}", categories)

    return ModelSource(
        build=build,
        outline=outline_without_data(build),
        unweighted=Provenance("random", name=reference, notes=(f"seed {SEED}",)),
        default_classes=len(categories),
        download=download,
        preprocessing_of=f"torchvision's {published}",
        rename_key=_renamed,
        set_trained=_set_trained,
    )


def _published(architecture: str, tag: str) -> Any:
    import torchvision.models as catalogue

    classifiers = catalogue.list_models(module=catalogue)
    if architecture not in classifiers:
        close = or_nothing_close(architecture, classifiers)
        mend = close or "; torchvision.models.list_models(torchvision.models) names them"
        raise ModelError(f"torchvision has no classifier '{one_line(architecture, 80)}'{mend}")
    weights = catalogue.get_model_weights(architecture)
    if tag and tag not in weights.__members__:
        members = some_of(weights.__members__)
        raise ModelError(f"{architecture} has no weights '{one_line(tag, 80)}'; expected {members}")
    return weights[tag] if tag else weights.DEFAULT


def _fitting_options(
    architecture: str, preset: Preprocessing, options: ModelOptions, num_classes: int | None
) -> dict[str, Any]:
    fitting: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    size = options.input_size
    # of torchvision's classifiers, these alone are made for one size
    if size is not None and size != preset.size and architecture.startswith("vit_"):
        if size[0] != size[1]:
            raise UsageError(
                f"torchvision:{architecture} takes squares, not {size[0]} x {size[1]}; use timm's"
            )
        fitting["image_size"] = size[0]
    return fitting


def _built(architecture: str, fitting: dict[str, Any], reference: str) -> nn.Module:
    import torchvision.models as catalogue

    with warnings.catch_warnings(), building(reference):
        # two old classifiers announce a change of how they draw the weights that are replaced here
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = catalogue.get_model(architecture, weights=None, **fitting)
    return module


def _downloaded(published: Any) -> WeightsFile:
    try:
        tensors = published.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
        )
    # urllib, the disk and the hash check each raise their own; all mean that the file could not be had
    except Exception as error:
        raise ModelError(
            f"the weights {published} could not be downloaded: {type(error).__name__}: {one_line(error)}; "
            "check the connection, or give a file with --weights"
        ) from error
    return WeightsFile(str(published), "", {_renamed(key): value for key, value in tensors.items()})


def _renamed(key: str) -> str:
    """Write a key of DenseNet as torchvision does since 0.3: ``norm1.`` where files have ``norm.1.``."""
    return _OLD_DENSENET_KEY.sub(r"\1\2", key)


def _set_trained(module: nn.Module) -> tuple[str, ...]:
    # torchvision's Inception and GoogLeNet undo the preset's normalisation inside, but only when their
    # builder loads the weights itself; weights trained from those need it as well
    from torchvision.models import GoogLeNet, Inception3

    if not isinstance(module, GoogLeNet | Inception3):
        return ()
    module.transform_input = True
    return ("transform_input is on, as with torchvision's own weights",)
