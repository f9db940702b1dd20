"""Which of a network's outputs each class folder of a data set is."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whycam.data.printable import printable
from whycam.errors import UsageError


@dataclass(frozen=True)
class ClassMatch:
    """``outputs`` gives each class folder's output; ``names`` each output's name.

    ``how`` says by what they were matched; ``note`` is a sentence for the user where that is no certainty.
    """

    outputs: tuple[int, ...]
    names: tuple[str, ...]
    how: Literal["names", "order"]
    note: str | None = None


def match_classes(folders: Sequence[str], names: Sequence[str] | None, count: int) -> ClassMatch:
    """Match class folders, sorted as they are, to a network's ``count`` outputs.

    By name where every folder's name is an output's; else in sorted order, where there are as many of both
    and no name speaks against it. Raises UsageError where neither can be done.
    """
    if names is not None and len(names) == count:
        places = {_same(name): place for place, name in enumerate(names)}
        twice = {name for name, times in Counter(map(_same, names)).items() if times > 1}
        found = [None if _same(folder) in twice else places.get(_same(folder)) for folder in folders]
        if None not in found:
            return ClassMatch(tuple(place for place in found if place is not None), tuple(names), "names")
        _refuse_contradiction(folders, names, found)
    if len(folders) != count:
        raise UsageError(
            f"the data set has {len(folders)} class folders ({_some(folders)}) and the network {count} "
            f"outputs{_named(names)}; expected as many, or folders with the names of its classes; rename the "
            "folders, or give --classes"
        )
    given = names if names is not None and len(names) == count else None
    why = "the network has no class names" if given is None else "the network's class names are others"
    note = f"{why}: its outputs were taken for the class folders in sorted order ({_some(folders)})"
    return ClassMatch(tuple(range(count)), tuple(given or folders), "order", note)


def _refuse_contradiction(folders: Sequence[str], names: Sequence[str], found: Sequence[int | None]) -> None:
    """Refuse the sorted order where a name that both know would be put at another place."""
    for place, (folder, output) in enumerate(zip(folders, found, strict=True)):
        if output is not None and output != place and len(folders) == len(names):
            unknown = [other for other, at in zip(folders, found, strict=True) if at is None]
            raise UsageError(
                f"class folder {folder!r} is the network's output {output}, and {place} in sorted order, but "
                f"{_some(unknown)} is none of its classes ({_some(names)}); name folders after classes"
            )


def _same(name: str) -> str:
    # file systems differ in how they compose accents; the sidecar's text keeps what was typed
    return unicodedata.normalize("NFC", printable(name))


def _named(names: Sequence[str] | None) -> str:
    return "" if not names else f" ({_some(names)})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
