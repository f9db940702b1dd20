"""The formats that Pillow reads -> one upright RGB page."""

import functools
import importlib
import struct
from collections.abc import Callable
from typing import IO, TypeVar

from PIL import Image, ImageFile

from whycam.data.pages import FIRST_OF_SEVERAL, Decoded, settled_page, upright
from whycam.data.printable import one_line
from whycam.data.refusal import RefusedError, require_few_pixels
from whycam.data.tiff_directories import page_offsets
from whycam.data.tones import scale_png_key, to_rgb
from whycam.data.wholeness import StrictBytes, require_whole

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
_SAVE_AGAIN = "save it again as PNG or JPEG"
_ORIENTATION = 0x0112

_Accept = Callable[[bytes], bool | str]
_Open = Callable[[IO[bytes], str | bytes], ImageFile.ImageFile]
_Made = TypeVar("_Made")


class UnknownHeaderError(RefusedError):
    """Pillow has a decoder for the file's beginning, and none for what the header goes on to say."""


def decode_by_pillow(data: bytes, wanted: int | None, max_pixels: int) -> Decoded:
    """Read a page of a TIFF, or the first frame of anything else. Raises RefusedError."""

    def as_rgb(image: ImageFile.ImageFile, mode: str, page: int, pages: int) -> Decoded:
        if image.format == "PNG":
            scale_png_key(image, bit_depth=data[24])
        notes = (FIRST_OF_SEVERAL,) if wanted is None and pages > 1 else ()
        return Decoded(upright(to_rgb(image), orientation(image)), mode, page, pages, notes)

    return from_page(data, wanted, max_pixels, as_rgb)


def from_page(
    data: bytes,
    wanted: int | None,
    max_pixels: int,
    make: Callable[[ImageFile.ImageFile, str, int, int], _Made],
) -> _Made:
    """Return what ``make`` makes of the loaded page as it is stored, its mode, its number and their count.

    Raises RefusedError, also for whatever ``make`` stumbles over.
    """
    try:
        with StrictBytes(data) as file, _open_header(file) as image:
            pages = len(page_offsets(data)) if image.format == "TIFF" else 1
            page = settled_page(wanted, pages)
            if page:
                image.seek(page)
            mode = image.mode
            require_few_pixels(*image.size, max_pixels)
            require_whole(data, image.format or "", page)
            # the JPEG 2000 decoder reads ahead from C and cannot take an exception there
            file.strict = image.format != "JPEG2000"
            image.load()
            require_few_pixels(*image.size, max_pixels)
            return make(image, mode, page, pages)
    except RefusedError:
        raise
    except MemoryError as error:
        raise RefusedError(
            "a picture that does not fit into memory", "resize it, or lower max_pixels"
        ) from error
    except Image.DecompressionBombError as error:
        found = f"a picture above Pillow's own limit ({one_line(error)})"
        raise RefusedError(
            found, "resize the picture, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except Exception as error:
        # a decoder given broken bytes raises whatever it stumbles over; all of it means: not readable
        raise RefusedError(
            f"a broken picture ({one_line(error)})", f"copy the file again, or {_SAVE_AGAIN}"
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
                reasons.append(f"{image_format}: {one_line(error)}")
    if reasons:
        raise UnknownHeaderError(
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


def orientation(image: Image.Image) -> int:
    """Return the EXIF or TIFF orientation, 1 to 8; 1 where there is none or its block is broken."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # a broken EXIF block fails in as many ways as a broken picture, yet says nothing about the pixels
        return 1
    return turn if isinstance(turn, int) else 1
