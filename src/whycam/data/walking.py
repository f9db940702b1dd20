"""Folders and globs: which files lie below a folder, one at a time and in an order people expect."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

ANY_DEPTH = "**"
_DIGITS = re.compile("([0-9]+)")

Pattern = tuple[str, ...]
_States = frozenset[int]


@dataclass(frozen=True)
class Found:
    """A file below the folder that is walked: its path from there, or why a folder could not be listed."""

    relative: str
    error: str | None = None


@dataclass(frozen=True)
class _Folder:
    relative: str
    real: str
    states: _States
    entries: Iterator["os.DirEntry[str]"]


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key under which img comes before img2 and img2 before img10, whatever suffix and case.

    Names that differ in nothing else are ordered by their characters.
    """
    stem, suffix = os.path.splitext(name)
    return *(_counted(part) for part in (stem, suffix)), name


def _counted(text: str) -> tuple[int | str, ...]:
    parts = _DIGITS.split(text)  # text and digits in turn, so that like is compared with like
    return tuple(int(part) if place % 2 else part.casefold() for place, part in enumerate(parts))


def walk(root: str, pattern: Pattern = (ANY_DEPTH,)) -> Iterator[Found]:
    """Yield the files below ``root`` whose path from there matches ``pattern``, name by name.

    A component of the pattern is a shell wildcard for one name, or ``**`` for any number of folders, none
    included. Names that begin with a dot match only a wildcard that does too. Folders are entered in
    natural order, each listed when its turn comes; one that is reached again, through a link, is passed
    over, so that a loop ends.

    Raises:
        OSError: ``root`` cannot be listed. A folder below it that cannot is a Found with an error.
    """
    start = _Folder("", os.path.realpath(root), _closed(frozenset({0}), pattern), iter(_listing(root)))
    entered = {(start.real, start.states)}
    stack = [start]
    while stack:
        folder = stack[-1]
        entry = next(folder.entries, None)
        if entry is None:
            stack.pop()
            continue
        states = _advanced(folder.states, entry.name, pattern)
        if not states:
            continue
        relative = f"{folder.relative}{entry.name}"
        if not _is_folder(entry):
            if len(pattern) in states:
                yield Found(relative)
            continue
        real = _real_path(entry, folder.real)
        if (real, states) in entered:
            continue
        entered.add((real, states))
        try:
            stack.append(_Folder(f"{relative}/", real, states, iter(_listing(entry.path))))
        except OSError as error:
            yield Found(relative, f"a folder that cannot be listed ({error.strerror})")


def _listing(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: natural_key(entry.name))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself: no folder, and reading it will say so


def _real_path(entry: "os.DirEntry[str]", real_parent: str) -> str:
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real_parent, entry.name)


def _closed(states: _States, pattern: Pattern) -> _States:
    """Add the states that follow because ``**`` may stand for no folder at all."""
    reached = set(states)
    for state in sorted(states):
        while state < len(pattern) and pattern[state] == ANY_DEPTH:
            state += 1
            reached.add(state)
    return frozenset(reached)


def _advanced(states: _States, name: str, pattern: Pattern) -> _States:
    """Return where in the pattern a path may stand after ``name``; empty where it can match no more."""
    hidden = name.startswith(".")
    reached = set()
    for state in states:
        if state == len(pattern):
            continue
        part = pattern[state]
        if part == ANY_DEPTH:
            reached |= set() if hidden else {state}
        elif fnmatch(name, part) and (not hidden or part.startswith(".")):
            reached.add(state + 1)
    return _closed(frozenset(reached), pattern)
