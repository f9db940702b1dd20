"""``report.json``: which files of a folder are a report's, and what each part was made from.

A part that is on record for the same runs, settings and version is not made again. Names are put on record
before their files are written, so that a report never writes over a file that is not its own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whycam.errors import RunError
from whycam.store import EVALUATION_NAME, METRICS_NAME, Run
from whycam.store.files import one_line, read_errors
from whycam.store.folder import RunFolder
from whycam.store.parts import list_shards

RECORD_NAME = "report.json"


@dataclass
class Record:
    """The files that are the report's, and by part what it was made from and what is on it."""

    files: set[str] = field(default_factory=set)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Read the record of a folder; an empty one where there is none. Raises RunError when damaged."""
        path = folder / RECORD_NAME
        try:
            with read_errors(path):
                document = json.loads(path.read_bytes())
            return cls(set(document["files"]), dict(document["parts"]))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{str(path)!r} is damaged ({one_line(error)}); expected the record that a report keeps; "
                "choose another --out, or remove that folder"
            ) from error

    def claim(self, folder: Path, names: Iterable[str]) -> None:
        """Put names on record as the report's. Raises RunError where one is a file of somebody else's."""
        for name in names:
            if name not in self.files and (folder / name).exists():
                raise RunError(
                    f"{str(folder / name)!r} is there already and no report's; expected to write it new; "
                    "choose another --out, or move it away"
                )
            self.files.add(name)

    def has(self, folder: Path, part: str, made_from: str) -> bool:
        """Tell whether a part was made from the same and all of its files are there."""
        known = self.parts.get(part)
        if known is None or known["made_from"] != made_from:
            return False
        return all((folder / name).exists() for name in known["files"])

    def dump(self) -> bytes:
        """Return the record as JSON; the same for the same parts, in whatever order they were made."""
        document = {"files": sorted(self.files), "parts": dict(sorted(self.parts.items()))}
        return (json.dumps(document, indent=2) + "\n").encode()


def fingerprint(run: Run) -> str:
    """Return the SHA-256 of what a run folder says: its manifest and all of its rows."""
    folder = RunFolder(run.folder)
    # an unfinished run has no table, and a finishing one removes its shards
    return _digest(folder.manifest, folder.table, *(path for _, path in list_shards(folder)))


def evaluation_fingerprint(run: Run) -> str | None:
    """Return the SHA-256 of what an evaluation left in a run folder; None where there is nothing of it."""
    paths = [run.folder / name for name in (EVALUATION_NAME, METRICS_NAME)]
    return _digest(*paths) if any(path.exists() for path in paths) else None


def _digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        try:
            with read_errors(path), open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError:
            total.update(b"-")
    return total.hexdigest()


def made_from(version: str, runs: Sequence[tuple[str, str]], settings: Mapping[str, object]) -> str:
    """Return one text for what a part depends on: whycam's version, the runs' names and content, settings."""
    text = json.dumps([version, runs, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
