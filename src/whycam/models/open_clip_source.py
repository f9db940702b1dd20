"""``open_clip:ARCH``: an image-text model of open_clip, as a network from pictures to embeddings."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import MissingExtraError, ModelError, UsageError
from whycam.models.embedding import ImageEmbedding
from whycam.models.hub import hub_offline
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line, or_nothing_close, some_of
from whycam.models.preprocessing import Preprocessing, Resize
from whycam.models.source import (
    SEED,
    Built,
    ModelOptions,
    ModelSource,
    Published,
    building,
    outline_without_data,
    refuse_other_channels,
)

_RESIZES: dict[str, Resize] = {"shortest": "shorter", "longest": "longest", "squash": "squash"}


def open_clip_source(name: str, options: ModelOptions) -> ModelSource:
    """Give open_clip's architecture ``ARCH`` or ``ARCH/TAG``; the tag chooses among its published weights.

    The network gives image embeddings [B, D], not normalised. Raises ModelError when open_clip has no
    such architecture or tag, MissingExtraError without open_clip.
    """
    reference = f"open_clip:{name}"
    architecture, _, tag = name.partition("/")
    published = _published(architecture, tag)
    if options.num_classes is not None:
        raise UsageError(f"{one_line(reference)} gives embeddings and has no classes; leave num_classes out")
    refuse_other_channels(options, one_line(reference))

    def build(num_classes: int | None) -> Built:
        return _built(architecture, published, options, reference)

    def download() -> Published:
        return _downloaded(architecture, tag, published, options, reference)

    return ModelSource(
        build=build,
        outline=outline_without_data(build),
        unweighted=Provenance("random", name=reference, notes=(f"seed {SEED}",)),
        download=download,
        preprocessing_of=f"open_clip's {architecture}{f' with {tag}' if tag else ''}",
    )


def _published(architecture: str, tag: str) -> dict[str, Any]:
    """Give what open_clip knows of the tag's weights, nothing where none is named."""
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError(
            "open_clip: references need open_clip, which is not installed; pip install 'whycam[open-clip]'"
        ) from error
    # this also stops names with a scheme, such as hf-hub:, for which open_clip would ask the network
    known = open_clip.list_models()
    if architecture not in known:
        close = or_nothing_close(architecture, known) or "; open_clip.list_models() names them"
        raise ModelError(f"open_clip has no model '{one_line(architecture, 80)}'{close}")
    if tag and not open_clip.is_pretrained_cfg(architecture, tag):
        tags = some_of(open_clip.list_pretrained_tags_by_model(architecture), 6) or "none"
        raise ModelError(f"{architecture} has no weights '{one_line(tag, 80)}'; expected one of {tags}")
    return dict(open_clip.get_pretrained_cfg(architecture, tag)) if tag else {}


def _built(architecture: str, published: dict[str, Any], options: ModelOptions, reference: str) -> Built:
    import open_clip

    with hub_offline(), _quiet(), building(one_line(reference)):
        module: nn.Module = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_image=False,
            pretrained_text=False,
            force_image_size=_other_size(architecture, options),
            force_quick_gelu=bool(published.get("quick_gelu")),
            force_preprocess_cfg=_preprocessing_in(published),
        )
    return _wrapped(module, architecture, options, reference)


def _downloaded(
    architecture: str, tag: str, published: dict[str, Any], options: ModelOptions, reference: str
) -> Published:
    import open_clip

    if not tag:
        tags = some_of(open_clip.list_pretrained_tags_by_model(architecture), 6)
        mend = f"name one behind a slash, of {tags}" if tags else "give your own file with --weights"
        raise ModelError(f"{reference} names no weights to download; {mend}")
    try:
        with _quiet():
            module = open_clip.create_model(
                architecture,
                tag,
                pretrained_text=False,
                force_image_size=_other_size(architecture, options),
                force_quick_gelu=bool(published.get("quick_gelu")),
                weights_only=True,
            )
    # the hub's client, urllib and the loader each raise their own; all mean that there are no weights
    except Exception as error:
        raise ModelError(
            f"the weights of {reference} could not be downloaded: {type(error).__name__}: {one_line(error)}; "
            "check the connection, or give a file with --weights"
        ) from error
    return Published(
        _wrapped(module, architecture, options, reference), f"open_clip {architecture}/{tag}", None
    )


def _other_size(architecture: str, options: ModelOptions) -> tuple[int, int] | None:
    import open_clip

    own = open_clip.get_model_config(architecture)["vision_cfg"].get("image_size", 224)
    square = (own, own) if isinstance(own, int) else tuple(own)
    return None if options.input_size in (None, square) else options.input_size


def _preprocessing_in(published: dict[str, Any]) -> dict[str, Any]:
    fields = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {field: published[field] for field in fields if published.get(field) is not None}


def _wrapped(module: nn.Module, architecture: str, options: ModelOptions, reference: str) -> Built:
    visual: Any = module.visual
    return Built(
        ImageEmbedding(module, _embed_image),
        None if options.preprocessing else _preprocessing(visual.preprocess_cfg),
        embed_text=_text_embedder(module, architecture, reference),
    )


def _embed_image(module: Any, pixel_values: Tensor) -> Tensor:
    embedding: Tensor = module.encode_image(pixel_values, normalize=False)
    return embedding


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size = config["size"]
    extent = (size, size) if isinstance(size, int) else tuple(size)
    fill = config["fill_color"]
    return Preprocessing(
        size=extent,
        resize=_RESIZES[config["resize_mode"]],
        resize_to=extent,
        # "random" is a choice of training; open_clip takes bicubic for it everywhere else
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fill=(fill,) * 3 if isinstance(fill, int) else tuple(fill),
    )


def _text_embedder(module: nn.Module, architecture: str, reference: str) -> Callable[[str], Tensor]:
    tokenizer = functools.cache(lambda: _tokenizer(architecture, reference))
    model: Any = module

    def embed_text(text: str) -> Tensor:
        tokens = tokenizer()([text]).to(next(module.parameters()).device)
        with torch.no_grad():
            embedding: Tensor = model.encode_text(tokens, normalize=False)[0]
        return embedding

    return embed_text


def _tokenizer(architecture: str, reference: str) -> Any:
    import open_clip

    try:
        with hub_offline(), _quiet():
            return open_clip.get_tokenizer(architecture)
    # the tokenizers of other makers are files of the hub, and each way of not having them is an error
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {reference} is not on this machine, so a text cannot be embedded: "
            f"{type(error).__name__}: {one_line(error, 120)}; load it once with open_clip.get_tokenizer"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from advising on weights and files: what was loaded is told by the provenance."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)
