"""One mask file -> which pixels are the object's: values as they are stored, never their colours."""

import io
import math
import struct
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from whycam.data.masks.source import Mask
from whycam.data.pages import upright
from whycam.data.pillow import from_page, orientation
from whycam.data.printable import one_line
from whycam.data.reading import file_bytes, suits_pillow
from whycam.data.refusal import RefusedError, require_few_pixels
from whycam.data.silence import decoders_silenced

Values: TypeAlias = npt.NDArray[Any]
Levels: TypeAlias = npt.NDArray[np.uint8]

EXPECTED = "a mask as a whole picture or .npy file, not 0 on the object"
_VOID = 255
_LOSSY = frozenset({"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"})
_LOSSY_OBJECT = 128
_NPY = b"\x93NUMPY"
_SAVE_AGAIN = "save it as a one-bit or palette PNG"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_mask(file: Path, max_pixels: int) -> Mask:
    """Read a mask picture or array: [height, width], upright, true on the object. Raises RefusedError.

    A pixel is the object's where its value isn't 0: a palette's index, a grey level of any depth, any of
    an RGB picture's colours. Where there is an alpha channel that isn't the same everywhere, it alone
    counts. Of formats that may be lossy (JPEG, WebP, AVIF, JPEG 2000) a pixel is the object's from 128 on.
    Where 255 is the highest of several labels it is void, not the object: always so in a palette, in grey
    levels and arrays of integers only where the other labels cover no less (else they are a soft border).
    """
    data = file_bytes(file)
    if data.startswith(_NPY):
        return _from_array(data, max_pixels)
    with decoders_silenced():
        if not _is_readable(data):
            raise RefusedError("a TIFF of a layout that no mask has", _SAVE_AGAIN)
        return from_page(data, None, max_pixels, _from_page)


def _is_readable(data: bytes) -> bool:
    try:
        return data[:2] not in (b"II", b"MM") or suits_pillow(data, 0)
    except RefusedError:
        return False


def _from_page(image: ImageFile.ImageFile, mode: str, page: int, pages: int) -> Mask:
    if pages > 1:
        raise RefusedError(f"{pages} pages", "save the page with the mask as a file of its own")
    turned = upright(image, orientation(image))
    if image.format in _LOSSY:
        return _from_lossy(_highest(turned))
    if "A" in turned.getbands():
        return _from_alpha(turned)
    if turned.mode not in ("1", "L", "P", "F", "I") and not turned.mode.startswith("I;"):
        return _highest(turned) > 0
    return _from_values(np.asarray(turned), palette=turned.mode == "P")


def _from_lossy(levels: Levels) -> Mask:
    on_object = levels >= _LOSSY_OBJECT
    if levels.any() and not on_object.any():
        # labels of 1, 2, ... in a lossy format: its own noise is as large
        raise RefusedError(f"levels up to {int(levels.max())} in a format that changes them", _SAVE_AGAIN)
    return on_object


def _from_alpha(image: Image.Image) -> Mask:
    alpha = np.asarray(image.getchannel("A"))
    return alpha > 0 if alpha.min() != alpha.max() else _highest(image) > 0


def _highest(image: Image.Image) -> Levels:
    """Return each pixel's highest colour."""
    levels: Levels = np.asarray(image.convert("RGB")).max(axis=2)
    return levels


def _from_values(values: Values, *, palette: bool) -> Mask:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RefusedError("values that are not finite", "save the mask with 0 where there is no object")
    if values.min() < 0:
        raise RefusedError(f"the value {values.min()}", "save the mask with labels from 0 on")
    on_object = np.asarray(values != 0, dtype=np.bool_)
    if values.dtype.kind in "bf" or values.max() != _VOID:
        return on_object
    void = values == _VOID
    labelled = on_object & ~void
    is_void = labelled.any() and (palette or labelled.sum() >= void.sum())
    return labelled if is_void else on_object


def _from_array(data: bytes, max_pixels: int) -> Mask:
    try:
        values = _array(data, max_pixels)
    except (ValueError, SyntaxError, TypeError, struct.error, RecursionError) as error:
        # NumPy's reader of headers raises whatever it stumbles over
        raise RefusedError(
            f"a broken .npy file ({one_line(error)})", "save it again with numpy.save"
        ) from error
    return _from_values(values, palette=False)


def _array(data: bytes, max_pixels: int) -> Values:
    """Return the array [height, width] of an .npy file; nothing is allocated that the file doesn't hold."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version}")
    shape, by_columns, dtype = _HEADERS[version](file)
    flat = tuple(extent for extent in shape if extent != 1) if len(shape) != 2 else shape
    if dtype.kind not in "biuf" or len(flat) != 2:
        raise RefusedError(
            f"an array {list(shape)} of {dtype}", "save one array [height, width] of integers or booleans"
        )
    require_few_pixels(flat[1], flat[0], max_pixels)
    count = math.prod(flat)
    if len(data) - file.tell() != count * dtype.itemsize:
        raise ValueError(f"{len(data) - file.tell()} bytes for {count} values of {dtype}")
    values = np.frombuffer(data, dtype, count, file.tell())
    return values.reshape(flat, order="F" if by_columns else "C")
