"""NIfTI volumes, their headers read by nibabel -> one slice as RGB, or the whole volume."""

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.data.pages import MIDDLE_OF_SEVERAL, Decoded, settled_page
from whycam.data.refusal import (
    LacksPackageError,
    RefusedError,
    refuse_undecodable,
    require_few_pixels,
)
from whycam.data.silence import filter_loggers
from whycam.data.tones import Samples, scaled

FIRST_VOLUME = "only the first of several volumes in a file is seen"

_KIND = "a NIfTI file"
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_MAGIC_ONE, _MAGIC_TWO = slice(344, 348), slice(4, 12)
_SINGLE_FILES, _PAIRS = (b"n+1\0", b"n+2\0\r\n\x1a\n"), (b"ni1\0", b"ni2\0\r\n\x1a\n")
_NUMBERS = "iuf"
_VOXELS_A_PIXEL = 4  # of 100 million pixels: a whole body at 512 x 512 x 1500

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file whose header was found sound.

    ``stored`` is a view [right, anterior, superior, ...] of the stored numbers, turned so that each axis
    rises towards what it is called after (RAS); ``spacing`` is in millimetres in that order. A value is
    ``stored * slope + intercept``.
    """

    stored: Samples
    slope: float
    intercept: float
    spacing: tuple[float, float, float]

    def values(self, stored: Samples) -> Values:
        """Return the values of a part of the stored numbers. Raises RefusedError where not finite."""
        with np.errstate(all="ignore"):
            found = (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)
        if not np.isfinite(found).all():
            raise RefusedError(f"{_KIND} whose values are not finite (NaN or infinity)", "replace them")
        return found


def is_nifti(data: bytes) -> bool:
    """Return whether a file is NIfTI, packed or not, of one file or the header of a pair."""
    head = _head(data)
    return head[_MAGIC_ONE] in (*_SINGLE_FILES, *_PAIRS) or head[_MAGIC_TWO] in (*_SINGLE_FILES, *_PAIRS)


def decode(data: bytes, wanted: int | None, max_pixels: int) -> Decoded:
    """Read a slice across the third axis of the volume in RAS orientation, from feet to head.

    The front of the body is at the top and its left on the left. ``scl_slope`` and ``scl_inter`` are
    applied; the whole volume's min..max becomes 0..255, so that slices can be compared. Of several volumes
    in the file it is the first. ``max_pixels`` bounds a slice, and four times as many all voxels of the
    file. No text of the header leaves. Raises RefusedError, or LacksPackageError without nibabel.
    """
    volume = open_nifti(data, _VOXELS_A_PIXEL * max_pixels)
    width, height, pages = volume.stored.shape[:3]
    require_few_pixels(width, height, max_pixels)
    page = settled_page(wanted, pages, default=pages // 2)
    first = volume.stored[..., 0] if volume.stored.ndim == 4 else volume.stored
    low, high = sorted(volume.values(np.array([first.min(), first.max()])).tolist())
    # rows run from the front to the back, columns from left to right
    shown = volume.values(first[:, :, page]).T[::-1]
    image = Image.fromarray(scaled(shown, low, high)).convert("RGB")
    notes = [MIDDLE_OF_SEVERAL] if wanted is None and pages > 1 else []
    notes += [FIRST_VOLUME] if volume.stored.ndim == 4 and volume.stored.shape[3] > 1 else []
    return Decoded(image, volume.stored.dtype.name, page, pages, tuple(notes))


def open_nifti(data: bytes, max_voxels: int) -> Nifti:
    """Unpack as much as the header announces and no more. Raises RefusedError or LacksPackageError."""
    nibabel = _nibabel()
    try:
        return _opened(data, max_voxels, nibabel)
    except RefusedError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile):
        reason = "cut or damaged"
    except Exception as error:
        reason = type(error).__name__
    return refuse_undecodable(_KIND, reason)


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError:
        raise LacksPackageError(_KIND, "nibabel") from None
    filter_loggers()
    module: ModuleType = nibabel
    return module


def _head(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data[:_HEADER_BYTES]
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _opened(data: bytes, max_voxels: int, nibabel: Any) -> Nifti:
    head = _head(data)
    if head[_MAGIC_ONE] in _PAIRS or head[_MAGIC_TWO] in _PAIRS:
        raise RefusedError("the header of a NIfTI pair", "save the pair as one .nii file")
    kind = nibabel.Nifti2Header if head[_MAGIC_TWO] in _SINGLE_FILES else nibabel.Nifti1Header
    header = kind(head[: kind.sizeof_hdr], check=False)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    _require_plain(shape, dtype, max_voxels)
    start, count = int(header["vox_offset"]), math.prod(shape)
    end = start + count * dtype.itemsize
    if not kind.sizeof_hdr <= start <= len(data) + end:
        raise RefusedError(f"{_KIND} whose data begin before its header ends", "save it again")
    content = _content(data, end)
    stored = np.frombuffer(content, dtype, count, start).reshape(shape, order="F")
    stored = stored.reshape(*shape, *[1] * (3 - len(shape)))
    if stored.ndim > 4:
        stored = stored.reshape(*shape[:3], -1, order="F")
    slope, intercept = header.get_slope_inter()
    affine = header.get_best_affine()
    turned = nibabel.orientations.io_orientation(affine)
    ras = nibabel.orientations.apply_orientation(stored, turned)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turned[:, 0])]
    return Nifti(ras, 1.0 if slope is None else slope, intercept or 0.0, tuple(spacing.tolist()))


def _require_plain(shape: tuple[int, ...], dtype: npt.DTypeLike, max_voxels: int) -> None:
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise RefusedError(f"{_KIND} of the shape {' x '.join(map(str, shape))}", "save a volume")
    if math.prod(shape) > max_voxels:
        found = f"{' x '.join(map(str, shape))} voxels, above the limit of {max_voxels}"
        raise RefusedError(found, "resample the volume, or raise the limit if you trust the file")
    found_type = np.dtype(dtype)
    if found_type.kind not in _NUMBERS or found_type.itemsize > 8:
        raise RefusedError(f"{_KIND} of {found_type.name} values", "save it as integers or floats")


def _content(data: bytes, end: int) -> bytes:
    """Return the unpacked file. Raises RefusedError where it is not as long as its header says."""
    content = data
    if data.startswith(_GZIP):
        with gzip.open(io.BytesIO(data)) as file:
            # one byte more: a longer file is a bomb, and at the end of a whole one its checksum is compared
            content = file.read(end + 1)
        if len(content) > end:
            raise RefusedError(
                f"{_KIND} that unpacks to more than its header says", "don't trust it, or save it again"
            )
    if len(content) < end:
        raise RefusedError(f"{_KIND} that stops too early", "copy or download the file again")
    return content
