"""COCO's run-length masks: lengths of runs down the columns, first of 0, then of 1, as a list or a string.

Source: the COCO data set's mask format (cocodataset.org, maskApi).
"""

from collections.abc import Sequence

import numpy as np

from whycam.data.masks.source import Extent, Mask
from whycam.data.refusal import RefusedError, require_few_pixels

_MEND = "export the annotations again"
_FIRST_CHARACTER = 48
_BITS = 5
_SIGN = 1 << (_BITS - 1)
_MORE = 1 << _BITS
_LONGEST = 7
"""Characters of one number: 35 bits, above any picture's number of pixels."""


def mask_of_runs(counts: Sequence[int], size: Extent, max_pixels: int) -> Mask:
    """Return the mask [H, W] of the runs. Raises RefusedError where they don't fill the size exactly."""
    require_few_pixels(size[1], size[0], max_pixels)
    if any(count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise RefusedError(f"runs that don't add up to {size[1]} x {size[0]} pixels", _MEND)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size, order="F")


def runs_of_text(text: str) -> list[int]:
    """Return the lengths of the runs that COCO's string holds. Raises RefusedError.

    Each character is six bits above the 48th: five of a number, lowest first, and one that says that more
    follow; the last one's highest bit is the sign. From the fourth on, numbers are differences to the run
    two before.
    """
    runs: list[int] = []
    value = place = 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        if not 0 <= bits < 2 * _MORE or place == _LONGEST:
            raise RefusedError("a run-length string that is not COCO's", _MEND)
        value |= (bits & (_MORE - 1)) << (_BITS * place)
        place += 1
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << (_BITS * place)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = place = 0
    if place:
        raise RefusedError("a run-length string that stops inside a number", _MEND)
    return runs
