"""One picture file -> upright 8-bit RGB, or one line that says why not."""

import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from whycam.data import dicom, nifti
from whycam.data.pages import Decoded, refuse_odd_page, split_page
from whycam.data.pillow import UnknownHeaderError, decode_by_pillow
from whycam.data.printable import one_line, printable
from whycam.data.refusal import LacksPackageError, RefusedError
from whycam.data.silence import decoders_silenced
from whycam.data.tiff import decode_by_tifffile
from whycam.data.tiff_directories import pixel_layout
from whycam.errors import ImageError, MissingExtraError, UsageError

MAX_FILE_BYTES = 2 * 1024**3

_EXPECTED = (
    "a whole PNG, JPEG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 or PPM picture, a DICOM image or a NIfTI volume"
)
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Picture:
    """A decoded picture: ``image`` is upright, 8-bit RGB and without metadata.

    ``content_hash`` is the SHA-256 of the file's bytes in hex, ``original_mode`` how the file stores its
    pixels: Pillow's mode, such as ``"P"``, ``"CMYK"`` or ``"I;16"``, a DICOM image's photometric
    interpretation, or the type of the samples and their number, such as ``"float32 x 3"``. The picture is
    ``page`` of ``pages``, counted from 0; ``notes`` say what of the file it does not show.
    """

    image: Image.Image
    content_hash: str
    original_mode: str
    page: int = 0
    pages: int = 1
    notes: tuple[str, ...] = ()


def read_image(path: str | Path, *, page: int | None = None, max_pixels: int = 100_000_000) -> Picture:
    """Read one page of a picture file, once, and turn it into upright 8-bit RGB.

    PNG, JPEG (and MPO), WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 and PPM (PBM, PGM, PNM, PFM) are read by
    Pillow, TIFF pages that it cannot give by tifffile, DICOM by pydicom, NIfTI by nibabel; the latter three
    come with the extra ``medical``. Files are told apart by their content, not by their suffix, but for
    DICOM files without a preamble, which need ``.dcm`` or ``.dicom``.

    Which page
        ``page``, or the one that ``path`` names as ``FILE#page=N``, counted from 0: a page of a TIFF, a
        frame of a DICOM image, a slice of a NIfTI volume from feet to head. Without one the first, of a
        volume the middle. Of an animation the first frame alone is read.

    What comes out
        - The orientation in EXIF or TIFF is applied; where the EXIF block itself is broken, the picture is
          taken as upright.
        - Transparency (RGBA, LA, a palette's or a single colour's) is composited on white.
        - Palette, 1-bit, grayscale, CMYK and YCbCr become RGB. Colour profiles are not applied.
        - Integers of more than 8 bits, and signed ones, are scaled by the full range of the stored type:
          65535 -> 255 for 16 bits, 4095 for 12-bit TIFF, 4294967295 for unsigned and 2147483647 for signed
          32 bits. They are never clamped; negative values are an error, and so is a picture whose different
          values would all end up as one tone. Colour of 16 bits that Pillow reads keeps its high byte,
          which is at most one tone off.
        - Floats are taken as 0..1 where all of them lie in 0..1, else the picture's own min..max becomes
          0..255 (black where it is constant). NaN and infinity are an error.
        - Of a TIFF with more samples a pixel than its colours, alpha is composited and the rest left out.
        - DICOM and NIfTI: see `whycam.data.dicom.decode` and `whycam.data.nifti.decode`.

    What is refused
        - More than ``max_pixels`` pixels, by the header, before anything is decoded. This cap alone
          counts, whatever ``PIL.Image.MAX_IMAGE_PIXELS`` says, except that GIF, WebP, tiled TIFF and
          JPEG in DICOM also keep to twice the latter. Files above 2 GiB are refused too.
        - A cut file, also where ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is on: there is never a partly
          decoded picture. Damage inside the coded data that a decoder itself passes over, JPEG's above
          all, is not seen; of a damaged TIFF, libtiff writes a line of its own to stderr.
        - Anything but a regular file: a folder, a named pipe, a socket, a device. None is waited for.

    No global setting of a decoder is changed; while one works its warnings and its logging are silenced.
    No text from inside a file gets into the picture or, of a DICOM or NIfTI file, into an error.
    Safe to call from several threads.

    Raises:
        ImageError: the file is missing, unreadable, empty, cut, broken, too large, not a picture or
            without this page; one line with what was found, what was expected and the mend.
        MissingExtraError: it needs a package of the extra ``medical`` that is not installed.
        UsageError: ``max_pixels`` is not positive, or ``page`` negative.
    """
    if max_pixels < 1:
        raise UsageError(
            f"found max_pixels={max_pixels}, expected a positive number; leave it out for 100000000"
        )
    if page is not None and page < 0:
        raise UsageError(f"found page={page}, expected a number from 0; leave it out for the first")
    file, named = split_page(path)
    try:
        refuse_odd_page(path)
        data = file_bytes(file)
        with decoders_silenced():
            decoded = _decoded(data, file, named if page is None else page, max_pixels)
    except LacksPackageError as lacks:
        raise MissingExtraError(lacking_line(path, lacks)) from None
    except RefusedError as refused:
        raise ImageError(refusal_line(path, refused, _EXPECTED)) from refused
    return Picture(
        image=decoded.image,
        content_hash=hashlib.sha256(data).hexdigest(),
        original_mode=decoded.mode,
        page=decoded.page,
        pages=decoded.pages,
        notes=decoded.notes,
    )


def refusal_line(path: str | Path, refused: RefusedError, expected: str) -> str:
    """Return what is wrong with the file, what was expected and the mend, in one line."""
    return f"{printable(os.fspath(path))}: found {refused.found}, expected {expected}; {refused.mend}"


def lacking_line(path: str | Path, lacks: LacksPackageError) -> str:
    """Return which package the file needs and which extra brings it, in one line."""
    return (
        f"{printable(os.fspath(path))}: found {lacks.kind}, expected {lacks.package} to read it; "
        "pip install 'whycam[medical]'"
    )


def _decoded(data: bytes, file: Path, page: int | None, max_pixels: int) -> Decoded:
    if dicom.is_dicom(data, file.suffix):
        return dicom.decode(data, page, max_pixels)
    if nifti.is_nifti(data):
        return nifti.decode(data, page, max_pixels)
    if not data.startswith(_TIFF_BEGINNINGS):
        return decode_by_pillow(data, page, max_pixels)
    if not suits_pillow(data, page or 0):
        return decode_by_tifffile(data, page, max_pixels)
    try:
        return decode_by_pillow(data, page, max_pixels)
    except UnknownHeaderError:
        pass  # outside of the handler: tifffile's own error says more than both
    return decode_by_tifffile(data, page, max_pixels)


def suits_pillow(data: bytes, page: int) -> bool:
    """Say whether Pillow reads this page of a TIFF as it is meant."""
    try:
        return pixel_layout(data, page).suits_pillow()
    except struct.error:
        return True  # a cut or missing directory: Pillow's room says so


def file_bytes(path: str | Path) -> bytes:
    """Return a regular file's content, opened once and never waited for. Raises RefusedError."""
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
            f"a path that cannot be read ({one_line(error)})", "check the path and its disk"
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
