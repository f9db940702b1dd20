"""The TIFF pages that Pillow can't give without losing values, read by tifffile -> one upright RGB page."""

import io
import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.data.pages import FIRST_OF_SEVERAL, Decoded, settled_page, upright
from whycam.data.refusal import (
    LacksPackageError,
    RefusedError,
    refuse_undecodable,
    require_few_pixels,
)
from whycam.data.silence import filter_loggers
from whycam.data.tiff_directories import page_offsets, pixel_layout
from whycam.data.tones import Levels, Samples, float_levels, integer_levels
from whycam.data.wholeness import require_whole

EXTRA_SAMPLES_LEFT_OUT = "the TIFF samples beyond colours and alpha are not seen"

_KIND = "a TIFF"
_MOST_SAMPLES_A_PIXEL = 64
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2
_UNCOMPRESSED, _LZW, _DEFLATES, _PACKBITS = 1, 5, (8, 32946), 32773
_MOST_PADDING_BYTES = 1024


def decode_by_tifffile(data: bytes, wanted: int | None, max_pixels: int) -> Decoded:
    """Read a page of any numbers of samples and bits; see `whycam.data.read_image` for the scale.

    Three samples are colours, also where the file calls them gray; of others gray takes the first and RGB
    the first three. Raises RefusedError, or LacksPackageError without tifffile.
    """
    pages = len(page_offsets(data))
    page = settled_page(wanted, pages)
    require_whole(data, "TIFF", page)
    try:
        layout = pixel_layout(data, page)
    except struct.error as error:
        raise RefusedError("a TIFF file that stops too early", "copy or download the file again") from error
    if layout.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise RefusedError(
            f"a TIFF of {layout.bits} bits in the colour space {layout.photometric} (TIFF 6.0's number)",
            "save it as gray or RGB",
        )
    samples, orientation = page_samples(data, page, max_pixels)
    image, left_out = _picture(samples, layout.bits, layout.photometric, layout.extra)
    notes = [FIRST_OF_SEVERAL] if wanted is None and pages > 1 else []
    notes += [EXTRA_SAMPLES_LEFT_OUT] if left_out else []
    mode = f"{samples.dtype.name} x {samples.shape[2]}"
    return Decoded(upright(image, orientation), mode, page, pages, tuple(notes))


def page_samples(data: bytes, page: int, max_pixels: int) -> tuple[Samples, int]:
    """Return a page's samples [H, W, samples] as they are stored, and its orientation, 1 to 8.

    Raises RefusedError, LacksPackageError.
    """
    tifffile = _tifffile()
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found = file.pages[page]
            _require_honest(found, data, max_pixels)
            samples = found.asarray(maxworkers=1)
            orientation = int(getattr(found.tags.get(274), "value", 1))
            shape = (found.imagelength, found.imagewidth, found.samplesperpixel)
            return _with_samples_last(samples, found.axes, shape), orientation
    except RefusedError:
        raise
    except Exception as error:
        reason, lacks_codec = type(error).__name__, "imagecodecs" in str(error)
    if lacks_codec:
        raise RefusedError(
            f"{_KIND} of these samples whose compression tifffile has no decoder for here",
            "pip install imagecodecs, or save it uncompressed, or with deflate",
        )
    return refuse_undecodable(_KIND, reason)


def _tifffile() -> ModuleType:
    try:
        import tifffile
    except ImportError:
        raise LacksPackageError("a TIFF of this kind of samples", "tifffile") from None
    filter_loggers()
    module: ModuleType = tifffile
    return module


