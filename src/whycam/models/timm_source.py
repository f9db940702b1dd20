"""``timm:NAME``: an architecture of timm, with timm's preprocessing and published weights."""

from typing import Any

from torch import nn

from whycam.errors import ModelError
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
    refuse_other_classes,
)


def timm_source(name: str, options: ModelOptions) -> ModelSource:
    """Give timm's architecture ``NAME`` or ``NAME.TAG``; the tag chooses among its published weights.

    Raises ModelError when timm has no such name.
    """
    import timm

    reference = f"timm:{name}"
    config = _config(name)
    fitting = _fitting_options(config, options)

    def build(num_classes: int | None) -> Built:
        chosen = fitting if num_classes is None else {**fitting, "num_classes": num_classes}
        with building(reference):
            module = timm.create_model(name, pretrained=False, **chosen)
            return Built(module, Preprocessing.from_timm(module))

    def download() -> Published:
        _refuse_unpublished(name)
        refuse_other_classes(options, getattr(config, "num_classes", None), reference)
        return _downloaded(name, fitting)

    tag = getattr(config, "tag", None)
    return ModelSource(
        build=build,
        outline=outline_without_data(build),
        unweighted=Provenance("random", name=reference, notes=(f"seed {SEED}",)),
        default_classes=getattr(config, "num_classes", 1000),
        download=download,
        preprocessing_of=f"timm's {config.architecture}.{tag}" if tag else None,
    )


def _config(name: str) -> Any:
    import timm

    # this also stops names with a scheme, such as hf-hub:, for which timm would ask the network
    if not timm.is_model(name):
        raise ModelError(_unknown(name, timm.list_models()))
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture = name.partition(".")[0]
        raise ModelError(_unknown(name, timm.list_models(f"{architecture}.*", include_tags=True))) from error


def _unknown(name: str, known: list[str]) -> str:
    close = or_nothing_close(name, known)
    return f"timm has no model '{one_line(name, 80)}'{close or '; timm.list_models() names them'}"


def _fitting_options(config: Any, options: ModelOptions) -> dict[str, Any]:
    fitting: dict[str, Any] = {}
    if options.input_channels is not None:
        fitting["in_chans"] = options.input_channels
    size = options.input_size
    # only architectures with a fixed input take a size; the others fit any
    if size is not None and getattr(config, "fixed_input_size", False) and size != config.input_size[-2:]:
        fitting["img_size"] = size
    return fitting


def _refuse_unpublished(name: str) -> None:
    import timm

    if not timm.is_model_pretrained(name):
        others = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        mend = f"published are {some_of(others)}" if others else "give your own file with --weights"
        raise ModelError(f"timm publishes no weights for '{one_line(name, 80)}'; {mend}")


def _downloaded(name: str, fitting: dict[str, Any]) -> Published:
    import timm

    try:
        module = timm.create_model(name, pretrained=True, **fitting)
    # the hub's client raises a dozen types for one cause: the file could not be had or did not fit
    except Exception as error:
        raise ModelError(
            f"the weights of timm:{name} could not be downloaded: {type(error).__name__}: {one_line(error)}; "
            "check the connection, or give a file with --weights"
        ) from error
    config: Any = module.pretrained_cfg
    published = ".".join(part for part in (config.get("architecture"), config.get("tag")) if part)
    built = Built(module, Preprocessing.from_timm(module))
    return Published(built, f"timm {published or name}", _class_names(module))


def _class_names(module: nn.Module) -> tuple[str, ...] | None:
    import timm.data

    imagenet: Any = timm.data
    subset = imagenet.infer_imagenet_subset(module)
    return tuple(imagenet.ImageNetInfo(subset).label_descriptions()) if subset else None
