"""What a verb answers, as text for people and as one JSON object for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DONE, SOME_FAILED, NOTHING_RAN, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some images failed; wrong usage or nothing could run; stopped with Ctrl-C."""


@dataclass(frozen=True)
class Answer:
    """A verb's result: lines for people, the same as plain data for programs, and the exit code."""

    lines: Sequence[str]
    data: Mapping[str, Any]
    code: int = DONE


def to_json(data: Mapping[str, Any]) -> str:
    """Return one JSON object in ASCII, so that no terminal's encoding can break it; NaN becomes null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(inner) for inner in value]
    return value


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows of text in columns, two spaces apart; the last one is not padded."""
    from rich.cells import cell_len

    cells = [heads, *rows]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(heads))]
    return [
        "  ".join(
            text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
