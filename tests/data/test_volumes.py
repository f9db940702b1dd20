"""NIfTI slices and whole volumes: orientation, spacing, values, and bombs."""

import gzip
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile

from whycam.data import read_image, read_volume
from whycam.data.pages import MIDDLE_OF_SEVERAL
from whycam.errors import ImageError, MissingExtraError, UsageError

VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def _save(path: Path, values: Any, affine: Any = None, **header: Any) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header["descrip"] = b"SENTINEL"
    for name, value in header.items():
        image.header[name] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_is_turned_to_its_orientation(name: str, tmp_path: Path) -> None:
    straight = read_volume(_save(tmp_path / name, VALUES))
    np.testing.assert_array_equal(straight.values, VALUES.transpose(2, 1, 0))
    assert (straight.spacing, straight.orientation) == ((1.0, 1.0, 1.0), "SAR")
    left = read_volume(_save(tmp_path / name, VALUES, np.diag([-2.0, 3.0, 4.0, 1.0])))
    np.testing.assert_array_equal(left.values, VALUES[::-1].transpose(2, 1, 0))
    assert left.spacing == (4.0, 3.0, 2.0)
    # sagittal: the first axis of the file leads to the front, the second down, the third to the right
    affine = np.array([[0, 0, 5.0, 0], [2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
    sagittal = read_volume(_save(tmp_path / name, VALUES, affine))
    np.testing.assert_array_equal(sagittal.values, VALUES[:, ::-1].transpose(1, 0, 2))
    assert sagittal.spacing == (3.0, 2.0, 5.0)


def test_nifti2_and_channels_and_slope_are_read(tmp_path: Path) -> None:
    four = np.stack([VALUES, VALUES * 2], axis=3)
    image = nibabel.Nifti2Image(four, np.eye(4))
    image.header.set_slope_inter(0.5, -7)
    image.to_filename(tmp_path / "a.nii")
    found = read_volume(tmp_path / "a.nii").values
    assert (found.shape, found.dtype) == ((2, 6, 5, 4), np.float32)
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).transpose(3, 2, 1, 0)
    np.testing.assert_allclose(found, expected)


def test_the_middle_slice_is_shown_with_the_front_at_the_top(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", VALUES)
    middle = read_image(path)
    assert (middle.page, middle.pages, middle.notes) == (3, 6, (MIDDLE_OF_SEVERAL,))
    expected = np.rint(VALUES[:, ::-1, 3].T * (255 / VALUES.max()))
    np.testing.assert_array_equal(np.asarray(middle.image)[..., 0], expected)
    lowest = read_image(path, page=0)
    assert (np.asarray(lowest.image)[-1, 0, 0], lowest.notes) == (0, ())
    with pytest.raises(ImageError, match="a page from 0 to 5"):
        read_image(path, page=6)


def _packed(header_change: tuple[str, int, Any], tail: bytes, path: Path) -> Path:
    data = bytearray(_save(path.with_suffix(".nii"), VALUES).read_bytes())
    struct.pack_into(header_change[0], data, header_change[1], header_change[2])
    packed = path.with_suffix(".nii.gz")
    packed.write_bytes(gzip.compress(bytes(data) + tail))
    return packed


@pytest.mark.parametrize(
    ("change", "tail", "text"),
    [
        (("<h", 42, 4), bytes(10_000_000), "unpacks to more than its header says"),
        (("<h", 42, 30_000), b"", "stops too early"),
        (("<h", 42, 0), b"", "of the shape 0 x 5 x 6"),
        (("<h", 70, 32), b"", "complex64 values"),
        (("<h", 70, 7777), b"", "cannot be decoded"),
        (("<f", 108, 0.0), b"", "begin before its header ends"),
        (("<f", 108, float("nan")), b"", "cannot be decoded"),
        (("<4s", 344, b"ni1\0"), b"", "a NIfTI pair"),
    ],
)
def test_headers_that_lie_are_refused_and_their_text_stays_inside(
    change: Any, tail: bytes, text: str, tmp_path: Path
) -> None:
    path = _packed(change, tail, tmp_path / "a")
    for read in (read_image, read_volume):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert text in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert "SENTINEL" not in "".join(traceback.format_exception(caught.value))


def test_a_volume_of_too_many_voxels_is_refused_by_its_header(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", VALUES)
    with pytest.raises(ImageError, match="4 x 5 x 6 voxels, above the limit of 119"):
        read_volume(path, max_voxels=119)
    with pytest.raises(ImageError, match="4 x 5 x 6 voxels, above the limit of 116"):
        read_image(path, max_pixels=29)
    assert read_image(path, max_pixels=30).pages == 6
    assert read_volume(path, max_voxels=120).values.size == 120
    with pytest.raises(UsageError, match="max_voxels=0"):
        read_volume(path, max_voxels=0)


def test_a_cut_or_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", VALUES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(ImageError, match="cut or damaged"):
        read_volume(path)
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(ImageError, match="cut or damaged"):
        read_volume(path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[0, 0, 3] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        read_image(_save(tmp_path / "a.nii", values))
    with pytest.raises(ImageError, match="not finite"):
        read_volume(tmp_path / "a.nii")


def test_tiff_pages_are_a_volume_as_they_are_stored(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack")
    found = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.values, VALUES)
    assert (found.spacing, found.orientation) == (None, None)
    colours = np.stack([VALUES] * 3, axis=3)
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.tif").values, colours.transpose(3, 0, 1, 2))
    with pytest.raises(ImageError, match="voxels, above the limit of 119"):
        read_volume(tmp_path / "a.tif", max_voxels=119)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(VALUES[0], photometric="minisblack")
        file.write(VALUES[0, :2], photometric="minisblack")
    with pytest.raises(ImageError, match="page 1 is not like its first"):
        read_volume(tmp_path / "c.tif")


def test_a_dicom_volume_is_turned_by_the_positions_of_its_frames(save_dicom: Callable[..., Path]) -> None:
    from pydicom.dataset import Dataset

    frames = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)

    def group(height: float) -> Dataset:
        item, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, height]
        item.PlanePositionSequence = [position]
        return item

    shared, turn, measures = Dataset(), Dataset(), Dataset()
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [turn], [measures]
    path = save_dicom(
        frames,
        frames=2,
        RescaleSlope=2,
        RescaleIntercept=-1,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group(10), group(7)],
    )
    found = read_volume(path)
    # the second frame lies lower; columns lead to the body's left, rows to its back
    np.testing.assert_array_equal(found.values, 2 * frames[::-1, ::-1, ::-1] - 1)
    assert (found.spacing, found.orientation) == ((3.0, 0.5, 0.25), "SAR")


def test_another_file_is_no_volume(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"some text")
    with pytest.raises(ImageError, match="expected a NIfTI volume"):
        read_volume(tmp_path / "a.nii")


def test_without_nibabel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.nii", VALUES)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for read in (read_image, read_volume):
        with pytest.raises(MissingExtraError, match=r"expected nibabel .* pip install 'whycam\[medical\]'"):
            read(path)
