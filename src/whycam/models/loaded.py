"""A loaded network with everything needed to put a picture through it and to say where it came from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from whycam.errors import ImageError, UsageError
from whycam.explanation import PARTLY_RANDOM
from whycam.models.messages import one_line
from whycam.models.preprocessing import Preprocessing
from whycam.types import CropGeometry, Images

Source: TypeAlias = str | Path | Image.Image


@dataclass(frozen=True)
class Provenance:
    """Where a network's weights are from.

    ``name`` is the weights file's name, the published weights' name or the factory; ``sha256`` is the
    weights file's, where there is one, or of what a factory made (see `state_sha256`); ``notes`` say what
    was chosen while loading, one line each.
    ``loaded`` is (keys loaded, the network's keys) where a file filled the network in part only.
    ``downloadable`` is false of random weights where ``--download`` has nothing to get.
    """

    kind: Literal["random", "file", "pretrained", "demo", "factory"]
    name: str | None = None
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    loaded: tuple[int, int] | None = None
    downloadable: bool = True

    def describe(self) -> str:
        """Say in one line what the weights are, and so what a map of the network can be worth."""
        said = {
            "random": "random weights: the maps say nothing about any trained model; "
            f"pass --weights FILE{' or --download' if self.downloadable else ''}",
            "file": f"weights of {self.name}{self._digest()}",
            "pretrained": f"published weights {self.name}",
            "demo": "the trained weights of the demo network inside the package",
            "factory": f"weights as {self.name} made them{self._digest()}: "
            "whether they are trained is not known; pass --weights FILE to load some",
        }[self.kind]
        caution = (
            () if self.loaded is None else (f"{PARTLY_RANDOM}: {self.loaded[0]} of {self.loaded[1]} loaded",)
        )
        return "; ".join((*caution, said, *self.notes))

    def _digest(self) -> str:
        return "" if self.sha256 is None else f" (SHA-256 {self.sha256[:12]})"

    def to_dict(self) -> dict[str, Any]:
        """Give plain data for a manifest."""
        loaded = None if self.loaded is None else list(self.loaded)
        return {**asdict(self), "notes": list(self.notes), "loaded": loaded}


@dataclass(frozen=True)
class PreparedImages:
    """Pictures as a network takes them: ``images`` [B, C, H, W], and per picture what it was made of.

    ``pictures`` are the originals as RGB, ``geometries`` say which part of each the network sees, and
    ``names`` are the paths as given, or a number for a picture without a file.
    """

    images: Images
    pictures: tuple[Image.Image, ...]
    geometries: tuple[CropGeometry, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode on ``device``, its preprocessing, its class names and its provenance.

    ``embed_text`` is there for image-text models, whose module gives image embeddings [B, D]: it gives
    a text's embedding [D] in the same space, and neither is normalised. ``needs_clips`` says of a video
    network, which takes no single pictures, what it takes instead. ``refill``, there where the weights are a
    file's, puts another file's into the module in their place, whole or not at all, and gives their
    provenance; it raises WeightsError, and the module is then as it was.
    """

    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    reference: str
    provenance: Provenance
    device: torch.device
    embed_text: Callable[[str], Tensor] | None = None
    needs_clips: str | None = None
    refill: Callable[[Path], Provenance] | None = None

    def check_takes_pictures(self) -> None:
        """Raise UsageError where single pictures are no input of the network."""
        if self.needs_clips is not None:
            raise UsageError(f"{self.reference} takes no single pictures; {self.needs_clips}")

    def as_input(self, views: Tensor) -> Images:
        """Bring preprocessed views [B, C, H, W] to the network's device and number type."""
        floating = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return views.to(self.device, next(floating, torch.float32))

    def prepare(self, sources: Sequence[Source]) -> PreparedImages:
        """Read and preprocess files or PIL pictures, on the network's device and in its number type.

        Raises ImageError when a picture cannot be read, UsageError when there is none, when their views
        differ in size or when the network takes no pictures.
        """
        self.check_takes_pictures()
        prepared = prepare_pictures(sources, self.preprocessing)
        return replace(prepared, images=self.as_input(prepared.images))


def prepare_pictures(sources: Any, preprocessing: Preprocessing) -> PreparedImages:
    """Read and preprocess a sequence of files or PIL pictures, in float32 on the host.

    Raises ImageError when a picture cannot be read, UsageError when there is none, when their views differ
    in size and for anything else.
    """
    if isinstance(sources, str | Path | Image.Image):
        raise UsageError("prepare was given one source; expected a list of them: put it in [ ]")
    shape = getattr(sources, "shape", None)
    if shape is not None:
        raise UsageError(
            f"prepare was given a tensor ({type(sources).__name__} {list(shape)}); "
            "give files or PIL pictures, or explain model.module with it"
        )
    if not sources:
        raise UsageError("there is no picture to prepare; give at least one file or PIL picture")
    pictures = tuple(_picture(source) for source in sources)
    views, geometries = zip(*(preprocessing.apply(picture) for picture in pictures), strict=True)
    names = tuple(_name(source, index) for index, source in enumerate(sources))
    _check_one_size(views, names)
    return PreparedImages(torch.stack(views), pictures, geometries, names)


def _check_one_size(views: Sequence[Tensor], names: Sequence[str]) -> None:
    other = next((place for place, view in enumerate(views) if view.shape != views[0].shape), None)
    if other is not None:
        first, second = (" x ".join(map(str, view.shape[1:])) for view in (views[0], views[other]))
        raise UsageError(
            f"'{one_line(names[0], 80)}' becomes {first} pixels and '{one_line(names[other], 80)}' {second}, "
            "as this network's preprocessing keeps their shapes; explain them one at a time, write a run "
            "with whycam explain, or load with resize='squash'"
        )


def _picture(source: Source) -> Image.Image:
    from whycam.data import read_image

    if isinstance(source, Image.Image):
        return _upright_rgb(source)
    if isinstance(source, str | Path):
        return read_image(source).image
    raise UsageError(f"a source is a {type(source).__name__}; expected a path or a PIL picture")


def _upright_rgb(picture: Image.Image) -> Image.Image:
    """Convert an opened picture by the rules that hold for files."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        raise ImageError(
            f"the PIL picture has mode '{picture.mode}', whose range is not known; "
            "expected 8 bits a channel; give the file itself, or scale it to 8 bits"
        )
    upright = ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    canvas = Image.new("RGB", layer.size, "white")
    canvas.paste(layer, mask=layer)
    return canvas


def _name(source: Source, index: int) -> str:
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"picture {index}"
    return str(source)
