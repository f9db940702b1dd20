"""Heatmap -> colours, by matplotlib's own tables. RGB everywhere."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from whycam.errors import UsageError

Heatmap: TypeAlias = npt.NDArray[np.floating] | Tensor
"""One heatmap [H, W] with values in [0, 1], on the host or on a device."""

DEFAULT_COLORMAP = "inferno"

COLORMAPS: Mapping[str, str] = MappingProxyType(
    {
        "viridis": "perceptually uniform, dark blue to yellow",
        "inferno": "perceptually uniform, black to pale yellow",
        "magma": "perceptually uniform, black to pale pink",
        "plasma": "perceptually uniform, blue to yellow",
        "cividis": "perceptually uniform, also for readers with colour vision deficiency",
        "gray": "black to white, for print",
        "turbo": "rainbow without jet's false edges; not uniform",
        "jet": "rainbow with false edges, here because reviewers ask for it",
        "coolwarm": "signed: 0.5 is zero, blue below, red above",
        "bwr": "signed: 0.5 is zero, saturated blue below, red above",
    }
)
"""The colormaps that are offered, with what to know about each; any other matplotlib name works too."""


@lru_cache(maxsize=32)
def colour_table(colormap: str) -> npt.NDArray[np.uint8]:
    """Return a colormap as 256 colours: uint8 [256, 3], RGB, read-only.

    Raises UsageError for a name that matplotlib does not have, naming close ones.
    """
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise UsageError(_unknown(colormap, known=[*COLORMAPS, *colormaps]))
    rgba = np.asarray(colormaps[colormap](np.linspace(0.0, 1.0, 256)), dtype=np.float64)
    table: npt.NDArray[np.uint8] = np.rint(rgba[:, :3] * 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def _unknown(colormap: str, known: list[str]) -> str:
    from difflib import get_close_matches

    lower = {name.lower(): name for name in reversed(known)}
    close = [lower[name] for name in get_close_matches(colormap.lower(), lower, n=3, cutoff=0.6)]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Pick one of {', '.join(COLORMAPS)}."
    return f"colormap {colormap!r} is unknown; expected a name that matplotlib has. {hint}"


def to_array(heatmap: Heatmap) -> npt.NDArray[np.float32]:
    """Bring one heatmap to the host: float32 [H, W], clipped to [0, 1], non-finite values 0.

    Raises UsageError when it is not two-dimensional or is empty.
    """
    values = heatmap.detach().float().cpu().numpy() if isinstance(heatmap, Tensor) else np.asarray(heatmap)
    if values.ndim != 2 or values.size == 0:
        raise UsageError(f"heatmap has shape {list(values.shape)}; expected one heatmap [H, W], not a batch")
    finite = np.where(np.isfinite(values), values, 0.0)
    return np.clip(finite, 0.0, 1.0).astype(np.float32)


def colour_levels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return the index in a colour table, 0 to 255, for values in [0, 1]."""
    # Ties go up beyond doubt: else rounding errors would split a constant 0.1 into levels 25 and 26.
    levels: npt.NDArray[np.intp] = np.floor(values * 255 + 0.501).astype(np.intp)
    return levels


def colorise(heatmap: Heatmap, colormap: str = DEFAULT_COLORMAP) -> npt.NDArray[np.uint8]:
    """Colour a heatmap [H, W] in [0, 1]. Returns uint8 [H, W, 3], RGB.

    0 gets the colormap's first colour, 1 its last. Raises UsageError for an unknown colormap or
    another shape.
    """
    table = colour_table(colormap)
    return table[colour_levels(to_array(heatmap))]
