"""What a selection is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whycam.errors import UsageError
from whycam.selection.results import Existing

MEMORY = 2 * 2**30
"""Bytes of decoded images that are kept in memory; more are kept on the disk."""


@dataclass(frozen=True, kw_only=True)
class SelectRequest:
    """Which checkpoints are ranked on which images, and where it is written.

    ``weights`` is the folder of the checkpoints whose names match ``pattern``, with a number from ``first``
    to ``last`` where these are given. ``data`` is as `whycam.data.read_labelled` takes it, ``split`` one of
    its splits. ``model`` is a reference; without one the checkpoints' own files say it. ``load_options`` are
    further arguments of `whycam.models.load`. ``images`` are the places, in the split's order, of those that
    will be explained; None is the first of each class, of eight classes at most. ``memory`` is in bytes.
    Raises UsageError for values that make no sense.
    """

    weights: Path
    data: Path
    folder: Path
    model: str | None = None
    load_options: Mapping[str, Any] = field(default_factory=dict)
    pattern: str = "model-*.pth"
    first: int | None = None
    last: int | None = None
    split: str = "test"
    images: tuple[int, ...] | None = None
    batch_size: int = 32
    memory: int = MEMORY
    max_pixels: int = 100_000_000
    command: tuple[str, ...] = ("select_checkpoints",)
    existing: Existing = "refuse"

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything is read."""
        for name, number in (("batch size", self.batch_size), ("number of pixels", self.max_pixels)):
            if number < 1:
                raise UsageError(f"the {name} is {number}; expected at least 1")
        if self.memory < 0:
            raise UsageError(f"the memory is {self.memory} bytes; expected 0, for none, or more")
        if not self.pattern or "/" in self.pattern:
            raise UsageError(
                f"the pattern is {self.pattern!r}; expected names in the folder itself, such as 'model-*.pth'"
            )
