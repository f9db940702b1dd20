"""Which page of a file is meant, and what came out of it.

Pages of a TIFF, frames of a DICOM file and slices of a NIfTI volume are all called pages, counted from 0.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from whycam.data.printable import printable
from whycam.data.refusal import RefusedError

FIRST_OF_SEVERAL = "only the first of several pages is seen; name another one as FILE#page=N, counted from 0"
MIDDLE_OF_SEVERAL = (
    "only the middle slice of a volume is seen; name another one as FILE#page=N, counted from 0"
)

_NAMED_PAGE = re.compile(r"(.+)#page=([0-9]{1,9})", re.DOTALL)
_ODD_PAGE = re.compile(r"(.+)#page=(.*)", re.DOTALL)
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """An upright RGB page, the mode of its file, its place among the ``pages``, and what was left out."""

    image: Image.Image
    mode: str
    page: int = 0
    pages: int = 1
    notes: tuple[str, ...] = ()


def split_page(path: str | Path) -> tuple[Path, int | None]:
    """Return the file and the page of ``FILE#page=N``; a file of that very name has no page in its name."""
    text = os.fspath(path)
    named = _NAMED_PAGE.fullmatch(text)
    # os.path answers False for a name no file can have; reading it will say so
    if named is None or os.path.lexists(text):
        return Path(path), None
    return Path(named[1]), int(named[2])


def refuse_odd_page(path: str | Path) -> None:
    """Raise RefusedError for ``FILE#page=...`` of a file that is there, and no number behind it."""
    text = os.fspath(path)
    odd = _ODD_PAGE.fullmatch(text)
    if odd is None or _NAMED_PAGE.fullmatch(text) or os.path.lexists(text) or not os.path.isfile(odd[1]):
        return
    found = f"the page {printable(odd[2])!r}, which is no number of a page"
    raise RefusedError(found, "pages count from 0: write #page=0 for the first")


def with_page(path: Path, page: int) -> Path:
    """Return ``FILE#page=N``."""
    return Path(f"{path}#page={page}")


def settled_page(wanted: int | None, pages: int, default: int = 0) -> int:
    """Return the page to be read, ``default`` where none is asked for. Raises RefusedError for one beyond."""
    page = default if wanted is None else wanted
    if page >= pages:
        has = "one page" if pages == 1 else f"{pages} pages"
        last = "page 0" if pages == 1 else f"a page from 0 to {pages - 1}"
        raise RefusedError(f"{has} where page {page} was asked for", f"ask for {last}")
    return page


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture by its EXIF orientation, 1 to 8; any other number means upright."""
    turn = _ORIENTATIONS.get(orientation)
    return image if turn is None else image.transpose(turn)
