"""The images that are explained again and again, read once and kept on the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from PIL.Image import Image
from torch import Tensor, nn

from whycam.engine.inputs import Inputs
from whycam.errors import UsageError
from whycam.models.loaded import prepare_pictures
from whycam.models.preprocessing import Preprocessing
from whycam.store.names import safe_name
from whycam.types import CropGeometry


@runtime_checkable
class Preprocessed(Protocol):
    """Anything that carries a preprocessing, such as ``whycam.load`` returns."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes what the network sees."""
        ...


PreprocessingLike: TypeAlias = Preprocessing | Preprocessed


@dataclass(frozen=True, eq=False)
class FixedImages:
    """``inputs`` as ``whycam.explain`` takes them, a name an image, and the pictures they are of, if any."""

    inputs: Any
    names: tuple[str, ...]
    pictures: tuple[Image, ...] | None = field(default=None, repr=False)
    geometries: tuple[CropGeometry, ...] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, images: Any, preprocessing: PreprocessingLike | None) -> "FixedImages":
        """Copy preprocessed tensors, or read and preprocess pictures given as paths or PIL images.

        Raises UsageError where there is no image, ImageError where a picture cannot be read.
        """
        if preprocessing is not None and isinstance(images, Tensor | Mapping):
            raise UsageError("the images are tensors, preprocessed already; leave preprocessing= out")
        if preprocessing is not None:
            return cls._read(images, preprocessing)
        if isinstance(images, str | Path | Image) or _are_pictures(images):
            raise UsageError(
                "the images are pictures; give preprocessing=, what whycam.load(...) returns, say"
            )
        names = tuple(map(str, range(len(Inputs.of(images)))))
        return cls(moved(images, torch.device("cpu"), None), names)

    @classmethod
    def _read(cls, images: Any, preprocessing: PreprocessingLike) -> "FixedImages":
        whole = preprocessing.preprocessing if isinstance(preprocessing, Preprocessed) else preprocessing
        prepared = prepare_pictures(images, whole)
        names = tuple(safe_name(f"{place}-{Path(name).stem}") for place, name in enumerate(prepared.names))
        return cls(prepared.images, names, prepared.pictures, prepared.geometries)

    def inputs_for(self, network: nn.Module) -> Any:
        """Return a copy of the inputs on the network's device and in its number type."""
        weight = next((one for one in network.parameters() if one.is_floating_point()), torch.empty(0))
        return moved(self.inputs, weight.device, weight.dtype)


def moved(value: Any, device: torch.device, number_type: torch.dtype | None) -> Any:
    """Return a copy with all tensors on the device, and float ones of the number type, if one is given."""
    if isinstance(value, Tensor):
        kind = number_type if value.is_floating_point() and number_type else value.dtype
        return value.detach().to(device, kind, copy=True)
    if isinstance(value, Mapping):
        return {name: moved(part, device, number_type) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(part, device, number_type) for part in value)
    return value


def _are_pictures(images: Any) -> bool:
    return (
        isinstance(images, Sequence)
        and bool(images)
        and all(isinstance(one, str | Path | Image) for one in images)
    )
