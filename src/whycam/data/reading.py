"""One picture file -> upright 8-bit RGB, or one line that says why not."""

import functools
import hashlib
import importlib
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

from whycam.data.printable import printable
from whycam.data.refusal import RefusedError
from whycam.data.tones import scale_png_key, to_rgb
from whycam.data.wholeness import StrictBytes, require_whole
from whycam.errors import ImageError, UsageError

MAX_FILE_BYTES = 2 * 1024**3

# Only decoders that stay inside Pillow: EPS, for one, would start another program on the file.
_FORMATS = {
    "PNG": "Png",
    "JPEG": "Jpeg",
    "WEBP": "WebP",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "BMP": "Bmp",
    "AVIF": "Avif",
    "JPEG2000": "Jpeg2K",
    "PPM": "Ppm",
}
_EXPECTED = "a whole PNG, JPEG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 or PPM picture"
_SAVE_AGAIN = "save it again as PNG or JPEG"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_Accept = Callable[[bytes], bool | str]
_Open = Callable[[IO[bytes], str | bytes], ImageFile.ImageFile]


@dataclass(frozen=True)
class Picture:
    """A decoded picture: ``image`` is upright, 8-bit RGB and without metadata.

    ``content_hash`` is the SHA-256 of the file's bytes in hex, ``original_mode`` Pillow's mode of the
    file before conversion, such as ``"P"``, ``"CMYK"`` or ``"I;16"``.
    """

    image: Image.Image
    content_hash: str
    original_mode: str


def read_image(path: str | Path, *, max_pixels: int = 100_000_000) -> Picture:
    """Read one picture file, once, and turn it into upright 8-bit RGB.

    PNG, JPEG (and MPO), WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 and PPM (PBM, PGM, PNM, PFM) are read,
    told apart by their content, not by their suffix.

    What comes out
        - The EXIF orientation is applied; where the EXIF block itself is broken, the picture is taken
          as upright.
        - Transparency (RGBA, LA, a palette's or a single colour's) is composited on white.
        - Palette, 1-bit, grayscale, CMYK and YCbCr become RGB. Colour profiles are not applied.
        - Grayscale of more than 8 bits is scaled by the full range of the stored type: 65535 -> 255 for
          16 bits, 4095 for 12-bit TIFF, 4294967295 for unsigned and 2147483647 for signed 32 bits. It is
          never clamped; negative values are an error, and so is a picture whose different values would
          all end up as one tone. 16-bit colour keeps its high byte.
        - Float grayscale is taken as 0..1 where all of it lies in 0..1, else the picture's own min..max
          becomes 0..255 (black where it is constant). NaN and infinity are an error.
        - Of an animation or a file with several pages, the first frame.

    What is refused
        - More than ``max_pixels`` pixels, by the header, before anything is decoded. This cap alone
          counts, whatever ``PIL.Image.MAX_IMAGE_PIXELS`` says, except that GIF, WebP and tiled TIFF
          also keep to twice the latter. Files above 2 GiB are refused too.
        - A cut file, also where ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is on: there is never a partly
          decoded picture. Damage inside the coded data that a decoder itself passes over, JPEG's above
          all, is not seen; of a damaged TIFF, libtiff writes a line of its own to stderr.
        - Anything but a regular file: a folder, a named pipe, a socket, a device. None is waited for.

    No global setting of Pillow is changed; while a picture is decoded Pillow's warnings are silenced.
    Safe to call from several threads.

    Raises:
        ImageError: the file is missing, unreadable, empty, cut, broken, too large or not a picture; one
            line with what was found, what was expected and the mend.
        UsageError: ``max_pixels`` is not positive.
    """
    if max_pixels < 1:
        raise UsageError(
            f"found max_pixels={max_pixels}, expected a positive number; leave it out for 100000000"
        )
    try:
        data = _file_bytes(path)
        with _pillow_silenced():
            image, mode = _decode(data, max_pixels)
    except RefusedError as refused:
        line = f"{printable(os.fspath(path))}: found {refused.found}, expected {_EXPECTED}; {refused.mend}"
        raise ImageError(line) from refused
    return Picture(image, hashlib.sha256(data).hexdigest(), mode)


def _file_bytes(path: str | Path) -> bytes:
    try:
        # before opening: opening a device may already act on it
        _require_readable_kind(os.stat(path))
        with open(path, "rb", opener=_open_without_waiting) as file:
            size = _require_readable_kind(os.fstat(file.fileno())).st_size
            data = file.read(size + 1)
    except FileNotFoundError as error:
        raise RefusedError("no such file", "check the path") from error
    except PermissionError as error:
        raise RefusedError("a file without permission to read it", "give yourself read permission") from error
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"a path that cannot be read ({_one_line(error)})", "check the path and its disk"
        ) from error
    if len(data) != size:
        raise RefusedError(
            "a file that changed while it was read", "wait until it is written, then try again"
        )
    if not data:
        raise RefusedError("an empty file (0 bytes)", "copy or download the file again")
    return data


