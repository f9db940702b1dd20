"""Which files of a folder are checkpoints: by a pattern, in natural order, by the number in their names."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

from whycam.data.printable import printable
from whycam.data.walking import natural_key
from whycam.errors import UsageError

_WILDCARD = re.compile(r"[*?\[]")
_NUMBER = re.compile("[0-9]+")
_MOST_NAMED = 6


@dataclass(frozen=True)
class Checkpoint:
    """A file that may hold weights, and the number in its name, mostly its epoch; None where it has none."""

    path: Path
    number: int | None

    @property
    def name(self) -> str:
        """The file's name, fit to be printed."""
        return printable(self.path.name)


@dataclass(frozen=True)
class FoundCheckpoints:
    """Checkpoints in natural order; ``missing`` are the range's gaps, as the (first, last) number of each."""

    checkpoints: tuple[Checkpoint, ...]
    missing: tuple[tuple[int, int], ...]


def find_checkpoints(
    folder: Path, pattern: str, first: int | None = None, last: int | None = None
) -> FoundCheckpoints:
    """Find the files of a folder whose name matches a shell wildcard, model-2 before model-10.

    With ``first`` or ``last`` only those whose number lies from the one to the other; the number is the first
    one in the name behind what the pattern begins with. Hidden names count where the pattern begins with a
    dot. Raises UsageError where there is no such folder, no such file, or ``first`` is above ``last``.
    """
    if first is not None and last is not None and first > last:
        raise UsageError(
            f"the range goes from {first} to {last}; expected the smaller number first; swap --from and --to"
        )
    named = [Checkpoint(folder / name, _number(name, pattern)) for name in _names(folder, pattern)]
    if not named:
        raise UsageError(
            f"no file in '{printable(str(folder))}' matches {pattern!r}; expected checkpoints such as "
            "model-0.pth; check the folder, or say how they are called with --pattern"
        )
    if first is None and last is None:
        return FoundCheckpoints(tuple(named), ())
    inside = [one for one in named if one.number is not None and _lies(one.number, first, last)]
    if not inside:
        raise UsageError(
            f"no checkpoint in '{printable(str(folder))}' has a number {_range_text(first, last)}; there are "
            f"{_some(named)}; check --from and --to"
        )
    return FoundCheckpoints(
        tuple(inside), _gaps({one.number for one in inside if one.number is not None}, first, last)
    )


def _names(folder: Path, pattern: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UsageError(
            f"'{printable(str(folder))}' cannot be listed ({error.strerror}); expected a folder of "
            "checkpoints; check the path"
        ) from error
    matching = [name for name in names if fnmatchcase(name, pattern)]
    return sorted((n for n in matching if pattern.startswith(".") or not n.startswith(".")), key=natural_key)


def _number(name: str, pattern: str) -> int | None:
    beginning = _WILDCARD.split(pattern, maxsplit=1)[0]
    rest = name if beginning == pattern else name[len(beginning) :]
    digits = _NUMBER.search(rest)
    return int(digits[0]) if digits else None


def _lies(number: int, first: int | None, last: int | None) -> bool:
    return (first is None or first <= number) and (last is None or number <= last)


def _gaps(numbers: set[int], first: int | None, last: int | None) -> tuple[tuple[int, int], ...]:
    """Return what lacks between the range's ends; where an end is open, up to the number that is there."""
    low = min(numbers) if first is None else first
    high = max(numbers) if last is None else last
    edges = [low - 1, *sorted(numbers), high + 1]
    return tuple((a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1)


def gaps_text(gaps: Sequence[tuple[int, int]]) -> str:
    """Write gaps as people do: ``83, 85 to 87``; of many the first few and how many more."""
    parts = [str(low) if low == high else f"{low} to {high}" for low, high in gaps]
    more = f" and {len(parts) - _MOST_NAMED} more gaps" if len(parts) > _MOST_NAMED else ""
    return ", ".join(parts[:_MOST_NAMED]) + more


def _range_text(first: int | None, last: int | None) -> str:
    parts = [f"from {first}" if first is not None else "", f"to {last}" if last is not None else ""]
    return " ".join(part for part in parts if part)


def _some(named: Sequence[Checkpoint]) -> str:
    return named[0].name if len(named) == 1 else f"{named[0].name} to {named[-1].name}"
