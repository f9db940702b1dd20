"""From the configuration of a transformers image processor to the fields of a `Preprocessing`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from whycam.errors import ModelError
from whycam.models.messages import one_line

Extent: TypeAlias = tuple[int, int]

_CONVNEXT_SQUASHES_FROM = 384
_LEVIT_ENLARGES = 256 / 224
_YOLOS_MULTIPLE = 16
_RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
_READ = {
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "do_flip_channel_order",
    "image_mean",
    "image_std",
    "image_processor_type",
    "feature_extractor_type",
}
# they say where the configuration is from, or act on labels and annotations, never on an RGB picture
_WITHOUT_EFFECT = {
    "_processor_class",
    "_valid_kwargs_names",
    "annotation_format",
    "backend",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_annotations",
    "do_convert_rgb",
    "do_reduce_labels",
    "format",
    "ignore_index",
    "input_data_format",
    "num_labels",
    "processor_class",
    "reduce_labels",
    "return_tensors",
}
# they keep a picture's shape between a shortest and a longest edge, and pad only pictures of one batch
_KEEP_SHAPES = {
    "ConditionalDetr",
    "DeformableDetr",
    "Detr",
    "GroundingDino",
    "Mask2Former",
    "MaskFormer",
    "RTDetr",
    "RfDetr",
    "Yolos",
}
# what the fields of one class alone mean is known for these
_OF_ONE_CLASS = {
    "DPT": {"ensure_multiple_of"},
    "EfficientNet": {"include_top", "rescale_offset"},
    "Mask2Former": {"size_divisor"},
    "MaskFormer": {"size_divisor"},
    "Vivit": {"offset"},
    **{kind: {"do_pad"} for kind in _KEEP_SHAPES - {"Mask2Former", "MaskFormer"}},
}
# their classes resize or crop in a way of their own, which no field of the configuration tells
_OF_THEIR_OWN = {
    "Inkling2",
    "PPDocLayoutV2",
    "PPDocLayoutV3",
    "PPDocLayoutV4",
    "Perceiver",
}


def hf_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `Preprocessing` is made of from ``AutoImageProcessor.from_pretrained(...).to_dict()``.

    Raises ModelError naming the field that cannot be followed.
    """
    _refuse_unknown(config)
    resize = _resize(config)
    mean, std = _statistics(config)
    return {
        **resize,
        "interpolation": _interpolation(config),
        "mean": mean,
        "std": std,
        "channels": len(mean),
        "fill": (0,) * len(mean),
        "crop": "center-floor",  # transformers rounds the corner of a crop down
        "channel_order": _channel_order(config),
    }


def _refuse(field: str, found: object, expected: str) -> NoReturn:
    raise ModelError(
        f"the network's own preprocessing cannot be followed: {field} is {one_line(found, 80)}; expected "
        f"{expected}; give --size --mean --std as in training"
    )


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    kind = _kind(config)
    if kind in _OF_THEIR_OWN:
        _refuse("image_processor_type", kind, "one whose steps its configuration tells")
    known = _READ | _WITHOUT_EFFECT | _OF_ONE_CLASS.get(kind, set())
    for field in config.keys() - known:
        if config[field] not in (None, False):
            _refuse(field, config[field], "no step beside resize, centre crop, rescale and normalise")


def _kind(config: Mapping[str, Any]) -> str:
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    return name


def _resize(config: Mapping[str, Any]) -> dict[str, Any]:
    crop = _extent("crop_size", config.get("crop_size")) if config.get("do_center_crop") else None
    if config.get("do_resize") is False:
        if crop is None:
            _refuse("do_resize", False, "a resize or a centre crop: a batch needs pictures of one size")
        return {"resize": "keep", "resize_to": crop, "size": crop}
    size = config.get("size")
    kind = _kind(config)
    if kind in _KEEP_SHAPES and isinstance(size, Mapping) and size.get("shortest_edge") is not None:
        return _bounded(config, size)
    if config.get("crop_pct") is not None and kind != "PoolFormer":
        return _convnext(config, size)
    _check_multiple(config)
    shortest = _shortest_edge(size, crop)
    if shortest is None:
        if config.get("crop_pct") is not None:
            _refuse("size", size, "shortest_edge, as PoolFormer's processor has it beside crop_pct")
        squashed = _extent("size", size)
        return {"resize": "squash", "resize_to": squashed, "size": crop or squashed}
    if crop is None:
        _refuse("size", size, "height and width, or a centre crop: a batch needs pictures of one size")
    towards = _aimed_at(shortest, config)
    return {"resize": "shorter", "resize_to": (towards, towards), "size": crop}


def _aimed_at(shortest: int, config: Mapping[str, Any]) -> int:
    """Give the shorter edge that a class resizes to, where it goes beyond the one that it is told."""
    if _kind(config) == "Levit":
        return int(_LEVIT_ENLARGES * shortest)
    share = config.get("crop_pct")
    return shortest if share is None else int(shortest / _share(share))