def _require_readable_kind(status: os.stat_result) -> os.stat_result:
    if stat.S_ISDIR(status.st_mode):
        raise RefusedError("a folder", "name the files in it, or give the folder as a source")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("a named pipe, socket or device", "write its content to a file first")
    if status.st_size > MAX_FILE_BYTES:
        found = f"a file of {status.st_size} bytes, above the limit of {MAX_FILE_BYTES}"
        raise RefusedError(found, "resize the picture, or store it compressed")
    return status


def _open_without_waiting(path: str, flags: int) -> int:
    # a pipe put in the file's place after the look at it must not block the run
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decode(data: bytes, max_pixels: int) -> tuple[Image.Image, str]:
    """Return the upright RGB picture and the mode of the file."""
    try:
        with StrictBytes(data) as file, _open_header(file) as image:
            mode = image.mode
            _require_few_pixels(image, max_pixels)
            require_whole(data, image.format or "")
            # the JPEG 2000 decoder reads ahead from C and cannot take an exception there
            file.strict = image.format != "JPEG2000"
            image.load()
            _require_few_pixels(image, max_pixels)
            if image.format == "PNG":
                scale_png_key(image, bit_depth=data[24])
            rgb, turn = to_rgb(image), _UPRIGHT.get(_orientation(image))
            return (rgb if turn is None else rgb.transpose(turn)), mode
    except RefusedError:
        raise
    except MemoryError as error:
        raise RefusedError(
            "a picture that does not fit into memory", "resize it, or lower max_pixels"
        ) from error
    except Image.DecompressionBombError as error:
        found = f"a picture above Pillow's own limit ({_one_line(error)})"
        raise RefusedError(
            found, "resize the picture, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except Exception as error:
        # a decoder given broken bytes raises whatever it stumbles over; all of it means: not readable
        raise RefusedError(
            f"a broken picture ({_one_line(error)})", f"copy the file again, or {_SAVE_AGAIN}"
        ) from error


def _open_header(file: StrictBytes) -> ImageFile.ImageFile:
    """Return the picture with its header read and nothing decoded.

    Image.open would do, but for its own pixel limit: a process-wide setting that warns below our cap
    and raises above it.
    """
    prefix, reasons = file.read(16), []
    for image_format, accept, open_picture in _decoders():
        accepted = accept(prefix)
        if isinstance(accepted, str):
            raise RefusedError(f"the format {image_format}, which this Pillow is built without", _SAVE_AGAIN)
        if accepted:
            file.seek(0)
            try:
                return open_picture(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                reasons.append(f"{image_format}: {_one_line(error)}")
    if reasons:
        raise RefusedError(
            f"a header that cannot be read ({'; '.join(reasons)})", f"copy the file again, or {_SAVE_AGAIN}"
        )
    raise RefusedError(
        f"something else (it begins with {prefix[:8]!r})", f"if it is a picture, {_SAVE_AGAIN}"
    )


@functools.cache
def _decoders() -> tuple[tuple[str, _Accept, _Open], ...]:
    decoders = []
    for image_format, plugin in _FORMATS.items():
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
        open_picture, accept = Image.OPEN[image_format]
        if accept is None:
            raise RuntimeError(
                f"Pillow's {image_format} plug-in no longer tells its files by their beginning"
            )
        decoders.append((image_format, accept, open_picture))
    return tuple(decoders)


def _require_few_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        found = f"{width} x {height} = {width * height} pixels, above the limit of {max_pixels}"
        raise RefusedError(found, "resize the picture, or raise max_pixels if you trust the file")


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # a broken EXIF block fails in as many ways as a broken picture, yet says nothing about the pixels
        return 1
    return orientation if isinstance(orientation, int) else 1


def _one_line(error: Exception) -> str:
    text = " ".join(printable(line) for line in str(error).split())
    return text[:200] or type(error).__name__


class _Silence:
    """Pillow's warnings are off from the first reader's start to the last one's end.

    ``warnings.catch_warnings`` saves and restores one list for the whole process: used by each thread
    for itself, the one that leaves last would put back the list of another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._saved = warnings.catch_warnings()

    def begin(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                _ignore_pillow()
            self._readers += 1

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._saved.__exit__(None, None, None)


_SILENCE = _Silence()


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    if getattr(sys.flags, "context_aware_warnings", False):
        with warnings.catch_warnings():
            _ignore_pillow()
            yield
        return
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


def _ignore_pillow() -> None:
    warnings.filterwarnings("ignore", module=r"PIL\.")
