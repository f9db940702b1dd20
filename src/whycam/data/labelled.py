"""Data sets in folders: ``train/``, ``val/``, ``test/`` with a folder a class, or classes split by a seed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from whycam.data.printable import printable
from whycam.data.sources import ImageItem, find_images
from whycam.errors import UsageError

SplitName: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
SHARES = (0.7, 0.15, 0.15)
"""Of each class, the shares that go to `SPLITS` where the folder itself is not split."""

_FOLDER_NAMES: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class LabelledImages:
    """The images of a data set in folders.

    ``class_names`` are the class folders' names, sorted by their characters as torchvision's ``ImageFolder``
    sorts them; a class's index is its place there. ``splits`` gives the images of each split that there is,
    by class and then in natural order; an item's ``id`` is its path from ``folder``, and its ``label`` its
    class's name. ``drawn`` is true where the split is not the folder's own but was drawn from ``seed``.
    """

    folder: Path
    class_names: tuple[str, ...]
    splits: Mapping[SplitName, tuple[ImageItem, ...]]
    drawn: bool
    seed: int
    shares: tuple[float, ...]

    def split(self, name: str) -> tuple[ImageItem, ...]:
        """Return the images of one split. Raises UsageError where there is none of that name."""
        for split, items in self.splits.items():
            if split == name:
                return items
        there = ", ".join(self.splits)
        raise UsageError(
            f"{_quoted(self.folder)} has no split {name!r}; expected one of {there}; name one of them, or "
            f"add a folder {name!r} with a folder a class"
        )

    def class_indices(self, name: str) -> tuple[int, ...]:
        """Return the class index of each image of a split, in the order of ``split``."""
        places = {label: index for index, label in enumerate(self.class_names)}
        return tuple(places[item.label] for item in self.split(name) if item.label is not None)


def read_labelled(
    folder: str | os.PathLike[str], *, shares: Sequence[float] = SHARES, seed: int = 0
) -> LabelledImages:
    """List a data set in folders; no image is opened.

    Where there is a folder named ``train``, ``val`` (``valid``, ``validation``) or ``test``, these are the
    splits, each with a folder a class; the classes are those of ``train``, or of all splits where there is
    none. Otherwise the folder holds a folder a class, and each class is split by ``shares``, of train, val
    and test, which sum to 1. Which image goes where is settled by ``seed`` and the images' paths alone, so
    that the same split can be drawn again anywhere; of a class with three images or more each split with a
    share gets at least one. Hidden names are passed over.

    Raises UsageError where there is no such folder, no class or a class without an image, where a class of
    another split is none of train's, and for shares that make no sense.
    """
    place = Path(folder)
    _check_shares(shares)
    if not place.is_dir():
        raise UsageError(f"{_quoted(place)} is no folder; expected a data set in folders; check the path")
    parts = _split_folders(place)
    if parts:
        listed = {name: _classes(place, part) for name, part in parts.items()}
        names = _class_names(place, listed)
        splits = {name: _in_order(names, classes) for name, classes in listed.items()}
        return LabelledImages(place, names, splits, False, seed, tuple(shares))
    classes = _classes(place, place)
    names = tuple(sorted(classes))
    drawn = {label: _drawn(items, shares, seed) for label, items in classes.items()}
    splits = {
        split: _in_order(names, {label: drawn[label][at] for label in names})
        for at, split in enumerate(SPLITS)
    }
    return LabelledImages(place, names, {k: v for k, v in splits.items() if v}, True, seed, tuple(shares))


def _split_folders(place: Path) -> dict[SplitName, Path]:
    found: dict[SplitName, Path] = {}
    for child in _folders(place):
        split = _FOLDER_NAMES.get(child.name.lower())
        if split is None:
            continue
        if split in found:
            raise UsageError(
                f"{_quoted(place)} has both {found[split].name!r} and {child.name!r}; expected one folder "
                f"for the split {split!r}; remove or join one"
            )
        found[split] = child
    return {split: found[split] for split in SPLITS if split in found}


def _folders(place: Path) -> list[Path]:
    try:
        entries = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
    except OSError as error:
        raise UsageError(
            f"{_quoted(place)} cannot be listed ({error.strerror}); expected a folder; check its permissions"
        ) from error
    return [place / name for name in entries if not name.startswith(".")]


def _classes(root: Path, place: Path) -> dict[str, tuple[ImageItem, ...]]:
    classes = {printable(folder.name): _images(root, folder) for folder in _folders(place)}
    if not classes:
        raise UsageError(
            f"{_quoted(place)} holds no folder; expected a folder a class with its images; "
            "put each class's images into a folder of its name"
        )
    return classes


def _images(root: Path, folder: Path) -> tuple[ImageItem, ...]:
    try:
        items = list(find_images([folder]))
    except UsageError as error:
        raise UsageError(
            f"class folder {_quoted(folder)} holds no image; expected at least one; fill or remove it"
        ) from error
    inner = folder.relative_to(root).as_posix()
    label = printable(folder.name)
    return tuple(ImageItem(f"{printable(inner)}/{item.id}", item.path, label, item.error) for item in items)


def _class_names(place: Path, listed: Mapping[SplitName, Mapping[str, object]]) -> tuple[str, ...]:
    if "train" not in listed:
        return tuple(sorted({label for classes in listed.values() for label in classes}))
    names = tuple(sorted(listed["train"]))
    for split, classes in listed.items():
        other = next((label for label in classes if label not in names), None)
        if other is not None:
            raise UsageError(
                f"{_quoted(place)} has a class {other!r} in {split!r} that 'train' lacks; expected one of "
                f"{_some(names)}; rename, remove or add it to 'train'"
            )
    return names


def _in_order(names: Iterable[str], classes: Mapping[str, Sequence[ImageItem]]) -> tuple[ImageItem, ...]:
    return tuple(item for name in names for item in classes.get(name, ()))


def _drawn(items: Sequence[ImageItem], shares: Sequence[float], seed: int) -> list[tuple[ImageItem, ...]]:
    """Split one class: its images ordered by a hash of the seed and their path, cut by the shares."""
    order = sorted(range(len(items)), key=lambda at: sha256(f"{seed}/{items[at].id}".encode()).digest())
    parts, start = [], 0
    for count in _counts(len(items), shares):
        parts.append(tuple(items[at] for at in sorted(order[start : start + count])))
        start += count
    return parts


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Cut a number by shares, by largest remainders; train first gets one, then each other with a share."""
    exact = [total * share for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda at: (counts[at] - exact[at], at))
    for at in by_remainder[: total - sum(counts)]:
        counts[at] += 1
    for at, share in enumerate(shares):
        if share > 0 and counts[at] == 0 and max(counts) > 1:
            counts[counts.index(max(counts))] -= 1
            counts[at] = 1
    return counts


def _check_shares(shares: Sequence[float]) -> None:
    sensible = len(shares) == len(SPLITS) and all(0 <= share <= 1 for share in shares) and shares[0] > 0
    if not sensible or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(
            f"shares are {', '.join(map(str, shares))}; expected three from 0 to 1 that sum to 1, of train, "
            "val and test, such as 0.7, 0.15, 0.15"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _quoted(path: Path) -> str:
    return f"'{printable(str(path))}'"
