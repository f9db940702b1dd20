"""The results of checkpoints on the disk, each one whole as soon as it is there: what a kill leaves."""

import dataclasses
import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from whycam.data.printable import printable
from whycam.errors import RunError
from whycam.selection.ranking import Result
from whycam.selection.scoring import Score
from whycam.store.files import (
    make_folders,
    read_errors,
    remove_files,
    run_errors,
    sync_folder,
    write_atomically,
)
from whycam.store.lock import FolderLock
from whycam.store.names import safe_name

Existing: TypeAlias = Literal["refuse", "resume"]
"""What to do with a selection that is in the folder already."""

_VERSION = 1
_OWN = {"results", ".tmp", ".lock"}


class SelectionFolder:
    """The folder that a selection is written to, held by one process from ``opened`` on."""

    def __init__(self, path: Path) -> None:
        """Name its parts; nothing is touched."""
        self.path = path
        self.scratch = path / ".tmp"
        self._results = path / "results"
        self._settings = self._results / "settings.json"

    def check(self, existing: Existing) -> None:
        """Refuse what cannot be begun or gone on with. Raises RunError."""
        quoted = f"'{printable(str(self.path))}'"
        with run_errors(f"look into {quoted}"):
            if self.path.exists() and not self.path.is_dir():
                raise RunError(f"{quoted} is no folder; choose another one with --out")
            names = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
            begun = self._settings.exists()
        if begun and existing == "refuse":
            raise RunError(
                f"{quoted} holds a selection already; choose another folder (--out), or go on with --resume"
            )
        if not begun and names - _OWN:
            raise RunError(
                f"{quoted} is neither empty nor a selection's folder; expected one of these or none yet; "
                "choose another one with --out"
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folders and hold the right to write them. Raises RunError where another process does."""
        with run_errors(f"make {str(self.path)!r}"):
            make_folders(self._results)
            make_folders(self.scratch)
        lock = FolderLock.acquire(self.path / ".lock")
        try:
            yield
        finally:
            remove_files(self.scratch)
            lock.release()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on with results that hold for something else. Raises RunError that names it.

        What ``settings`` lacks is not compared: some of it is known before the images are read.
        """
        if not self._settings.exists():
            return
        then, now = _read(self._settings), json.loads(json.dumps(settings))
        for key in now:
            if now[key] != then.get(key):
                raise RunError(
                    f"the results in '{printable(str(self.path))}' are for another {key.replace('_', ' ')}: "
                    f"{_difference(then.get(key), now[key])}; resume with the same, or choose another --out"
                )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write down what results hold for, all of it, where it is not there yet."""
        if not self._settings.exists():
            self.write(self._settings.relative_to(self.path), _bytes(settings))

    def results(self) -> dict[str, Result]:
        """Return the results that are there, by the checkpoints' names. Raises RunError where one is damaged.

        Without settings nothing says what they are for, and none counts.
        """
        files = sorted(self._results.glob("*.json")) if self._settings.exists() else []
        found = [_result(file) for file in files if file != self._settings]
        return {one.name: one for one in found}

    def commit(self, result: Result) -> None:
        """Put a result on the disk: whole, or not at all. Raises RunError."""
        # a name of its own room: settings.json is one that a checkpoint could ask for
        name = safe_name(f"of-{result.name}.json")
        document = {"version": _VERSION, **dataclasses.asdict(result)}
        self.write(Path("results", name), _bytes(document))

    def write(self, relative: Path, content: bytes) -> None:
        """Give one of the folder's files its whole new content. Raises RunError."""
        target = self.path / relative
        with run_errors(f"write {str(target)!r}"):
            write_atomically(target, self.scratch, lambda file: file.write(content))
            sync_folder(target.parent)


def _bytes(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _read(file: Path) -> dict[str, Any]:
    try:
        with read_errors(file):
            document = json.loads(file.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise _damaged(file) from error
    return document


def _result(file: Path) -> Result:
    document = _read(file)
    try:
        if document.pop("version") != _VERSION:
            raise RunError(
                f"'{printable(str(file))}' was written by another version of whycam; choose another --out"
            )
        return Result(**{**document, "score": Score(**document["score"])})
    except (KeyError, TypeError) as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> RunError:
    return RunError(
        f"'{printable(str(file))}' is damaged; expected what whycam select wrote; restore it from a copy, or "
        "choose another --out"
    )


def _difference(then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(key for key in sorted({*then, *now}) if then.get(key) != now.get(key))
        return f"{key} was {_short(then.get(key))}, now {_short(now.get(key))}"
    return f"it was {_short(then)}, now {_short(now)}"


def _short(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())
