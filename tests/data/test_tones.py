"""Each mode against arithmetic done here, on pictures that went through a real file."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from whycam.data.refusal import RefusedError
from whycam.data.tones import scale_png_key, to_rgb

MakeFile = Callable[..., bytes]
Pixels = npt.NDArray[Any]


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _saved(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _levels(data: bytes) -> Pixels:
    """Return the gray levels [height, width] of a file that must come out gray."""
    rgb = to_rgb(_opened(data))
    assert rgb.mode == "RGB"
    pixels = np.asarray(rgb)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def test_pillow_itself_clamps_sixteen_bits() -> None:
    # if this fails, Pillow learnt to scale, and to_rgb may be able to lean on it
    assert np.asarray(Image.fromarray(np.array([[300]], np.uint16)).convert("L")).item() == 255


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_sixteen_bit_gray_is_scaled_by_the_full_range(samples: Pixels) -> None:
    expected = (2 * samples.astype(np.int64) + 257) // 514
    data = _saved(Image.fromarray(samples))
    if np.unique(samples).size > 1 and np.unique(expected).size == 1:
        with pytest.raises(RefusedError, match="one single tone"):
            to_rgb(_opened(data))
    else:
        np.testing.assert_array_equal(_levels(data), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_of_either_byte_order_is_scaled(order: str, make_tiff: MakeFile) -> None:
    data = make_tiff(np.array([[0, 257, 32896, 65535]], order + "u2").tobytes(), 4, 1, 16, 1, order=order)
    np.testing.assert_array_equal(_levels(data), [[0, 1, 128, 255]])


def test_sixteen_bits_in_pillows_wide_mode_are_scaled_like_sixteen_bits() -> None:
    data = b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32896, 65535)
    assert _opened(data).mode == "I"
    np.testing.assert_array_equal(_levels(data), [[0, 128, 255]])


def test_a_pgm_of_ten_bits_reaches_white_at_its_own_maximum() -> None:
    np.testing.assert_array_equal(_levels(b"P5 2 1 1023\n" + struct.pack(">2H", 1023, 0)), [[255, 0]])


def test_twelve_bit_tiff_reaches_white_at_4095(make_tiff: MakeFile) -> None:
    np.testing.assert_array_equal(_levels(make_tiff(bytes([0xFF, 0xF8, 0x00]), 2, 1, 12, 1)), [[255, 128]])


@pytest.mark.parametrize(
    ("dtype", "sample_format", "maximum"),
    [("<i2", 2, 2**15 - 1), ("<u4", 1, 2**32 - 1), ("<i4", 2, 2**31 - 1)],
)
def test_wide_integer_tiff_is_scaled_by_the_maximum_of_its_type(
    dtype: str, sample_format: int, maximum: int, make_tiff: MakeFile
) -> None:
    samples = np.array([[0, maximum // 2, maximum]], dtype)
    data = make_tiff(samples.tobytes(), 3, 1, samples.dtype.itemsize * 8, sample_format)
    np.testing.assert_array_equal(_levels(data), [[0, 127, 255]])


def test_negative_gray_is_refused_instead_of_clamped(make_tiff: MakeFile) -> None:
    data = make_tiff(np.array([[-5, 9]], "<i2").tobytes(), 2, 1, 16, 2)
    with pytest.raises(RefusedError, match=r"negative gray values \(down to -5\)"):
        to_rgb(_opened(data))


def test_different_tones_that_would_become_one_are_refused(make_tiff: MakeFile) -> None:
    data = make_tiff(np.array([[3, 4095]], "<u4").tobytes(), 2, 1, 32, 1)
    with pytest.raises(
        RefusedError, match=r"gray values 3 to 4095, one single tone on the scale .* 0 to 4294967295"
    ):
        to_rgb(_opened(data))
    even = make_tiff(np.array([[3, 3]], "<u4").tobytes(), 2, 1, 32, 1)
    np.testing.assert_array_equal(_levels(even), [[0, 0]])


@pytest.mark.parametrize(
    ("samples", "bits", "sample_format"),
    [
        (np.array([[0, 65535]], "<u2"), 16, 1),
        (np.array([[0, 255]], "u1"), 8, 1),
        (np.array([[0, 1]], "<f4"), 32, 3),
    ],
)
def test_white_is_zero_is_turned_round_at_every_depth(
    samples: Pixels, bits: int, sample_format: int, make_tiff: MakeFile
) -> None:
    data = make_tiff(samples.tobytes(), 2, 1, bits, sample_format, photometric=0)
    np.testing.assert_array_equal(_levels(data), [[255, 0]])


def _float_tiff(values: list[float]) -> bytes:
    return _saved(Image.fromarray(np.array([values], np.float32)), "TIFF")


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.25, 0.5, 0.25], [64, 128, 64]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 127.0, 254.0], [0, 128, 255]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
    ],
)
def test_float_gray_is_unit_range_or_the_pictures_own(values: list[float], levels: list[int]) -> None:
    got = _levels(_float_tiff(values))
    np.testing.assert_array_equal(got, [levels])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_float_gray_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(RefusedError, match="not finite"):
        to_rgb(_opened(_float_tiff([0.0, bad])))


def test_large_gray_pictures_are_scaled_block_by_block_without_seams() -> None:
    samples = np.arange(1500 * 1000, dtype=np.uint32).reshape(1500, 1000) % 65536
    expected = (2 * samples + 257) // 514
    np.testing.assert_array_equal(_levels(_saved(Image.fromarray(samples.astype(np.uint16)))), expected)


def test_every_eight_bit_mode_becomes_rgb(photo: Image.Image) -> None:
    gray = np.asarray(photo.convert("L"))
    np.testing.assert_array_equal(_levels(_saved(photo.convert("L"))), gray)
    bits = np.asarray(photo.convert("1"))
    np.testing.assert_array_equal(_levels(_saved(photo.convert("1"))), bits * 255)
    palette = photo.convert("P")
    np.testing.assert_array_equal(to_rgb(_opened(_saved(palette))), palette.convert("RGB"))
    np.testing.assert_array_equal(to_rgb(_opened(_saved(photo))), photo)
    ink = to_rgb(_opened(_saved(photo.convert("CMYK"), "TIFF")))
    assert np.abs(np.asarray(ink).astype(int) - np.asarray(photo)).max() <= 1


@given(hnp.arrays(np.uint8, (2, 3, 4)))
def test_alpha_is_composited_on_white(pixels: Pixels) -> None:
    alpha = pixels[..., 3:].astype(np.float64) / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    got = np.asarray(to_rgb(_opened(_saved(Image.fromarray(pixels))))).astype(np.float64)
    assert np.abs(got - expected).max() <= 1


def test_gray_with_alpha_is_composited_on_white() -> None:
    image = Image.fromarray(np.array([[[0, 255], [0, 0], [0, 128]]], np.uint8))
    np.testing.assert_allclose(_levels(_saved(image)), [[0, 255, 127]], atol=1)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
def test_transparent_palette_entries_are_white(transparency: int | bytes) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 10, 10, 20, 20, 20, 30, 30, 30])
    image.putdata([0, 1, 2])
    np.testing.assert_array_equal(_levels(_saved(image, transparency=transparency)), [[10, 255, 30]])


def test_a_transparent_gif_is_composited_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.putdata([0, 1, 2])
    got = np.asarray(to_rgb(_opened(_saved(image, "GIF", transparency=1))))
    np.testing.assert_array_equal(got, [[[200, 0, 0], [255, 255, 255], [0, 0, 200]]])


@pytest.mark.parametrize(
    ("depth", "row", "key", "levels"),
    [
        (1, bytes([0b01000000]), 1, [0, 255, 0, 0]),
        (1, bytes([0b01000000]), 0, [255, 255, 255, 255]),
        (2, bytes([0b00011011]), 1, [0, 255, 170, 255]),
        (4, bytes([0x01, 0x5E]), 5, [0, 17, 255, 238]),
        (8, bytes([0, 5, 128, 200]), 128, [0, 5, 255, 200]),
        (16, struct.pack(">4H", 0, 257, 258, 514), 258, [0, 1, 255, 2]),
    ],
)
def test_a_transparent_gray_is_white_at_every_depth(
    depth: int, row: bytes, key: int, levels: list[int], make_png: MakeFile, png_chunk: MakeFile
) -> None:
    image = _opened(make_png(4, depth, 0, [row], before=png_chunk(b"tRNS", struct.pack(">H", key))))
    scale_png_key(image, depth)
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[..., 0], [levels])


@pytest.mark.parametrize(
    ("depth", "samples", "key", "pixels"),
    [
        (8, bytes([1, 2, 3, 4, 5, 6]), (4, 5, 6), [[1, 2, 3], [255, 255, 255]]),
        # the low bytes of the colour equal the high bytes of the first pixel: Pillow takes that one
        (
            16,
            struct.pack(">6H", 0x3400, 0x7800, 0xBC00, 0x1234, 0x5678, 0x9ABC),
            (0x1234, 0x5678, 0x9ABC),
            [[0x34, 0x78, 0xBC], [255, 255, 255]],
        ),
    ],
)
def test_a_transparent_colour_is_white_at_both_depths(
    depth: int,
    samples: bytes,
    key: tuple[int, int, int],
    pixels: Pixels,
    make_png: MakeFile,
    png_chunk: MakeFile,
) -> None:
    image = _opened(make_png(2, depth, 2, [samples], before=png_chunk(b"tRNS", struct.pack(">3H", *key))))
    scale_png_key(image, depth)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), [pixels])


@given(st.sampled_from(["RGB", "L", "P", "RGBA", "I;16"]))
def test_metadata_stays_behind(mode: str) -> None:
    image = _opened(_saved(Image.new(mode, (2, 2)), icc_profile=b"profile", dpi=(300, 300)))
    assert image.info
    assert to_rgb(image).info == {}
