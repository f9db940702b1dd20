"""A folder of mask pictures, one an image."""

import os
from pathlib import Path

from whycam.data.masks.names import has_mask_suffix, parts_of, tails, without_suffix
from whycam.data.masks.pictures import EXPECTED, read_mask
from whycam.data.masks.source import (
    MAX_PIXELS,
    Extent,
    Mask,
    MaskSource,
    in_pixels,
    mask_error,
    source_error,
)
from whycam.data.masks.view import brought_to, misfit
from whycam.data.printable import printable
from whycam.data.reading import refusal_line
from whycam.data.refusal import RefusedError
from whycam.data.walking import walk
from whycam.errors import ImageError

_ENDINGS = ("_mask", "-mask", "_segmentation", "_seg", "_gt")


class MaskFolder(MaskSource):
    """Mask pictures below a folder; their names are kept, each is read when its image asks for it."""

    def __init__(self, folder: Path) -> None:
        """List the folder to any depth. Raises UsageError where there is no mask, or no listing."""
        self._folder = folder
        self._files: dict[tuple[str, ...], list[str]] = {}
        self._count = 0
        try:
            for found in walk(str(folder)):
                if found.error:
                    raise source_error(folder / found.relative, found.error, "masks", "check its permissions")
                if has_mask_suffix(found.relative):
                    self._add(found.relative)
        except OSError as error:
            reason = f"a folder that cannot be listed ({error.strerror})"
            raise source_error(folder, reason, "masks", "check its permissions") from error
        if not self._count:
            raise source_error(folder, "no mask", "pictures or .npy files", "name the folder that holds them")

    def _add(self, relative: str) -> None:
        self._count += 1
        key = without_suffix(parts_of(relative))
        self._files.setdefault(key, []).append(relative)
        stem = key[-1].lower()
        for ending in _ENDINGS:
            if stem.endswith(ending) and stem != ending:
                self._files.setdefault((*key[:-1], key[-1][: -len(ending)]), []).append(relative)

    def of(self, item_id: str, path: str, size: Extent) -> Mask | None:
        """Read the image's mask, the file of its path, its id or its name, with any suffix."""
        relative = self._named(item_id, path)
        if relative is None:
            return None
        file = self._folder / relative
        try:
            mask = read_mask(file, max(MAX_PIXELS, size[0] * size[1]))
        except RefusedError as refused:
            raise ImageError(refusal_line(file, refused, EXPECTED)) from refused
        fitting = brought_to(mask, size)
        if fitting is None:
            found = f"'{printable(str(file))}' of {in_pixels(mask.shape)}"
            raise mask_error(item_id, found, *misfit(mask.shape, size))
        return fitting

    def _named(self, item_id: str, path: str) -> str | None:
        for ends in tails((item_id, path)):
            names = sorted({name for end in ends for name in self._files.get(end, ())})
            # pictures and masks may share a folder: none is its own mask
            names = [name for name in names if not _are_same(self._folder / name, path)]
            if len(names) > 1:
                found = " and ".join(f"'{printable(name)}'" for name in names[:2])
                raise mask_error(item_id, found, "one mask an image", "remove or rename one of them")
            if names:
                return names[0]
        return None

    def describe(self) -> str:
        """Return the folder and how many masks are in it."""
        place = printable(self._folder.as_posix())
        return (
            f"folder {place}, mask pictures: {self._count} (0 is no object, 255 above other labels is void)"
        )


def _are_same(file: Path, path: str) -> bool:
    return os.path.realpath(file) == os.path.realpath(path)
