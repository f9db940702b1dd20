"""Real files, byte by byte where a library would not write them, and one of each kind that is read."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

MakeFile = Callable[..., bytes]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(
    width: int, depth: int, colour: int, rows: list[bytes], before: bytes = b"", after: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = _png_chunk(b"IHDR", header) + before + _png_chunk(b"IDAT", data) + after
    return b"\x89PNG\r\n\x1a\n" + body + _png_chunk(b"IEND", b"")


def _tiff(
    pixels: bytes,
    width: int,
    height: int,
    bits: int,
    sample_format: int,
    photometric: int = 1,
    order: str = "<",
) -> bytes:
    """Write pixels first and the directory last, as libtiff does."""
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(pixels))
    tags = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)),
        *((278, height), (279, len(pixels)), (339, sample_format)),
    ]
    directory = struct.pack(order + "H", len(tags))
    for tag, value in tags:
        directory += struct.pack(order + "HHII", tag, 4, 1, value)
    return start + pixels + directory + struct.pack(order + "I", 0)


@pytest.fixture(scope="session")
def png_chunk() -> MakeFile:
    return _png_chunk


@pytest.fixture(scope="session")
def make_png() -> MakeFile:
    return _png


@pytest.fixture(scope="session")
def make_tiff() -> MakeFile:
    return _tiff


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A small picture with ramps and noise, so that no two parts of it look alike."""
    height, width = 21, 30
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    noise = np.random.default_rng(7).integers(0, 256, (height, width))
    return Image.fromarray(np.stack([ramp, ramp[::-1], noise], axis=-1).astype(np.uint8))


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _run_length_bmp() -> bytes:
    pixels = b"\x04\x01\x00\x00\x02\x00\x02\x03\x00\x00\x00\x01"
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


@pytest.fixture(scope="session")
def whole_files(photo: Image.Image) -> dict[str, bytes]:
    """Return one whole file of each format and compression that is read."""
    gray = np.asarray(photo)[..., 0]
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "jpeg": _saved(photo, "JPEG"),
        "jpeg-progressive": _saved(photo, "JPEG", progressive=True, restart_marker_blocks=2),
        "jpeg-cmyk": _saved(photo.convert("CMYK"), "JPEG"),
        "jpeg-turned": _saved(photo, "JPEG", exif=turned),
        "mpo": _saved(photo, "MPO", save_all=True, append_images=[photo.rotate(90)]),
        "png": _saved(photo, "PNG"),
        "png-turned": _saved(photo, "PNG", exif=turned),
        "png-16": _saved(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
        "gif": _saved(photo.convert("P"), "GIF"),
        "gif-animated": _saved(
            photo.convert("P"), "GIF", save_all=True, append_images=[photo.rotate(90).convert("P")]
        ),
        "webp": _saved(photo, "WEBP"),
        "webp-lossless": _saved(photo, "WEBP", lossless=True),
        "avif": _saved(photo, "AVIF"),
        "jp2": _saved(photo, "JPEG2000"),
        "j2k": _saved(photo, "JPEG2000", no_jp2=True),
        "bmp": _saved(photo, "BMP"),
        "bmp-rle": _run_length_bmp(),
        "ppm": _saved(photo, "PPM"),
        "ppm-plain": b"P3 3 2 255\n" + b" ".join(str(level).encode() for level in range(10, 28)) + b"\n",
        "pgm-16": _saved(Image.fromarray(gray.astype(np.int32) * 257), "PPM"),
        "pbm": _saved(photo.convert("1"), "PPM"),
        "pfm": _saved(Image.fromarray(gray.astype(np.float32)), "PPM"),
        "tiff-turned": _saved(photo, "TIFF", exif=turned),
        "tiff-float": _tiff(gray.astype("<f4").tobytes(), 30, 21, 32, 3),
        "tiff-signed": _tiff((gray.astype("<i2") * 128).tobytes(), 30, 21, 16, 2),
        "tiff-white-is-zero": _tiff(gray.tobytes(), 30, 21, 8, 1, photometric=0),
        "tiff-fax": _saved(photo.convert("1"), "TIFF", compression="group4"),
    }
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff-{compression}"] = _saved(photo, "TIFF", compression=compression)
    return files


def _dataset(pixels: Any, frames: int | None = None, **elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = elements.pop("storage", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID = "SENTINEL^NAME", "SENTINEL-ID"
    dataset.StudyDescription, dataset.PatientBirthDate = "SENTINEL study", "SENTINEL"
    dataset.add_new(0x00101010, "AS", "SENTINEL-AGE-WRONG-FOR-ITS-VR")
    shape = pixels.shape if frames is None else pixels.shape[1:]
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = shape[2] if len(shape) == 3 else 1
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    if frames is not None:
        dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = "RGB" if dataset.SamplesPerPixel == 3 else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    return dataset


@pytest.fixture
def save_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Give what writes a DICOM file whose patient is called SENTINEL; returns its path."""

    def saved(pixels: Any, name: str = "a.dcm", **elements: Any) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _dataset(pixels, **elements).save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return saved
