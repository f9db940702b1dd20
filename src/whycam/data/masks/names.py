"""Which mask is an image's: names are compared from their end, folder by folder."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TypeAlias

from whycam.data.printable import printable
from whycam.data.sources import has_image_suffix

Parts: TypeAlias = tuple[str, ...]
"""The names in a path, folders first."""

_ARRAY = ".npy"
_PAGE = "#page="


def has_mask_suffix(name: str) -> bool:
    """Say whether the file's name ends as a picture's or a NumPy array's does."""
    return has_image_suffix(name) or name.lower().endswith(_ARRAY)


def parts_of(name: str) -> Parts:
    """Return the names in a path, those up to its last ``..`` left out, in one form of Unicode.

    Backslashes part names too: lists written on Windows have them.
    """
    text = unicodedata.normalize("NFC", printable(name)).replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    after = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    return tuple(parts[after:])


def without_suffix(parts: Parts) -> Parts:
    """Return the path without its file's suffix, where it is a picture's; a page in the name stays.

    An image's own id may have a dot in it: ``scan.v2`` is another one than ``scan.v1``.
    """
    file, mark, page = parts[-1].partition(_PAGE)
    if not has_mask_suffix(file):
        return parts
    stem, suffix = os.path.splitext(file)
    stem = os.path.splitext(stem)[0] if suffix.lower() == ".gz" else stem
    return *parts[:-1], stem + mark + page


def tails(names: Sequence[str]) -> Iterator[set[Parts]]:
    """Yield the ends of an image's names, those of most folders first, each with and without its suffix."""
    found = [parts for parts in map(parts_of, names) if parts]
    for length in range(max(map(len, found), default=0), 0, -1):
        ends = {parts[-length:] for parts in found if len(parts) >= length}
        yield ends | set(map(without_suffix, ends))


class ListedNames:
    """The names of the images that a list speaks of, to be asked which of them an image is."""

    def __init__(self, names: Sequence[str]) -> None:
        """Keep the list's own spelling of each name, by the file's name."""
        self._by_file: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            self._by_file.setdefault((parts_of(name) or ("",))[-1], []).append(name)

    def of(self, item_id: str, path: str) -> list[str]:
        """Return the listed names that fit best: none, one, or several that fit equally well.

        A name whose whole path is the end of the image's goes before all others; then the one that has
        most of its last folders in common with the image. The file's name itself must be the same.
        """
        own = [parts for parts in (parts_of(item_id), parts_of(path)) if parts]
        fits = {
            name: max(_fit(parts_of(name), parts) for parts in own)
            for file in dict.fromkeys(parts[-1] for parts in own)
            for name in self._by_file.get(file, ())
        }
        return [name for name, fit in fits.items() if fit == max(fits.values())]


def _fit(listed: Parts, own: Parts) -> tuple[bool, int]:
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(listed[::-1], own[::-1])))
    return common == len(listed), common
