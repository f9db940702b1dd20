"""Names of pictures: what was asked for, made safe on every file system, never two for one file."""

import hashlib
import re
import threading
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

_LONGEST_NAME = 255
_LONGEST_PATH = 1000
_LONGEST_SUFFIX = 16
_FORBIDDEN = re.compile('[\x00-\x1f\x7f-\x9f<>:"|?*\\\\\ud800-\udfff\u2028\u2029]')
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
_OWN = {"manifest.json", "explanations.parquet", "rows"}


def safe_name(requested: str) -> str:
    """A relative path below the run folder, with ``/`` between its parts, that stands for ``requested``.

    A name that is safe as it is stays. Any other, such as one with ``..``, a leading ``/``, a character or a
    name that some system reserves, or more than 255 bytes, is changed and gets a hash of what was asked for,
    so that two that are changed alike stay apart.
    """
    parts = [_safe_part(part) for part in requested.split("/") if part not in ("", ".")] or ["_"]
    if parts[0].casefold() in _OWN:
        parts[0] = f"_{parts[0]}"
    name = "/".join(parts)
    if name == requested and _fits(name):
        return name
    return tell_apart(name, requested)


def tell_apart(name: str, requested: str) -> str:
    """``name`` with a hash of ``requested`` before its suffix, cut so that every part fits."""
    path = PurePosixPath(name)
    suffix = path.suffix if len(path.suffix.encode()) <= _LONGEST_SUFFIX else ""
    mark = hashlib.sha256(requested.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    stem = path.name.removesuffix(suffix)
    last = _cut(stem, _LONGEST_NAME - len(suffix.encode()) - len(mark) - 1) + f"-{mark}{suffix}"
    marked = "/".join([*path.parts[:-1], last])
    # a long or deep path loses its middle: the hash alone keeps it apart
    return marked if _fits(marked) else "/".join([*map(_cut_part, path.parts[:-1][:1]), last])


class PictureNames:
    """Which file each picture got, so that no two share one, also where case or accents do not count."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """Begin with the pictures that a resumed run already has."""
        self._requested: dict[str, str] = {}
        self._folders: set[str] = set()
        self._guard = threading.Lock()
        for name in taken:
            self._take(name, name)

    def claim(self, requested: str) -> str:
        """The file name for ``requested``; the same one each time."""
        name = safe_name(requested)
        with self._guard:
            if not self._free(name, requested):
                name = tell_apart(self._flat(name), requested)
            self._take(name, requested)
        return name

    def _free(self, name: str, requested: str) -> bool:
        key = _key(name)
        # a resumed run knows its pictures by their names only, not by what was asked for
        if self._requested.get(key, requested) not in (requested, name) or key in self._folders:
            return False
        return not any(parent in self._requested for parent in _parents(key))

    def _flat(self, name: str) -> str:
        """The name without its inner folders, any of which may be a picture's name already."""
        top, *rest = name.split("/")
        if not rest or _key(top) in self._requested:
            return "_".join([top, *rest])
        return f"{top}/{'_'.join(rest)}"

    def _take(self, name: str, requested: str) -> None:
        key = _key(name)
        self._requested[key] = requested
        self._folders.update(_parents(key))


def _safe_part(part: str) -> str:
    name = _FORBIDDEN.sub("_", part)
    if name.startswith("."):
        name = f"_{name[1:]}"
    if name.endswith((".", " ")):
        name = f"{name[:-1]}_"
    if name.split(".")[0].rstrip().casefold() in _DEVICES:
        name = f"_{name}"
    return name


def _fits(name: str) -> bool:
    parts = name.split("/")
    return len(name.encode()) <= _LONGEST_PATH and all(len(part.encode()) <= _LONGEST_NAME for part in parts)


def _cut(text: str, size: int) -> str:
    return text.encode()[: max(size, 0)].decode("utf-8", "ignore")


def _cut_part(part: str) -> str:
    # safe again: the cut may have left a point or a space at the end
    return _safe_part(_cut(part, _LONGEST_NAME))


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _parents(key: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(key).parents if str(parent) != "."]
