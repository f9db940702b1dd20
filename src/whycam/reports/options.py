"""What a report is asked to hold, and what was made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Part: TypeAlias = Literal["figure", "caption", "methods", "references", "class-means", "evaluation", "page"]
"""A part of a report; ``evaluation`` is there where a run was evaluated."""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a report is made: its parts, and how its pictures look.

    ``width`` is in inches, 3.5 for a column and 7 for a page. Without a ``colormap`` the figure has its
    style's. ``images`` are the ids of those on the figure; without them it shows the first of the run.
    """

    parts: tuple[Part, ...] = PARTS
    width: float = 7.0
    style: str = "paper"
    colormap: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What a report consists of: the files written now, those that were there for the same runs, warnings."""

    folder: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    warnings: tuple[str, ...]
