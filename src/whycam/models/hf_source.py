"""``hf:ID_OR_FOLDER``: a network of transformers, from a local folder or the hub; never code from there."""

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import ModelError, UsageError
from whycam.models.clips import TAKES_CLIPS, FramesFirst
from whycam.models.embedding import ImageEmbedding, embedding_in
from whycam.models.fitting import fit_keys, keys_fit
from whycam.models.hf_backbone import names_a_backbone, with_described_backbone
from whycam.models.hf_folder import (
    check_transformers,
    downloaded_folder,
    find_folder,
    own_weights,
    read_json,
)
from whycam.models.hub import hub_offline
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line, some_of
from whycam.models.preprocessing import Preprocessing
from whycam.models.source import (
    SEED,
    Built,
    ModelOptions,
    ModelSource,
    building,
    outline_without_data,
)
from whycam.models.weights import WeightsFile

# the ending of the architecture's name, and the class of transformers that builds it
_HEADS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForImageClassificationWithTeacher": "AutoModelForImageClassification",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
    "ForUniversalSegmentation": "AutoModelForUniversalSegmentation",
    "ForInstanceSegmentation": "AutoModelForUniversalSegmentation",
    "ForObjectDetection": "AutoModelForObjectDetection",
    "ForVideoClassification": "AutoModelForVideoClassification",
}
_HEADLESS = "AutoModel"
_MEND = "check the folder's config.json, or save the network again with save_pretrained"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def hf_source(name: str, options: ModelOptions) -> ModelSource:
    """Give the network in a folder that transformers wrote, or that is cached for an id of the hub.

    Its architecture says what it is: a classifier, a segmenter or a detector, whose outputs are those of
    transformers; a classifier of clips, which takes them as [B, C, T, H, W] here; an image-text model
    (CLIP, SigLIP) or one without a head gives image embeddings [B, D].
    Raises ModelError when the files are not there, broken or ask for code of their own, MissingExtraError
    without transformers.
    """
    check_transformers()
    folder = find_folder(name)
    if folder is None:
        return _absent(name, options)
    source = _folder_source(folder, f"hf:{name}", options)
    if Path(name).expanduser().is_dir():
        return replace(source, unweighted=replace(source.unweighted, downloadable=False))
    return replace(source, fetch=lambda: _fetched(name, options))


def _fetched(name: str, options: ModelOptions) -> ModelSource:
    return _folder_source(downloaded_folder(name), f"hf:{name}", options)


def _absent(name: str, options: ModelOptions) -> ModelSource:
    def refuse(*arguments: object) -> Any:
        raise ModelError(
            f"hf:{one_line(name)} is neither a local folder nor in the hub's cache, and nothing is "
            "downloaded unasked; give --download, or a local folder with config.json"
        )

    return ModelSource(
        build=refuse,
        outline=refuse,
        unweighted=Provenance("random"),
        fetch=lambda: _fetched(name, options),
    )


def _folder_source(folder: Path, reference: str, options: ModelOptions) -> ModelSource:
    with _transformers_work(reference):
        config, builder = _config(folder)
    is_headless, takes_clips = builder == _HEADLESS, _takes_clips(config)
    if is_headless and options.num_classes is not None:
        raise UsageError(f"{one_line(reference)} gives embeddings and has no classes; leave num_classes out")
    weights, unused = own_weights(folder)

    def network(num_classes: int | None) -> nn.Module:
        with _transformers_work(reference):
            module = _built(_with_classes(config, num_classes), builder)
        answering = _on_clips(module) if takes_clips else module
        return ImageEmbedding(answering, _image_answer) if is_headless else answering

    def build(num_classes: int | None) -> Built:
        module = network(num_classes)
        has_text = isinstance(module, ImageEmbedding) and hasattr(module.model, "get_text_features")
        return Built(
            module,
            None if options.gives_preprocessing else _preprocessing(folder, reference),
            embed_text=_text_embedder(module, folder, reference) if has_text else None,
            needs_clips=TAKES_CLIPS if takes_clips else None,
        )

    def convert(read: WeightsFile, num_classes: int | None) -> WeightsFile:
        outline = network_outline(num_classes)
        if keys_fit(fit_keys(read, outline), outline):
            return read
        with _transformers_work(reference):
            return _converted(read, _with_classes(config, num_classes), builder)

    network_outline = outline_without_data(lambda num_classes: Built(network(num_classes), None))
    return ModelSource(
        build=build,
        outline=network_outline,
        unweighted=Provenance("random", name=reference, notes=(f"seed {SEED}", *unused)),
        default_classes=None if is_headless else config.num_labels,
        class_names=None if is_headless else _class_names(config),
        own_weights=weights,
        convert=convert,
    )


