"""A volume of a NIfTI, DICOM or TIFF file as numbers, for networks on three axes."""

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whycam.data import dicom, nifti
from whycam.data.reading import file_bytes, lacking_line, refusal_line
from whycam.data.refusal import LacksPackageError, RefusedError
from whycam.data.silence import decoders_silenced
from whycam.data.tiff import page_samples
from whycam.data.tiff_directories import page_offsets
from whycam.errors import ImageError, MissingExtraError, UsageError

_EXPECTED = "a NIfTI volume, a DICOM image of gray frames, or a TIFF whose pages are alike"
_TO_SAR = (2, 1, 0)
_UNEVEN = 0.01


@dataclass(frozen=True)
class Volume:
    """A volume's values as the file means them, float32 [D, H, W], or [C, D, H, W] with channels.

    Where ``orientation`` is ``"SAR"``, depth rises from feet to head, height from back to front and width
    from the body's left to its right; where it is None the file says nothing of it, and the axes are pages,
    rows and columns as stored. ``spacing`` is the distance of neighbours along [D, H, W] in millimetres,
    None where it is not known. ``content_hash`` is the SHA-256 of the file's bytes in hex.
    """

    values: npt.NDArray[np.float32]
    spacing: tuple[float, float, float] | None
    orientation: str | None
    content_hash: str


@dataclass(frozen=True)
class _Content:
    values: npt.NDArray[np.float32]
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None


def read_volume(path: str | Path, *, max_voxels: int = 200_000_000) -> Volume:
    """Read all of a volume, once, without scaling its values.

    - NIfTI (``.nii``, ``.nii.gz``): ``scl_slope`` and ``scl_inter`` applied, turned to SAR by its affine;
      a fourth axis becomes the channels.
    - DICOM, multi-frame or single: the modality values (rescale slope and intercept), turned to SAR where
      the frames are parallel and evenly spaced by their positions; else frames as stored. A series of
      several files is not put together.
    - TIFF: the stored values of its pages, which must be alike; samples become the channels.

    ``max_voxels`` counts all channels. What is refused is refused as by `whycam.data.read_image`.

    Raises:
        ImageError: it cannot be read, is too large or not a volume; one line with the mend.
        MissingExtraError: it needs a package of the extra ``medical`` that is not installed.
        UsageError: ``max_voxels`` is not positive.
    """
    if max_voxels < 1:
        raise UsageError(f"found max_voxels={max_voxels}, expected a positive number")
    try:
        data = file_bytes(path)
        with decoders_silenced():
            content = _content(data, Path(path).suffix, max_voxels)
    except LacksPackageError as lacks:
        raise MissingExtraError(lacking_line(path, lacks)) from None
    except RefusedError as refused:
        raise ImageError(refusal_line(path, refused, _EXPECTED)) from refused
    return Volume(content.values, content.spacing, content.orientation, hashlib.sha256(data).hexdigest())


def _content(data: bytes, suffix: str, max_voxels: int) -> _Content:
    if dicom.is_dicom(data, suffix):
        image = dicom.open_dicom(data, max_voxels)
        return dicom.safely(lambda: _dicom_content(image, max_voxels), image.syntax)
    if nifti.is_nifti(data):
        return _nifti_content(nifti.open_nifti(data, max_voxels))
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_content(data, max_voxels)
    raise RefusedError(f"something else (it begins with {data[:8]!r})", "save it as NIfTI")


def _nifti_content(volume: nifti.Nifti) -> _Content:
    values = volume.values(volume.stored)
    ordered = np.ascontiguousarray(values.transpose(*range(3, values.ndim), *_TO_SAR))
    whole = ordered[0] if ordered.ndim == 4 and len(ordered) == 1 else ordered
    spacing = (volume.spacing[2], volume.spacing[1], volume.spacing[0])
    return _Content(whole, spacing, "SAR")


def _tiff_content(data: bytes, max_voxels: int) -> _Content:
    pages = len(page_offsets(data))
    first, _ = page_samples(data, 0, max_voxels)
    _require_few_voxels(pages, first.shape, max_voxels)
    stack = np.empty((first.shape[2], pages, *first.shape[:2]), np.float32)
    for page in range(pages):
        samples, _ = page_samples(data, page, max_voxels) if page else (first, 1)
        if samples.shape != first.shape or samples.dtype != first.dtype:
            raise RefusedError(f"a TIFF whose page {page} is not like its first", "save pages of one size")
        stack[:, page] = np.moveaxis(samples, -1, 0)
    return _Content(stack[0] if len(stack) == 1 else stack)


def _dicom_content(image: dicom.OpenDicom, max_voxels: int) -> _Content:
    shape = (int(image.dataset.Rows), int(image.dataset.Columns))
    _require_few_voxels(image.frames, shape, max_voxels)
    if not image.is_gray:
        raise RefusedError("a DICOM image in colour", "read its frames as pictures, or export it as gray")
    values = np.empty((image.frames, *shape), np.float32)
    for page in range(image.frames):
        values[page] = dicom.modality_values(image, page)[0]
    affine = _affine(image)
    if affine is None:
        return _Content(values)
    return _turned(values, affine)


def _affine(image: dicom.OpenDicom) -> npt.NDArray[np.float64] | None:
    """Return what leads from (frame, row, column) to millimetres (right, anterior, superior), or None."""
    pages = range(image.frames)
    places = [image.element(page, "PlanePositionSequence", "ImagePositionPatient") for page in pages]
    turns = [image.element(page, "PlaneOrientationSequence", "ImageOrientationPatient") for page in pages]
    between = image.element(0, "PixelMeasuresSequence", "PixelSpacing")
    if between is None or any(value is None for value in [*places, *turns]) or len(places) < 2:
        return None
    positions, cosines = np.array(places, np.float64), np.array(turns, np.float64)
    steps = np.diff(positions, axis=0)
    step = steps.mean(axis=0)
    even = np.abs(steps - step).max() <= _UNEVEN * np.linalg.norm(step)
    parallel = np.abs(cosines - cosines[0]).max() <= _UNEVEN
    if not (even and parallel and np.linalg.norm(step) > 0):
        return None
    # the first three cosines lead along a row, from column to column (PS3.3, C.7.6.2.1.1)
    columns = np.stack([step, cosines[0, 3:] * float(between[0]), cosines[0, :3] * float(between[1])], 1)
    # DICOM's axes rise to the left and to the back
    return np.asarray(np.diag([-1.0, -1.0, 1.0]) @ columns, np.float64)


def _turned(values: npt.NDArray[np.float32], axes: npt.NDArray[np.float64]) -> _Content:
    try:
        orientations: Any = importlib.import_module("nibabel.orientations")
    except ImportError:
        raise LacksPackageError("a DICOM volume with an orientation", "nibabel") from None
    affine = np.eye(4)
    affine[:3, :3] = axes
    orientation = orientations.io_orientation(affine)
    ras = orientations.apply_orientation(values, orientation)
    right, front, up = np.linalg.norm(axes, axis=0)[np.argsort(orientation[:, 0])].tolist()
    return _Content(np.ascontiguousarray(ras.transpose(_TO_SAR)), (up, front, right), "SAR")


def _require_few_voxels(pages: int, page: Any, max_voxels: int) -> None:
    if pages * int(np.prod(page)) > max_voxels:
        found = f"{' x '.join(map(str, (pages, *page)))} voxels, above the limit of {max_voxels}"
        raise RefusedError(found, "resample the volume, or raise max_voxels if you trust the file")
