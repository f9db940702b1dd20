"""The TIFFs that Pillow can't read, or reads as other values than they hold."""

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from whycam.data import read_image
from whycam.data.tiff import EXTRA_SAMPLES_LEFT_OUT
from whycam.errors import ImageError, MissingExtraError, UsageError

DRAWS = np.random.default_rng(6)
WIDE = DRAWS.integers(0, 65536, (12, 10, 3), dtype=np.uint16)
COLOURS = (WIDE // 257).astype(np.uint8)


def _write(path: Path, pixels: Any, **options: Any) -> Path:
    tifffile.imwrite(path / "a.tif", pixels, **options)
    return path / "a.tif"


def _levels(path: Path, **options: Any) -> Any:
    return np.asarray(read_image(path, **options).image).astype(int)


def _by_type(pixels: Any) -> Any:
    return np.rint(pixels.astype(float) * 255 / np.iinfo(pixels.dtype).max)


def test_pillow_itself_takes_the_low_byte_of_planes_and_signed_bytes_for_unsigned(tmp_path: Path) -> None:
    planes = _write(tmp_path, WIDE.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert np.asarray(Image.open(planes))[0, 0, 0] == WIDE[0, 0, 0] & 255
    signed = _write(tmp_path, np.full((4, 4), -3, np.int8), photometric="minisblack")
    assert np.asarray(Image.open(signed))[0, 0] == 253


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (WIDE, {"photometric": "rgb", "planarconfig": "separate"}),
        (WIDE, {"photometric": "rgb", "bigtiff": True}),
        (WIDE.astype(np.uint32) * 65537, {"photometric": "rgb"}),
        ((WIDE // 2).astype(np.int16), {"photometric": "rgb"}),
        (WIDE.astype(np.uint32) * 65537, {"photometric": "rgb", "byteorder": ">", "compression": "zlib"}),
        (np.tile(WIDE, (2, 2, 1)).astype(np.uint32) * 65537, {"photometric": "rgb", "tile": (16, 16)}),
        (COLOURS, {"photometric": "minisblack", "planarconfig": "contig"}),
        ((COLOURS // 2).astype(np.int8), {"photometric": "rgb"}),
    ],
)
def test_colours_are_scaled_by_the_full_range_of_their_type(
    pixels: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    separate = options.get("planarconfig") == "separate"
    path = _write(tmp_path, pixels.transpose(2, 0, 1) if separate else pixels, **options)
    np.testing.assert_allclose(_levels(path), _by_type(pixels), atol=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_unit_range_or_the_pictures_own(dtype: Any, tmp_path: Path) -> None:
    unit = DRAWS.random((12, 10, 3)).astype(dtype)
    expected = np.rint(unit.astype(float) * 255)
    np.testing.assert_allclose(_levels(_write(tmp_path, unit, photometric="rgb")), expected, atol=1)
    wide = unit * 9 - 3
    low, high = float(wide.min()), float(wide.max())
    expected = (wide.astype(float) - low) * 255 / (high - low)
    np.testing.assert_allclose(_levels(_write(tmp_path, wide, photometric="rgb")), expected, atol=1)
    wide[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        read_image(_write(tmp_path, wide, photometric="rgb"))


def test_alpha_is_composited_on_white_and_other_samples_are_left_out_with_a_note(tmp_path: Path) -> None:
    gray = np.full((4, 4, 2), 65535, np.uint16)
    gray[..., 0], gray[0, 0, 1] = 0, 0
    path = _write(
        tmp_path, gray, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    assert (_levels(path)[0, 0].tolist(), _levels(path)[1, 1].tolist()) == ([255] * 3, [0] * 3)
    assert read_image(path).notes == ()
    channels = np.stack([WIDE[..., 0]] * 5, axis=2)
    picture = read_image(_write(tmp_path, channels, photometric="minisblack", planarconfig="contig"))
    assert picture.original_mode == "uint16 x 5"
    assert picture.notes == (EXTRA_SAMPLES_LEFT_OUT,)
    np.testing.assert_array_equal(np.asarray(picture.image)[..., 1], _by_type(WIDE[..., 0]))


def test_signed_bytes_are_not_taken_for_unsigned_ones(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="negative gray values"):
        read_image(_write(tmp_path, np.full((4, 4), -3, np.int8), photometric="minisblack"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.float64])
def test_a_page_is_chosen_by_either_reader(dtype: Any, tmp_path: Path) -> None:
    scale = dtype(600) if dtype == np.uint16 else dtype(1)
    pages = np.stack([np.full((5, 4), level, dtype) for level in (0, 100, 100)]) * scale
    pages[2, 0] = 0
    path = _write(tmp_path, pages, photometric="minisblack")
    first, last = read_image(path), read_image(path, page=2)
    assert [(p.page, p.pages, len(p.notes)) for p in (first, last)] == [(0, 3, 1), (2, 3, 0)]
    assert last.content_hash == first.content_hash
    assert np.asarray(last.image).any()
    assert not np.asarray(first.image).any()
    with pytest.raises(ImageError, match=r"found 3 pages where page 3 was asked for, .* from 0 to 2$"):
        read_image(f"{path}#page=3")


def test_a_page_of_a_single_picture_and_a_senseless_one(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", page=0).pages == 1
    with pytest.raises(ImageError, match="found one page where page 1 was asked for"):
        read_image(tmp_path / "a.png", page=1)
    with pytest.raises(UsageError, match="page=-1"):
        read_image(tmp_path / "a.png", page=-1)
    with pytest.raises(ImageError, match=r"found the page '-1'.*pages count from 0"):
        read_image(f"{tmp_path / 'a.png'}#page=-1")


def test_a_file_whose_name_looks_like_a_page_is_that_file(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png#page=0", "PNG")
    assert read_image(tmp_path / "a.png#page=0").image.size == (3, 3)


def test_a_strip_that_unpacks_to_more_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, WIDE.astype(np.float32), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    bomb = zlib.compress(bytes(1_000_000), 9)
    assert len(bomb) < count
    data = bytearray(path.read_bytes())
    data[offset : offset + len(bomb)] = bomb
    path.write_bytes(bytes(data))
    with pytest.raises(ImageError, match="unpacks to more than its header says"):
        read_image(path)


def test_a_header_of_too_many_samples_or_pixels_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, WIDE.astype(np.float32), photometric="rgb")
    with pytest.raises(ImageError, match="10 x 12 = 120 pixels, above the limit of 119"):
        read_image(path, max_pixels=119)
    many = _write(tmp_path, np.zeros((4, 4, 60), np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match="4 x 4 x 60 samples, above the limit of 64"):
        read_image(many, max_pixels=16)


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path: Path) -> None:
    path = _write(tmp_path, np.zeros((2, 4, 4), np.uint8), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[1].offset
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * count, first)
    path.write_bytes(bytes(data))
    assert read_image(path).pages == 2


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_compressed_files_give_the_exact_pixels_with_pillow_alone(
    compression: str, predictor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for pixels in (COLOURS, COLOURS[..., 0], WIDE[..., 0]):
        try:
            Image.fromarray(pixels).save(
                tmp_path / "a.tif", compression=compression, tiffinfo={317: predictor}
            )
        except OSError:
            pytest.skip(f"this Pillow's libtiff is built without {compression}")
        shown = pixels if pixels.ndim == 3 else pixels[..., np.newaxis].repeat(3, 2)
        np.testing.assert_array_equal(_levels(tmp_path / "a.tif"), _by_type(shown))


def test_jpeg_in_a_tiff_gives_the_pixels_of_the_jpeg(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(64, 64)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    np.testing.assert_allclose(_levels(tmp_path / "a.tif")[..., 0], smooth, atol=4)


@pytest.mark.parametrize("number", [50001, 34712, 34661, 99])
def test_a_compression_that_nothing_here_decodes_is_one_line_with_the_mend(
    number: int, tmp_path: Path
) -> None:
    path = _pillows(tmp_path)
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    struct.pack_into("<H", data, entry + 8, number)
    path.write_bytes(data)
    with pytest.raises(
        ImageError, match=r"; (copy the file again, or )?save it .*(as PNG|with deflate)"
    ) as told:
        read_image(path)
    assert len(str(told.value).splitlines()) == 1


def test_lzw_of_samples_that_pillow_misreads_names_the_package_that_decodes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={339: 2})

    def absent(*_: Any, **__: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", absent)
    with pytest.raises(ImageError, match="pip install imagecodecs"):
        read_image(tmp_path / "a.tif")


def test_without_tifffile_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, WIDE.astype(np.float32), photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingExtraError, match=r"expected tifffile .* pip install 'whycam\[medical\]'"):
        read_image(path)
    assert read_image(_pillows(tmp_path)).pages == 1


def _pillows(folder: Path) -> Path:
    Image.fromarray(COLOURS).save(folder / "plain.tif")
    return folder / "plain.tif"
