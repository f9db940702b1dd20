"""What an explanation is: maps, what they explain, and the pictures they make."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from whycam.errors import UsageError
from whycam.methods import Smoothing
from whycam.targets import Target
from whycam.types import Classes, CropGeometry, Flags, Heatmaps, Images, Map, Scores

if TYPE_CHECKING:
    from PIL.Image import Image

    from whycam.render import Opacity

PARTLY_RANDOM = "partly random weights"
"""How a provenance begins where a weights file filled only a part of its network."""


def caution_in(provenance: str) -> str | None:
    """Return what every picture of a model must say of its weights; None for most models."""
    first = provenance.partition(";")[0]
    return first if first.startswith(PARTLY_RANDOM) else None


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, in a run folder's words: see ``store.ModelRecord``."""

    reference: str = "a model in Python"
    provenance: str = "not known: given in Python"
    weights_sha256: str | None = None
    preprocessing: Mapping[str, object] = field(default_factory=dict)

    @property
    def caution(self) -> str | None:
        """What every picture must say of the weights; None for most models."""
        return caution_in(self.provenance)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of one method for a batch of images, with what they explain.

    ``maps`` [B, *grid] are signed and unnormalised, at the layer's own resolution, on the model's device,
    in float32 (float64 for a float64 model). ``scores`` [B] are what was explained, ``classes`` [B] the
    explained class or -1, ``blank`` [B] is true where a map is zero everywhere. ``layer`` is the path of
    the explained layer, several joined by " + ", ``reason`` why it was taken; ``size`` the images' spatial
    size. Explanations compare by identity.
    """

    maps: Map = field(repr=False)
    scores: Scores
    targets: Target = field(repr=False)
    classes: Classes
    outputs: Any = field(repr=False)
    layer: str
    method: str
    size: tuple[int, ...]
    blank: Flags
    images: Images = field(repr=False)
    gradient_peak: Scores | None = field(default=None, repr=False)
    pictures: tuple["Image", ...] | None = field(default=None, repr=False)
    geometries: tuple[CropGeometry, ...] | None = field(default=None, repr=False)
    names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = field(default=None, repr=False)
    reason: str = field(default="", repr=False)
    smoothing: Smoothing | None = None
    origin: Origin = field(default_factory=Origin, repr=False)

    def heatmaps(self, normalise: Literal["image", "shared"] = "image") -> Heatmaps:
        """Return [B, *size] in [0, 1]: rectified, resized, divided by the image's or the batch's maximum."""
        from whycam.render import to_heatmaps

        return to_heatmaps(self.maps, self.size, normalise)

    def overlays(
        self,
        *,
        colormap: str = "inferno",
        opacity: "Opacity | None" = None,
        normalise: Literal["image", "shared"] = "image",
    ) -> list["Image"]:
        """Return a picture an image: the heatmap over the original, or over the tensor in 8 bits.

        Where the model's weights are partly random, a strip under each picture says so.
        """
        from whycam.render import MagnitudeOpacity, overlay, picture_of, with_caution

        if len(self.size) != 2:
            raise UsageError(f"overlays are for images; these have {len(self.size)} axes. Use .heatmaps()")
        pictures = self.pictures or tuple(picture_of(image) for image in self.images.detach())
        geometries = self.geometries or (None,) * len(pictures)
        heatmaps = self.heatmaps(normalise).cpu()
        chosen = opacity or MagnitudeOpacity()
        return [
            with_caution(
                overlay(picture, heatmap, geometry=geometry, opacity=chosen, colormap=colormap),
                self.origin.caution,
            )
            for picture, heatmap, geometry in zip(pictures, heatmaps, geometries, strict=True)
        ]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a new run folder: manifest, explanations.parquet, and for images overlays and a sheet.

        Raises RunError where the folder holds anything already or cannot be written.
        """
        from whycam.rows import save_explanation

        save_explanation(self, folder)

    def diagnosis(self) -> list[str | None]:
        """Say, for each image whose picture is empty or broken, the likely reason; None for the others."""
        finite = self.maps.isfinite().flatten(1).all(1)
        positive = (self.maps > 0).flatten(1).any(1)
        no_gradient = torch.zeros_like(self.blank) if self.gradient_peak is None else self.gradient_peak == 0
        flags = torch.stack([finite, positive, self.blank, no_gradient], 1).tolist()
        return [_reason(*each, layer=self.layer) for each in flags]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.maps)


def _reason(finite: bool, positive: bool, blank: bool, no_gradient: bool, *, layer: str) -> str | None:
    if not finite:
        return "the map holds NaN or infinity: the model's weights, its image or its half precision overflow"
    if blank and no_gradient:
        return (
            f"the score's gradient at {layer!r} is zero: dead units, a saturated score or an untrained head"
        )
    if blank:
        return f"the map is zero everywhere: nothing at {layer!r} speaks for this target"
    if not positive:
        return f"the map has no positive value: all of {layer!r} speaks against this target"
    return None
