"""Shaped names for what flows between the rooms.

``bands`` are an image's channels (a layer has others), ``*size`` is an image's spatial size and ``*grid``
a layer's: one axis for signals, two for images, three for volumes and video. ``Rows`` say of which image
of a batch each of some changed copies is. The shapes are checked at run
time in the tests only.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch bands *size"]
Activations: TypeAlias = Float[Tensor, "batch channels *grid"]
Gradients: TypeAlias = Float[Tensor, "batch channels *grid"]
Attention: TypeAlias = Float[Tensor, "batch heads tokens tokens"]
Weights: TypeAlias = Float[Tensor, "batch channels *broadcast"]
Map: TypeAlias = Float[Tensor, "batch *grid"]
Heatmaps: TypeAlias = Float[Tensor, "batch *size"]
Scores: TypeAlias = Float[Tensor, "batch"]
Classes: TypeAlias = Int[Tensor, "batch"]
Flags: TypeAlias = Bool[Tensor, "batch"]
Rows: TypeAlias = Int[Tensor, "rows"]
TokenFlags: TypeAlias = Bool[Tensor, "batch tokens"]
TokenValues: TypeAlias = Float[Tensor, "batch tokens"]
Rule: TypeAlias = Literal["guided", "deconvnet"]
"""What a gradient obeys on its way back through ReLU-like activations, other than their derivative."""


@dataclass(frozen=True)
class CropGeometry:
    """Which part of the original picture the model saw.

    ``original`` is the picture's (height, width) in pixels; ``box`` is (top, left, bottom, right) in
    the original's pixel coordinates, as real numbers because a resize need not land on whole pixels.
    A model that sees the whole picture, squashed or not, has the box (0, 0, height, width). A box may
    reach outside the picture where the preprocessing pads.
    """

    original: tuple[int, int]
    box: tuple[float, float, float, float]
