"""What lies where in a run folder, and what a given folder is."""

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from whycam.errors import RunError


class FolderState(enum.Enum):
    """What was found at the place of a run folder."""

    MISSING = enum.auto()
    EMPTY = enum.auto()
    RUN = enum.auto()
    FOREIGN = enum.auto()


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    ``manifest.json`` and ``explanations.parquet`` are the run. While it is being written there are also
    ``rows/`` (the committed shards), ``.tmp/`` (files not yet whole, never read) and ``.lock``.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """The file that says how the run was made."""
        return self.path / "manifest.json"

    @property
    def table(self) -> Path:
        """All rows of a finished run."""
        return self.path / "explanations.parquet"

    @property
    def shards(self) -> Path:
        """The folder of the commits that are not in ``table`` yet."""
        return self.path / "rows"

    @property
    def scratch(self) -> Path:
        """The folder of files that are still being written."""
        return self.path / ".tmp"

    @property
    def lock(self) -> Path:
        """The file whose lock the one writer holds."""
        return self.path / ".lock"

    def state(self) -> FolderState:
        """Look at the folder without touching it. Raises OSError where it cannot be looked at."""
        try:
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            return FolderState.MISSING
        except NotADirectoryError:
            return FolderState.FOREIGN
        if self.manifest.name in names:
            return FolderState.RUN
        # a run killed before its manifest was in place leaves these two and nothing else
        leftovers = {self.scratch.name, self.lock.name}
        return FolderState.EMPTY if names <= leftovers else FolderState.FOREIGN


def refuse_run(run: RunFolder) -> None:
    """Refuse a folder that a new run cannot begin in: with a run in it, or with anything else.

    Raises RunError, and OSError where the folder cannot be looked at.
    """
    refuse_foreign(run)
    if run.state() is FolderState.RUN:
        raise RunError(
            f"{str(run.path)!r} holds a run already; choose another folder (--out), or go on with --resume"
        )


def refuse_foreign(run: RunFolder) -> None:
    """Refuse a folder with other things than a run in it; an empty one or none is fine.

    Raises RunError, and OSError where the folder cannot be looked at.
    """
    if run.state() is FolderState.FOREIGN:
        raise RunError(
            f"{str(run.path)!r} is neither a run folder nor an empty one; expected one of these or none yet; "
            "choose another folder (--out)"
        )
