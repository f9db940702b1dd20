"""Any mode that Pillow decodes -> 8-bit RGB, without clamping, wrapping or a hidden background."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

from whycam.data.refusal import RefusedError

_SIXTEEN_BITS = 65535
_ROWS_AT_ONCE_PIXELS = 1 << 20
_SIGNED = 2
_WHITE_IS_ZERO = 0

Samples = npt.NDArray[Any]
Levels = npt.NDArray[np.uint8]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture to 8-bit RGB and drop its metadata; the mode decides how.

    - integers of more than 8 bits (``I;16``, ``I``): the full range of the stored type -> 0..255, rounded;
    - ``F``: 0..1 -> 0..255 where all values lie in it, else the picture's own min..max -> 0..255;
    - an alpha channel, transparent palette entries or a transparent colour: composited on white;
    - anything else: Pillow's conversion. Colour profiles are not applied.

    Raises RefusedError for values that no such scale can show: not finite, negative, or all the same tone
    once they are in 8 bits.
    """
    if image.mode == "F":
        rgb = _gray_to_rgb(image, float_levels(np.asarray(image)))
    elif image.mode == "I" or image.mode.startswith("I;"):
        samples = _integer_samples(image)
        rgb = _gray_to_rgb(image, integer_levels(samples, _type_maximum(image)), samples)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, "white")
        rgb.paste(rgba, mask=rgba)
    else:
        rgb = image.convert("RGB")
    # a colour profile or a transparent colour left here would be written into every picture made from it
    rgb.info.clear()
    return rgb


def scale_png_key(image: Image.Image, bit_depth: int) -> None:
    """Bring a PNG's transparent colour to the depth of the decoded samples.

    The file states it in samples of ``bit_depth`` bits (PNG specification, 11.3.2.1) and Pillow leaves it
    so, although it widens 1, 2 and 4 bits to 8 and keeps the high byte of 16-bit colours.
    """
    key = image.info.get("transparency")
    if isinstance(key, tuple) and bit_depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    elif isinstance(key, int) and image.mode in ("1", "L") and bit_depth < 8:
        top = (1 << bit_depth) - 1
        # some versions of Pillow widen it themselves; a value above the depth is such a one
        image.info["transparency"] = key if key > top else key * 255 // top


def _gray_to_rgb(image: Image.Image, levels: Levels, samples: Samples | None = None) -> Image.Image:
    if _tiff_tag(image, PHOTOMETRIC_INTERPRETATION, default=1) == _WHITE_IS_ZERO:
        np.subtract(255, levels, out=levels)
    key = image.info.get("transparency")
    if samples is not None and isinstance(key, int):
        levels[samples == key] = 255
    return Image.fromarray(levels).convert("RGB")


def _integer_samples(image: Image.Image) -> Samples:
    samples = np.asarray(image)
    # Pillow keeps unsigned 32-bit samples in signed ones: the upper half looks negative
    return samples if _is_signed(image) or image.mode != "I" else samples.view(np.uint32)


def _type_maximum(image: Image.Image) -> int:
    """Return the largest value of the stored type; Pillow's own mode is wider than some."""
    if not isinstance(image, TiffImageFile):
        return _SIXTEEN_BITS  # 16-bit PNG, PGM and JPEG 2000, whether Pillow calls them I;16 or I
    bits = _tiff_tag(image, BITSPERSAMPLE, default=16)
    return (1 << (bits - 1 if _is_signed(image) else bits)) - 1


def _is_signed(image: Image.Image) -> bool:
    return _tiff_tag(image, SAMPLEFORMAT, default=1) == _SIGNED


def _tiff_tag(image: Image.Image, tag: int, *, default: int) -> int:
    value = image.tag_v2.get(tag, default) if isinstance(image, TiffImageFile) else default
    return cast("int", value[0] if isinstance(value, tuple) else value)


def integer_levels(samples: Samples, maximum: int) -> Levels:
    """Scale 0..``maximum``, the full range of a type, to 0..255; any shape whose first axis is the rows.

    Raises RefusedError for negative values, and where different ones would all end up as one tone.
    """
    low, high = int(samples.min()), int(samples.max())
    if low < 0:
        raise RefusedError(
            f"negative gray values (down to {low})", "save it with values from 0, in 8 or 16 bits"
        )
    levels = scaled(samples, 0.0, float(maximum))
    if low != high and levels.min() == levels.max():
        found = f"gray values {low} to {high}, one single tone on the scale of their type, 0 to {maximum}"
        raise RefusedError(found, "rescale them to 8 bits, or to the whole range of 16")
    return levels


def float_levels(samples: Samples) -> Levels:
    """Scale 0..1 to 0..255 where all values lie in it, else their own min..max. RefusedError: not finite."""
    if not np.isfinite(samples).all():
        raise RefusedError("float values that are not finite (NaN or infinity)", "replace them before saving")
    low, high = float(samples.min()), float(samples.max())
    return scaled(samples, 0.0, 1.0) if low >= 0.0 and high <= 1.0 else scaled(samples, low, high)


def scaled(samples: Samples, low: float, high: float) -> Levels:
    """Map ``low``..``high`` to 0..255, rounded and cut off beyond; a range without width becomes 0."""
    levels = np.empty(samples.shape, np.uint8)
    scale = 255.0 / (high - low) if high > low else 0.0
    rows = max(1, _ROWS_AT_ONCE_PIXELS // max(1, samples[0].size))
    # a few rows at a time: in float64 a large picture would take eight times its own memory
    for top in range(0, samples.shape[0], rows):
        block = samples[top : top + rows].astype(np.float64)
        levels[top : top + rows] = np.rint(((block - low) * scale).clip(0.0, 255.0))
    return levels
