"""Is a picture file all there? Looked up in the bytes, so that no setting of the decoder matters.

Pillow fills what is missing of a cut file with grey where ``ImageFile.LOAD_TRUNCATED_IMAGES`` is on,
and drops the tail of a cut TIFF directory or JPEG 2000 stream even where it is off. Formats whose
decoder reads the file as a stream need no rule here: ``StrictBytes`` refuses to run dry.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from whycam.data.refusal import RefusedError

_FETCH_AGAIN = "copy or download the file again"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a"
_JPEG2000_END = b"\xff\xd9"
_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_BIG_TIFF_TYPE_BYTES = _TIFF_TYPE_BYTES | {13: 4, 16: 8, 17: 8, 18: 8}
_FIRST_PRIVATE_TIFF_TAG = 32768


class StrictBytes(io.BytesIO):
    """A file in memory that, once ``strict``, raises EOFError instead of reading nothing at its end."""

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes, as any file does; nothing left is an EOFError where ``strict``."""
        data = super().read(size)
        if self.strict and not data and size != 0:
            raise EOFError("the picture data stops too early")
        return data


def require_whole(data: bytes, image_format: str) -> None:
    """Raise RefusedError where ``data``, a file of Pillow's ``image_format``, is cut or fails its checksums.

    PNG: the chunks lead to IEND, each with its CRC (PNG specification, 5.3). TIFF: the first directory
    and the values of its public tags lie inside the file (TIFF 6.0, section 2). JPEG 2000: the boxes lie
    inside the file and the code stream has its end marker (ISO/IEC 15444-1, A.4 and I.4).
    """
    check = {"PNG": _require_png_end, "TIFF": _require_tiff_directory, "JPEG2000": _require_jpeg2000_end}
    if image_format in check:
        try:
            check[image_format](data)
        except struct.error as error:
            raise RefusedError(f"a {image_format} file that stops too early", _FETCH_AGAIN) from error


def _require_png_end(data: bytes) -> None:
    offset, view = len(_PNG_SIGNATURE), memoryview(data)
    while True:
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(view[offset + 4 : end]) != checksum:
            found = f"a PNG file with a damaged {kind.decode('latin-1')!a} chunk (its checksum differs)"
            raise RefusedError(found, _FETCH_AGAIN)
        if kind == b"IEND":
            return
        offset = end + 4


def _require_tiff_directory(data: bytes) -> None:
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic == 43:
        (directory,) = struct.unpack_from(order + "Q", data, 8)
        entries = _tiff_entries(data, directory, order + "Q", order + "HHQQ", _BIG_TIFF_TYPE_BYTES)
    else:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        entries = _tiff_entries(data, directory, order + "H", order + "HHII", _TIFF_TYPE_BYTES)
    for tag, end in entries:
        # a private tag never changes the pixels, and writers do leave stale ones behind
        if tag < _FIRST_PRIVATE_TIFF_TAG and end > len(data):
            raise RefusedError(f"a TIFF file that stops before the value of its tag {tag}", _FETCH_AGAIN)


def _tiff_entries(
    data: bytes, directory: int, count_format: str, entry_format: str, type_bytes: dict[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield each entry's tag and the offset at which its value ends."""
    (count,) = struct.unpack_from(count_format, data, directory)
    first, step = directory + struct.calcsize(count_format), struct.calcsize(entry_format)
    inline = struct.calcsize(entry_format[0] + entry_format[-1])
    for entry in range(first, first + count * step, step):
        tag, kind, values, offset = struct.unpack_from(entry_format, data, entry)
        size = values * type_bytes.get(kind, 1)
        yield tag, entry + step if size <= inline else offset + size


def _require_jpeg2000_end(data: bytes) -> None:
    stream_end = _jp2_stream_end(data) if data.startswith(_JP2_SIGNATURE) else len(data)
    # some writers pad the stream with zeros to an even length
    if not data[max(0, stream_end - 16) : stream_end].rstrip(b"\0").endswith(_JPEG2000_END):
        raise RefusedError("a JPEG 2000 file whose code stream has no end marker", _FETCH_AGAIN)


def _jp2_stream_end(data: bytes) -> int:
    """Return the offset at which the box with the code stream ends."""
    offset = 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, offset)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, offset + 8)
        end = offset + length if length else len(data)
        if end > len(data):
            raise RefusedError(
                f"a JPEG 2000 file that stops inside its {kind.decode('latin-1')!a} box", _FETCH_AGAIN
            )
        if kind == b"jp2c":
            return end
        offset = end
