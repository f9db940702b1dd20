"""From a decoded picture to what the network sees, as plain data that a manifest can keep."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from whycam.errors import ImageError, ModelError, UsageError
from whycam.models.hf_preprocessing import hf_fields
from whycam.models.messages import one_line, some_of
from whycam.types import CropGeometry

Resize: TypeAlias = Literal["shorter", "longest", "squash", "keep", "bounded"]
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Crop: TypeAlias = Literal["center", "center-floor"]
ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
Rounding: TypeAlias = Literal["up", "down"]
Extent: TypeAlias = tuple[int, int]
RESIZES: tuple[Resize, ...] = get_args(Resize)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
CROPS: tuple[Crop, ...] = get_args(Crop)
CHANNEL_ORDERS: tuple[ChannelOrder, ...] = get_args(ChannelOrder)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

# one very long, thin picture would otherwise be blown up to gigabytes before it is cropped
MOST_RESIZED_PIXELS = 2**27


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop at the centre, scale to [0, 1], normalise: a network's preprocessing as a value.

    ``size`` is the (height, width) the network sees and ``resize_to`` the (height, width) aimed at
    before the crop. ``resize`` says how: ``shorter`` keeps the aspect and lets the picture cover
    ``resize_to``, ``longest`` keeps the aspect and lets it fit inside, ``squash`` gives up the aspect,
    ``keep`` does not resize. Where the crop reaches outside the picture, it is padded with ``fill``
    (0 to 255). ``mean`` and ``std`` are on the scale of [0, 1], one value a channel. One channel is the
    luma (ITU-R 601) of the picture, taken before the resize. ``antialias=False`` is for networks
    trained with a resize that does not smooth when it shrinks (bilinear and bicubic only). Where the
    centre lies between two pixels, ``center`` rounds as timm and torchvision do, ``center-floor`` down.

    With ``bounded`` each picture keeps its own shape, as detectors have it, so that views differ in size:
    the shorter edge becomes the smaller number of ``size``, unless the longer one would then exceed the
    larger number, which it becomes instead. Nothing is cropped or padded, and ``resize_to`` is ``size``.
    Both sides are then rounded to a multiple of ``side_multiple``, ``up`` or ``down`` as ``side_rounding``
    says. ``channel_order`` is the order in which the network takes the channels; ``mean`` and ``std`` are
    in that order.

    Raises UsageError for values that make no sense.
    """

    size: Extent
    resize: Resize
    resize_to: Extent
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    crop: Crop = "center"
    fill: tuple[int, ...] = (0, 0, 0)
    antialias: bool = True
    channel_order: ChannelOrder = "rgb"
    side_multiple: int = 1
    side_rounding: Rounding = "up"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, before a picture meets them."""
        check_extent("size", self.size)
        check_extent("resize_to", self.resize_to)
        check_word("resize", self.resize, RESIZES)
        check_word("interpolation", self.interpolation, INTERPOLATIONS)
        check_word("crop", self.crop, CROPS)
        check_word("channels", self.channels, (1, 3))
        check_word("channel_order", self.channel_order, CHANNEL_ORDERS)
        check_word("side_rounding", self.side_rounding, ROUNDINGS)
        self._check_sides()
        _check_statistics(self.mean, self.std, self.channels)
        if len(self.fill) != self.channels or not all(0 <= value <= 255 for value in self.fill):
            raise UsageError(f"fill is {self.fill}; expected {self.channels} values of 0 to 255")
        if not self.antialias and self.interpolation not in ("bilinear", "bicubic"):
            raise UsageError(
                f"antialias=False with interpolation '{self.interpolation}'; expected 'bilinear' or 'bicubic'"
            )

    def _check_sides(self) -> None:
        if self.resize == "bounded" and self.resize_to != self.size:
            raise UsageError(
                f"resize_to is {self.resize_to} with resize='bounded', which crops nothing; expected the "
                f"size, {self.size}; leave resize_to and crop_pct out"
            )
        if type(self.side_multiple) is not int or not 1 <= self.side_multiple <= min(self.size):
            raise UsageError(
                f"side_multiple is {one_line(self.side_multiple)}; expected a whole number of pixels above "
                "0, no larger than the view; leave it out where sides are not rounded"
            )
        if self.side_multiple > 1 and self.resize != "bounded":
            raise UsageError(
                f"side_multiple is {self.side_multiple} with resize='{self.resize}', whose views have one "
                "size; leave it out, or use resize='bounded'"
            )

    def apply(self, picture: Image.Image) -> tuple[Float[Tensor, "channels height width"], CropGeometry]:
        """Give the network's view of one picture, float32 on the CPU, and where in the picture it lies.

        Raises ImageError when the picture is empty or too thin to be resized.
        """
        resized_size = self._resized_size(picture.height, picture.width)
        resized = self._resized(picture.convert("RGB" if self.channels == 3 else "L"), resized_size)
        view = resized_size if self.resize == "bounded" else self.size
        corner = self._corner(resized_size, view)
        geometry = _geometry((picture.height, picture.width), resized_size, corner, view)
        return self._normalised(self._cropped(resized, corner, view)), geometry

    def _corner(self, resized: Extent, view: Extent) -> Extent:
        """Give where the crop begins; below 0 on an axis where the picture must be padded."""
        start = _CROP_STARTS[self.crop]
        return start(resized[0], view[0]), start(resized[1], view[1])

    def _resized_size(self, height: int, width: int) -> Extent:
        if min(height, width) < 1:
            raise ImageError(f"the picture is {height} x {width} pixels; expected at least 1 x 1")
        size = self._sides_rounded(_RESIZED_SIZES[self.resize]((height, width), self.resize_to))
        if min(size) < 1 or size[0] * size[1] > MOST_RESIZED_PIXELS:
            raise ImageError(
                f"the picture is {height} x {width} pixels, which this preprocessing resizes to "
                f"{size[0]} x {size[1]}; crop the picture to a less extreme shape, or use resize='squash'"
            )
        return size

    def _sides_rounded(self, size: Extent) -> Extent:
        steps = math.ceil if self.side_rounding == "up" else math.floor
        unit = self.side_multiple
        return steps(size[0] / unit) * unit, steps(size[1] / unit) * unit

    def _resized(self, picture: Image.Image, size: Extent) -> Image.Image:
        if size == (picture.height, picture.width):
            return picture
        if not self.antialias:
            return _resized_without_antialias(picture, size, self.interpolation)
        return picture.resize((size[1], size[0]), Image.Resampling[self.interpolation.upper()])

    def _cropped(self, picture: Image.Image, corner: Extent, view: Extent) -> Image.Image:
        fill = self.fill if self.channels == 3 else self.fill[0]
        canvas = Image.new(picture.mode, (view[1], view[0]), fill)
        canvas.paste(picture, (-corner[1], -corner[0]))
        return canvas

    def _normalised(self, picture: Image.Image) -> Tensor:
        values = np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, self.channels)
        channels = torch.from_numpy(values).permute(2, 0, 1)
        ordered = channels.flip(0) if self.channel_order == "bgr" else channels
        scaled = ordered.contiguous().to(torch.float32).div_(255)
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (self.mean, self.std))
        return scaled.sub_(mean[:, None, None]).div_(std[:, None, None])

    def describe(self) -> str:
        """Say the preprocessing in one line, for a caption or a log."""
        smooth = "" if self.antialias else ", without antialiasing"
        how = self._aim() if self.resize == "keep" else f"{self._aim()} ({self.interpolation}{smooth})"
        rounding = "" if self.crop == "center" else " (corner rounded down)"
        cut = (
            "uncropped"
            if self.resize == "bounded"
            else f"centre crop {self.size[0]} x {self.size[1]}{rounding}"
        )
        order = "" if self.channel_order == "rgb" else " in the order BGR,"
        return f"{how}, {cut}, {self.channels} channel(s){order} in [0, 1], mean {self.mean}, std {self.std}"

    def _aim(self) -> str:
        first, second = self.resize_to
        sides = "" if self.side_multiple == 1 else f", sides {self.side_rounding} to a multiple of "
        return {
            "shorter": f"aspect kept, covering {first} x {second}",
            "longest": f"aspect kept, inside {first} x {second}",
            "squash": f"squashed to {first} x {second}",
            "keep": "not resized",
            "bounded": f"aspect kept, shorter edge {min(first, second)}, longer edge at most "
            f"{max(first, second)}{sides}{self.side_multiple if sides else ''}",
        }[self.resize]

    def to_dict(self) -> dict[str, Any]:
        """Give plain data (numbers, texts, lists) that JSON can hold and `from_dict` reads back."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """Read what `to_dict` gave. Raises UsageError on an unknown, missing or senseless field."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise UsageError(
                f"preprocessing has unknown fields {some_of(unknown)}; expected {some_of(sorted(known), 99)}"
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"preprocessing is incomplete or of wrong types: {one_line(error)}") from error

    @classmethod
    def for_size(
        cls,
        size: Extent,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        resize: Resize = "shorter",
        crop_pct: float = 1.0,
        interpolation: Interpolation = "bilinear",
    ) -> "Preprocessing":
        """Lay out a preprocessing from the numbers a training script has.

        ``size`` is (height, width); the picture is resized towards ``floor(size / crop_pct)`` and
        cropped at the centre (0.875 is a resize to 256 and a crop of 224; above 1 pads). The number
        of channels is the number of means. Padding is black, with ``longest`` of the colour ``mean``.
        """
        check_extent("size", size)
        if not 0 < crop_pct <= 2:  # timm publishes some above 1, which pad
            raise UsageError(f"crop_pct is {crop_pct}; expected a share above 0, such as 0.875, and up to 2")
        channels = len(mean)
        colours = tuple(round(255 * value) for value in mean)
        return cls(
            size=(size[0], size[1]),
            resize=resize,
            resize_to=(math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct)),
            interpolation=interpolation,
            mean=tuple(float(value) for value in mean),
            std=tuple(float(value) for value in std),
            channels=channels,
            fill=colours if resize == "longest" else (0,) * channels,
        )

    @classmethod
    def from_timm(cls, module: nn.Module) -> "Preprocessing":
        """Read the evaluation preprocessing from the configuration that a timm network carries.

        Raises ModelError when timm asks for something that is not known here.
        """
        import timm.data

        timm_data: Any = timm.data
        config = timm_data.resolve_model_data_config(module)
        mode = config["crop_mode"] or "center"
        resize = {"center": "shorter", "squash": "squash", "border": "longest"}.get(mode)
        if resize is None:
            raise ModelError(f"timm's crop mode is '{mode}'; expected center, squash or border")
        return _or_model_error(
            cls.for_size,
            tuple(config["input_size"][-2:]),
            config["mean"],
            config["std"],
            resize=resize,
            crop_pct=config["crop_pct"],
            interpolation=config["interpolation"],
        )

    @classmethod
    def from_torchvision(cls, weights: "TorchvisionWeights") -> "Preprocessing":
        """Read the preset that torchvision publishes beside a classifier's weights; nothing is loaded.

        Raises ModelError when the preset is not that of an image classifier.
        """
        preset = weights.transforms()
        if not hasattr(preset, "crop_size") or not hasattr(preset, "resize_size"):
            raise ModelError(
                f"torchvision's preset for {weights} is {type(preset).__name__}; "
                "expected an image classifier's"
            )
        return _or_model_error(
            cls,
            size=_square(preset.crop_size),
            resize="shorter" if len(preset.resize_size) == 1 else "squash",
            resize_to=_square(preset.resize_size),
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the configuration of a transformers image processor, as its ``to_dict()`` gives it.

        Raises ModelError naming the field that cannot be followed.
        """
        return _or_model_error(cls, **hf_fields(config))

    def with_size(self, size: Extent) -> "Preprocessing":
        """Give the same preprocessing for another (height, width), the crop's share kept."""
        check_extent("size", size)
        towards = (
            max(1, round(self.resize_to[0] * size[0] / self.size[0])),
            max(1, round(self.resize_to[1] * size[1] / self.size[1])),
        )
        return replace(self, size=(size[0], size[1]), resize_to=towards)


class TorchvisionWeights(Protocol):
    """A member of one of torchvision's weights enums."""

    @property
    def transforms(self) -> Any:
        """Make the preset."""


def _covering(original: Extent, target: Extent) -> Extent:
    height, width = original
    if target[0] != target[1]:
        return _scaled(original, min(height / target[0], width / target[1]))
    # torchvision cuts the longer edge off where timm's own rule for oblong targets rounds it
    longer = int(target[0] * max(original) / min(original))
    return (longer, target[0]) if height > width else (target[0], longer)


def _inside(original: Extent, target: Extent) -> Extent:
    return _scaled(original, max(original[0] / target[0], original[1] / target[1]))


def _bounded(original: Extent, target: Extent) -> Extent:
    """Follow transformers' ``get_size_with_aspect_ratio``, which cuts the longer edge off at whole pixels."""
    shorter, longer = min(target), max(target)
    edge: float = shorter
    if max(original) / min(original) * shorter > longer:
        edge = longer * min(original) / max(original)
    short, long = round(edge), int(edge * max(original) / min(original))
    if min(original) == short:  # it is not resized then, also where rounding would take a pixel off
        return original
    return (long, short) if original[1] < original[0] else (short, long)


def _scaled(original: Extent, ratio: float) -> Extent:
    return round(original[0] / ratio), round(original[1] / ratio)


_RESIZED_SIZES: dict[Resize, Callable[[Extent, Extent], Extent]] = {
    "shorter": _covering,
    "longest": _inside,
    "squash": lambda original, target: target,
    "keep": lambda original, target: original,
    "bounded": _bounded,
}


def _rounded_start(length: int, wanted: int) -> int:
    # the two roundings differ on purpose: timm and torchvision do it so, and one pixel would show
    return round((length - wanted) / 2) if length >= wanted else _padded_start(length, wanted)


def _floored_start(length: int, wanted: int) -> int:
    return (length - wanted) // 2 if length >= wanted else _padded_start(length, wanted)


def _padded_start(length: int, wanted: int) -> int:
    return -((wanted - length) // 2)


_CROP_STARTS: dict[Crop, Callable[[int, int], int]] = {
    "center": _rounded_start,
    "center-floor": _floored_start,
}


def _geometry(original: Extent, resized: Extent, corner: Extent, size: Extent) -> CropGeometry:
    per_row, per_column = original[0] / resized[0], original[1] / resized[1]
    box = (
        corner[0] * per_row,
        corner[1] * per_column,
        (corner[0] + size[0]) * per_row,
        (corner[1] + size[1]) * per_column,
    )
    return CropGeometry(original=original, box=box)


def _resized_without_antialias(picture: Image.Image, size: Extent, interpolation: str) -> Image.Image:
    values = torch.from_numpy(np.array(picture, dtype=np.float32))
    stacked = values.reshape(picture.height, picture.width, -1).permute(2, 0, 1)[None]
    resized = F.interpolate(stacked, size, mode=interpolation, align_corners=False, antialias=False)
    whole = resized[0].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(whole.numpy().squeeze(2) if picture.mode == "L" else whole.numpy())


def _square(size: Sequence[int]) -> Extent:
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])