def _bounded(config: Mapping[str, Any], size: Mapping[str, Any]) -> dict[str, Any]:
    given = {key for key, number in size.items() if number is not None}
    if given != {"shortest_edge", "longest_edge"} or config.get("do_center_crop"):
        _refuse("size", dict(size), "shortest_edge and longest_edge without a crop, or height and width")
    edges = (
        _whole("size.shortest_edge", size["shortest_edge"]),
        _whole("size.longest_edge", size["longest_edge"]),
    )
    if edges[0] > edges[1]:
        _refuse("size", dict(size), "a shortest_edge that is no longer than the longest_edge")
    is_yolos = _kind(config) == "Yolos"
    multiple = _YOLOS_MULTIPLE if is_yolos else config.get("size_divisor") or 1
    return {
        "resize": "bounded",
        "resize_to": edges,
        "size": edges,
        "side_multiple": _whole("size_divisor", multiple),
        "side_rounding": "down" if is_yolos else "up",
    }


def _check_multiple(config: Mapping[str, Any]) -> None:
    """Refuse a rounding of the sides where height and width are what they are resized to."""
    for field in ("size_divisor", "ensure_multiple_of"):
        if config.get(field) not in (None, 0, 1):
            _refuse(field, config[field], "sides that are not rounded")


def _shortest_edge(size: Any, crop: Extent | None) -> int | None:
    """Give the length of the shorter edge after the resize, None where height and width are given."""
    if isinstance(size, Mapping):
        given = {key: value for key, value in size.items() if value is not None}
        return (
            _whole("size.shortest_edge", given["shortest_edge"]) if set(given) == {"shortest_edge"} else None
        )
    # before sizes had names, a number was the shorter edge where a crop follows and a square elsewhere
    return size if type(size) is int and crop is not None else None


def _convnext(config: Mapping[str, Any], size: Any) -> dict[str, Any]:
    if _kind(config) != "ConvNext":
        _refuse("crop_pct", config["crop_pct"], "a crop share of ConvNeXT's processor alone")
    share = _share(config["crop_pct"])
    edge = _whole("size.shortest_edge", size.get("shortest_edge") if isinstance(size, Mapping) else size)
    if edge >= _CONVNEXT_SQUASHES_FROM:
        return {"resize": "squash", "resize_to": (edge, edge), "size": (edge, edge)}
    towards = int(edge / share)
    return {"resize": "shorter", "resize_to": (towards, towards), "size": (edge, edge)}


def _share(share: Any) -> float:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 2:
        _refuse("crop_pct", share, "a share above 0")
    return float(share)


def _extent(field: str, value: Any) -> Extent:
    if isinstance(value, Mapping):
        given = {key for key, number in value.items() if number is not None}
        if given != {"height", "width"}:
            _refuse(field, dict(value), "height and width")
        return _whole(f"{field}.height", value["height"]), _whole(f"{field}.width", value["width"])
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return _whole(field, value[0]), _whole(field, value[1])
    whole = _whole(field, value)
    return whole, whole


def _whole(field: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        _refuse(field, value, "a whole number of pixels above 0")
    return value


def _interpolation(config: Mapping[str, Any]) -> str:
    code = config.get("resample", 2)
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < len(_RESAMPLES):
        _refuse("resample", code, "one of Pillow's filters, 0 to 5")
    return _RESAMPLES[code]


def _statistics(config: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give the mean and deviation that take pixels in [0, 1] to what the configured steps give."""
    if config.get("do_rescale", True) is not True:
        _refuse("do_rescale", config["do_rescale"], "true: pixels are scaled to [0, 1]")
    scale = _scale(config.get("rescale_factor", 1 / 255))
    offset = 1.0 if config.get("rescale_offset") or config.get("offset") else 0.0
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    if config.get("do_normalize", True) and _kind(config) != "MobileViT":  # which never normalises
        mean, std = _channel_values("image_mean", config), _channel_values("image_std", config)
    # (scale x - offset - mean) / std, and EfficientNet divides by the deviation a second time
    twice = std if config.get("include_top") else (1.0,) * len(std)
    means = tuple((offset + value) / scale for value in mean)
    return means, tuple(one * again / scale for one, again in zip(std, twice, strict=True))


def _scale(factor: Any) -> float:
    """Give how far the rescaled pixels reach: 1 for [0, 1]."""
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        _refuse("rescale_factor", factor, "a number above 0, such as 1/255")
    return 1.0 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else 255 * factor


def _channel_order(config: Mapping[str, Any]) -> str:
    if not config.get("do_flip_channel_order"):
        return "rgb"
    if _kind(config) != "MobileViT":
        _refuse("do_flip_channel_order", True, "a step of MobileViT's processor alone")
    return "bgr"


def _channel_values(field: str, config: Mapping[str, Any]) -> tuple[float, ...]:
    value = config.get(field)
    listed = [value] * 3 if isinstance(value, int | float) else value
    is_list = isinstance(listed, Sequence) and not isinstance(listed, str)
    if not is_list or not listed or not all(isinstance(one, int | float) for one in listed):
        _refuse(field, value, "a number for each channel")
    return tuple(float(one) for one in listed)
