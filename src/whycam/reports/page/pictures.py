"""A run's pictures in the size of the page."""

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageFile

LONGEST_SIDE = 512
"""In pixels; a larger picture is shrunk, so that three hundred of them make one file."""

_QUALITY = 85
_FORMATS = ("JPEG", "PNG")


@dataclass(frozen=True)
class PagePicture:
    """A JPEG file's content and the picture's size in pixels."""

    content: bytes
    height: int
    width: int


def page_picture(folder: Path, name: str) -> PagePicture | None:
    """Return a run's picture for the page, None where it is gone, broken, or not inside the run folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return None
    try:
        content = (folder / path).read_bytes()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if (
                picture.format == "JPEG"
                and max(picture.size) <= LONGEST_SIDE
                and picture.mode in ("RGB", "L")
            ):
                return PagePicture(content, picture.height, picture.width)
            return _shrunk(picture)
    # Pillow's readers raise all of these for files that are broken
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _shrunk(picture: ImageFile.ImageFile) -> PagePicture:
    picture.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
    small = picture.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return PagePicture(buffer.getvalue(), small.height, small.width)