def _or_model_error(make: Any, *args: Any, **options: Any) -> Preprocessing:
    # the values come from a library's configuration, so a refusal is not the caller's wrong usage
    try:
        return cast(Preprocessing, make(*args, **options))
    except UsageError as error:
        raise ModelError(f"the network's own preprocessing cannot be used: {error}") from error


def check_extent(name: str, extent: Any) -> None:
    """Refuse what is no (height, width) in whole pixels above 0, with a UsageError."""
    whole = isinstance(extent, Sequence) and all(type(value) is int and value > 0 for value in extent)
    if not whole or len(extent) != 2:
        raise UsageError(f"{name} is {one_line(extent)}; expected (height, width) in whole pixels above 0")
    if extent[0] * extent[1] > MOST_RESIZED_PIXELS:
        raise UsageError(
            f"{name} is {one_line(extent)}; expected at most {MOST_RESIZED_PIXELS} pixels, as in training"
        )


def check_word(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is none of the allowed ones, with a UsageError."""
    if value not in allowed:
        raise UsageError(f"{name} is '{one_line(value)}'; expected one of {some_of(allowed, 9)}")


def _check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    if len(mean) != channels or len(std) != channels:
        raise UsageError(f"mean {mean} and std {std}; expected {channels} value(s) each, one a channel")
    if not all(math.isfinite(value) and abs(value) <= 2 for value in mean):
        raise UsageError(
            f"mean is {mean}; pixels are scaled to [0, 1] first, so divide values of 0-255 by 255"
        )
    if not all(math.isfinite(value) and 0 < value <= 10 for value in std):
        raise UsageError(
            f"std is {std}; expected values above 0 on the scale of [0, 1] (0-255 divided by 255)"
        )