def _require_honest(page: Any, data: bytes, max_pixels: int) -> None:
    """Refuse a page whose header or compressed data ask for more memory than its pixels may take."""
    require_few_pixels(page.imagewidth, page.imagelength, max_pixels)
    samples, depth = page.samplesperpixel, page.imagedepth
    if depth != 1 or not 1 <= samples <= _MOST_SAMPLES_A_PIXEL:
        raise RefusedError(
            f"a TIFF page of depth {depth} with {samples} samples a pixel",
            f"save one page a layer, with at most {_MOST_SAMPLES_A_PIXEL} samples",
        )
    if page.imagewidth * page.imagelength * samples > 4 * max_pixels:
        found = (
            f"{page.imagewidth} x {page.imagelength} x {samples} samples, above the limit of {4 * max_pixels}"
        )
        raise RefusedError(found, "resize the picture, or raise max_pixels if you trust the file")
    if page.compression not in (_UNCOMPRESSED, _LZW, *_DEFLATES, _PACKBITS):
        raise RefusedError(
            f"a TIFF of {page.bitspersample} bits in the compression {int(page.compression)} (TIFF's number)",
            "save it uncompressed, or with deflate",
        )
    height, width = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    )
    height = height if page.is_tiled else min(height, page.imagelength)
    require_few_pixels(width, height, max(max_pixels, _MOST_PADDING_BYTES))
    if sum(page.databytecounts) > len(data):
        raise RefusedError("a TIFF whose parts are larger than the file", "copy the file again")
    if page.compression in _DEFLATES:
        in_one = samples if page.planarconfig == 1 else 1
        _require_no_bomb(page, data, height * ((width * in_one * page.bitspersample + 7) // 8))


def _require_no_bomb(page: Any, data: bytes, segment_bytes: int) -> None:
    # tifffile unpacks a strip or tile as a whole before it looks at its size
    view = memoryview(data)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        packed = view[offset : offset + count]
        unpacked = zlib.decompressobj().decompress(packed, segment_bytes + _MOST_PADDING_BYTES + 1)
        if len(unpacked) > segment_bytes + _MOST_PADDING_BYTES:
            raise RefusedError(
                "a TIFF that unpacks to more than its header says", "don't trust it, or save it again"
            )


def _with_samples_last(samples: Samples, axes: str, shape: tuple[int, int, int]) -> Samples:
    if axes == "YX":
        samples = samples[..., np.newaxis]
    elif axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    if samples.shape != shape:
        raise RefusedError(
            f"a TIFF page of the shape {samples.shape} where its header says {shape}", "copy the file again"
        )
    return samples


def _picture(
    samples: Samples, bits: int, photometric: int, extra: tuple[int, ...]
) -> tuple[Image.Image, bool]:
    """Return the RGB picture of [H, W, samples], and whether samples were left out."""
    count = samples.shape[2]
    is_alpha = [kind in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA) for kind in extra]
    three = count >= 3 if photometric == _RGB else count == 3 and not any(is_alpha)
    colours = 3 if three else 1
    alphas = [colours + place for place, alpha in enumerate(is_alpha) if alpha]
    has_alpha = bool(alphas) and alphas[0] < count and samples.dtype.kind == "u"
    levels = _levels(samples[..., :colours], bits)
    if photometric == _WHITE_IS_ZERO:
        np.subtract(255, levels, out=levels)
    rgb = np.repeat(levels, 3, axis=2) if colours == 1 else np.ascontiguousarray(levels)
    if has_alpha:
        opacity = integer_levels(samples[..., alphas[0]], _maximum(samples.dtype, bits))
        rgb = _on_white(rgb, opacity, associated=extra[alphas[0] - colours] == _ASSOCIATED_ALPHA)
    return Image.fromarray(rgb), count > colours + has_alpha


def _levels(samples: Samples, bits: int) -> Levels:
    if samples.dtype.kind in "iu":
        return integer_levels(samples, _maximum(samples.dtype, bits))
    if samples.dtype.kind == "f":
        return float_levels(samples)
    raise RefusedError(f"a TIFF of {samples.dtype.name} samples", "save it as integers or floats")


def _maximum(dtype: npt.DTypeLike, bits: int) -> int:
    """Return the largest value of ``bits`` bits; the type that holds them may be wider, not narrower."""
    if bits > 8 * np.dtype(dtype).itemsize:
        raise RefusedError(f"a TIFF of {bits} bits whose samples have fewer", "copy the file again")
    return int((1 << (bits - 1 if np.dtype(dtype).kind == "i" else bits)) - 1)


def _on_white(rgb: Levels, opacity: Levels, *, associated: bool) -> Levels:
    """Composite colours on white; associated ones are multiplied by their opacity already (TIFF 6.0)."""
    share = opacity[..., np.newaxis].astype(np.float32) / 255
    own = rgb.astype(np.float32) * (1 if associated else share)
    on_white: Levels = np.rint(own + 255 * (1 - share)).clip(0, 255).astype(np.uint8)
    return on_white