@contextmanager
def _transformers_work(reference: str) -> Iterator[None]:
    """Let transformers work without the network, its progress bars and its advice; errors in one line."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with hub_offline(), building(one_line(reference), _MEND):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _config(folder: Path) -> tuple[Any, str]:
    """Read the folder's configuration, and name the class of transformers that builds its network."""
    import transformers

    if not (folder / "config.json").is_file():
        raise ModelError(
            f"there is no config.json in '{one_line(folder.name)}'; expected a folder "
            "that save_pretrained wrote"
        )
    told = read_json(folder / "config.json")
    named = told.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelError(
            f"architectures in config.json is {one_line(named, 80)}; expected the name of one network, as "
            "save_pretrained writes it"
        )
    builder = _builder(named[0])
    if names_a_backbone(told):
        config_class: Any = transformers.CONFIG_MAPPING[str(told.get("model_type"))]
        return config_class.from_dict(with_described_backbone(told, config_class)), builder
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config, builder


def _builder(architecture: str) -> str:
    _, has_head, task = architecture.rpartition("For")
    if not has_head:
        return _HEADLESS
    if f"For{task}" not in _HEADS:
        raise ModelError(
            f"config.json is of a {one_line(architecture, 80)}; expected an image model without a head "
            f"or with one of {some_of(_HEADS, 9)}"
        )
    return _HEADS[f"For{task}"]


def _with_classes(config: Any, num_classes: int | None) -> Any:
    fitting = copy.deepcopy(config)
    if num_classes not in (None, config.num_labels):
        fitting.num_labels = num_classes
    return fitting


def _built(config: Any, builder: str) -> nn.Module:
    import transformers

    # eager attention, whose probabilities can be seen; a configuration must not choose another's kernels
    module: nn.Module = getattr(transformers, builder).from_config(
        config, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
    )
    takes = getattr(module, "main_input_name", "")
    if takes != "pixel_values" and not (_takes_clips(config) or hasattr(module, "get_image_features")):
        raise ModelError(
            f"{type(module).__name__} takes {one_line(takes)}; expected a network that takes pictures"
        )
    return module


def _takes_clips(config: Any) -> bool:
    import transformers

    mapping: Any = transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING
    return type(config) in mapping


def _on_clips(module: Any) -> FramesFirst:
    # alone among them TimeSformer puts the frames of one place side by side
    time_last = module.config.model_type == "timesformer"
    return FramesFirst(module, module.main_input_name, tokens_time_last=time_last)


def _image_answer(module: Any, pixel_values: Tensor) -> Any:
    if hasattr(module, "get_image_features"):
        return module.get_image_features(pixel_values=pixel_values)
    return module(pixel_values=pixel_values)


def _converted(read: WeightsFile, config: Any, builder: str) -> WeightsFile:
    """Bring a file's tensors to the names and shapes of this release of transformers.

    Tensors that fit nowhere or in another shape stay, for `load_strictly` to refuse.
    """
    made = type(_built(config, builder))
    loader: Any = made
    module, info = loader.from_pretrained(
        None,
        config=config,
        state_dict=dict(read.tensors),
        dtype=torch.float32,
        attn_implementation="eager",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    missing = info["missing_keys"]
    tensors = {key: value for key, value in module.state_dict().items() if key not in missing}
    reshaped = {key: torch.empty(shape, device="meta") for key, shape, _ in info["mismatched_keys"]}
    strangers = {key: read.tensors[key] for key in info["unexpected_keys"] if key in read.tensors}
    return replace(read, tensors={**tensors, **reshaped, **strangers})


def _class_names(config: Any) -> tuple[str, ...] | None:
    by_index = config.id2label or {}
    names = tuple(one_line(by_index.get(index, "")) for index in range(config.num_labels))
    are_placeholders = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    are_values = getattr(config, "problem_type", None) == "regression"
    return None if are_placeholders or are_values or not all(names) else names


def _preprocessing(folder: Path, reference: str) -> Preprocessing | None:
    import transformers

    present = [name for name in _PROCESSORS if (folder / name).is_file()]
    if not present:
        return None
    for name in present:
        read_json(folder / name)
    with _transformers_work(reference):
        auto: Any = transformers.AutoImageProcessor
        processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return Preprocessing.from_hf(processor.to_dict())


def _text_embedder(module: nn.Module, folder: Path, reference: str) -> Callable[[str], Tensor]:
    tokenizer = functools.cache(lambda: _tokenizer(folder, reference))
    model: Any = module.model

    def embed_text(text: str) -> Tensor:
        # SigLIP was trained on texts filled up to the whole length
        padding = "max_length" if model.config.model_type.startswith("siglip") else False
        length = model.config.text_config.max_position_embeddings
        tokens = tokenizer()([text], return_tensors="pt", padding=padding, truncation=True, max_length=length)
        place = next(model.parameters()).device
        given = {key: tokens[key].to(place) for key in ("input_ids", "attention_mask") if key in tokens}
        with torch.no_grad():
            return embedding_in(model.get_text_features(**given))[0]

    return embed_text


def _tokenizer(folder: Path, reference: str) -> Any:
    import transformers

    if not (folder / "tokenizer_config.json").is_file():
        raise ModelError(
            f"there is no tokenizer in '{one_line(folder.name)}' (tokenizer_config.json), so a text cannot "
            "be embedded; save the tokenizer beside the network"
        )
    read_json(folder / "tokenizer_config.json")
    with _transformers_work(reference):
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
