"""Is a picture file all there? Looked up in the bytes, so that no setting of the decoder matters.

Pillow fills what is missing of a cut file with grey where ``ImageFile.LOAD_TRUNCATED_IMAGES`` is on,
and drops the tail of a cut TIFF directory or JPEG 2000 stream even where it is off. Formats whose
decoder reads the file as a stream need no rule here: ``StrictBytes`` refuses to run dry.
"""

import io
import struct
import zlib

from whycam.data.refusal import RefusedError
from whycam.data.tiff_directories import page_entries

_FETCH_AGAIN = "copy or download the file again"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a"
_JPEG2000_END = b"\xff\xd9"
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


def require_whole(data: bytes, image_format: str, page: int = 0) -> None:
    """Raise RefusedError where ``data``, a file of Pillow's ``image_format``, is cut or fails its checksums.

    PNG: the chunks lead to IEND, each with its CRC (PNG specification, 5.3). TIFF: the directory of
    ``page`` and the values of its public tags lie inside the file (TIFF 6.0, section 2). JPEG 2000: the
    boxes lie inside the file and the code stream has its end marker (ISO/IEC 15444-1, A.4 and I.4).
    """
    try:
        if image_format == "PNG":
            _require_png_end(data)
        elif image_format == "TIFF":
            _require_tiff_directory(data, page)
        elif image_format == "JPEG2000":
            _require_jpeg2000_end(data)
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


def _require_tiff_directory(data: bytes, page: int) -> None:
    for entry in page_entries(data, page):
        # a private tag never changes the pixels, and writers do leave stale ones behind
        if entry.tag < _FIRST_PRIVATE_TIFF_TAG and entry.end > len(data):
            raise RefusedError(
                f"a TIFF file that stops before the value of its tag {entry.tag}", _FETCH_AGAIN
            )


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
