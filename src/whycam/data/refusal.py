"""Why a picture is not read, before it is known under which name the user will see it."""

from typing import NoReturn


class RefusedError(Exception):
    """``found`` says what is wrong with the file, ``mend`` what to do about it. It never leaves the room."""

    def __init__(self, found: str, mend: str) -> None:
        """Keep both halves; the name of the file and what was expected are added where it is known."""
        super().__init__(found, mend)
        self.found = found
        self.mend = mend


class LacksPackageError(Exception):
    """The file needs ``package``, which is not installed. It never leaves the room."""

    def __init__(self, kind: str, package: str) -> None:
        """Keep what the file is, such as ``a DICOM file``, and the package that reads it."""
        super().__init__(kind, package)
        self.kind = kind
        self.package = package


def require_few_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise RefusedError where a picture has more than ``max_pixels`` pixels, or none."""
    if width < 1 or height < 1:
        raise RefusedError(f"a picture of {width} x {height} pixels", "copy the file again")
    if width * height > max_pixels:
        found = f"{width} x {height} = {width * height} pixels, above the limit of {max_pixels}"
        raise RefusedError(found, "resize the picture, or raise max_pixels if you trust the file")


def refuse_undecodable(kind: str, reason: str) -> NoReturn:
    """Raise RefusedError for a file whose decoder failed; ``reason`` is the class of what it raised.

    The decoder's own text may repeat the file's, a patient's name among it, and so may the exceptions that
    are chained to it: the caller leaves its handler before it comes here.
    """
    if reason == "MemoryError":
        raise RefusedError(f"{kind} that does not fit into memory", "resize it, or lower max_pixels")
    raise RefusedError(f"{kind} that cannot be decoded ({reason})", "copy the file again, or export it anew")
