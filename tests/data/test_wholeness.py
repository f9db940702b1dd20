import struct
import zlib
from collections.abc import Callable

import pytest

from whycam.data.refusal import RefusedError
from whycam.data.wholeness import StrictBytes, require_whole


def test_strict_bytes_raise_at_the_end_instead_of_reading_nothing() -> None:
    with StrictBytes(b"abc") as file:
        assert file.read() == b"abc"
        assert file.read(1) == b""
        file.seek(1)
        file.strict = True
        assert file.read(5) == b"bc"
        assert file.read(0) == b""
        with pytest.raises(EOFError):
            file.read(1)


def test_a_png_is_whole_up_to_its_end_chunk_and_may_have_a_tail(make_png: Callable[..., bytes]) -> None:
    png = make_png(2, 8, 0, [b"\1\2"])
    require_whole(png, "PNG")
    require_whole(png + b"tail", "PNG")
    for length in range(len(png)):
        with pytest.raises(RefusedError, match="stops too early"):
            require_whole(png[:length], "PNG")


def test_a_png_chunk_with_a_wrong_checksum_is_refused(make_png: Callable[..., bytes]) -> None:
    png = bytearray(make_png(2, 8, 0, [b"\1\2"]))
    png[png.index(b"IDAT") + 5] ^= 1
    with pytest.raises(RefusedError, match="damaged 'IDAT' chunk"):
        require_whole(bytes(png), "PNG")


def _big_tiff(order: str, values: bytes) -> bytes:
    """A BigTIFF directory with an inline tag and one whose two 8-byte values lie behind the directory."""
    behind = 16 + 8 + 2 * 20 + 8
    entries = struct.pack(order + "HHQQ", 256, 16, 1, 7) + struct.pack(order + "HHQQ", 273, 16, 2, behind)
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16)
    return start + struct.pack(order + "Q", 2) + entries + struct.pack(order + "Q", 0) + values


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_directory_must_lie_in_the_file_with_its_values(
    order: str, make_tiff: Callable[..., bytes]
) -> None:
    classic = make_tiff(b"\1\2", 2, 1, 8, 1, order=order)
    require_whole(classic, "TIFF")
    without_next_directory = len(classic) - 4
    for length in range(without_next_directory):
        with pytest.raises(RefusedError, match="stops too early"):
            require_whole(classic[:length], "TIFF")
    require_whole(_big_tiff(order, bytes(16)), "TIFF")
    with pytest.raises(RefusedError, match="stops before the value of its tag 273"):
        require_whole(_big_tiff(order, bytes(15)), "TIFF")


def test_a_private_tiff_tag_may_point_nowhere(make_tiff: Callable[..., bytes]) -> None:
    tiff = make_tiff(b"\1\2", 2, 1, 8, 1)
    stale = tiff.replace(struct.pack("<HHI", 339, 4, 1), struct.pack("<HHI", 50000, 4, 9999))
    assert stale != tiff
    require_whole(stale, "TIFF")


@pytest.mark.parametrize("name", ["jp2", "j2k"])
def test_a_jpeg_2000_stream_needs_its_end_and_may_be_padded(name: str, whole_files: dict[str, bytes]) -> None:
    data = whole_files[name]
    require_whole(data, "JPEG2000")
    for length in range(len(data)):
        with pytest.raises(RefusedError):
            require_whole(data[:length], "JPEG2000")
    if name == "j2k":
        require_whole(data + b"\0", "JPEG2000")


def test_jp2_boxes_with_long_and_open_lengths_are_followed() -> None:
    signature = b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a"
    long_box = struct.pack(">I4sQ", 1, b"uuid", 20) + b"abcd"
    open_box = struct.pack(">I4s", 0, b"jp2c") + b"\xff\x4f..\xff\xd9"
    require_whole(signature + long_box + open_box, "JPEG2000")
    with pytest.raises(RefusedError, match="stops inside its 'uuid' box"):
        require_whole(signature + long_box[:-1], "JPEG2000")
    with pytest.raises(RefusedError, match="stops too early"):
        require_whole(signature + struct.pack(">I4sQ", 1, b"free", 0), "JPEG2000")


def test_formats_without_a_rule_pass() -> None:
    require_whole(zlib.compress(b"anything"), "GIF")
