"""What stands for torchvision's presets that a batch of pictures cannot follow as they are."""

from dataclasses import replace
from typing import Any

from torch import nn

from whycam.models.preprocessing import Extent, Preprocessing

# the mean of ImageNet, which is zero behind the normalisation, and so is the networks' own padding
_IMAGENET_MEAN = (0.485, 0.456, 0.406)


def dense_preprocessing(preset: Any, module: nn.Module) -> Preprocessing:
    """Give the preprocessing of a segmentation or detection network.

    Their presets leave every picture in its own shape, which a batch, one tensor, cannot hold. Here the
    whole picture is fitted into one square, its aspect kept, and padded with the mean colour: a side of the
    length that the shorter one has in the preset (segmentation) or in the network's own resize
    (detection). SSD gives up the aspect in its own resize, so it is given up here. Detection networks
    normalise themselves: mean 0, std 1.
    """
    resizer: Any = getattr(module, "transform", None)
    if resizer is None:
        side = preset.resize_size[0]
        return Preprocessing.for_size(
            (side, side),
            preset.mean,
            preset.std,
            resize="longest",
            interpolation=preset.interpolation.value,
        )
    if resizer.fixed_size is not None:
        width, height = resizer.fixed_size
        return Preprocessing.for_size((height, width), (0.0,) * 3, (1.0,) * 3, resize="squash")
    side = resizer.min_size[-1]
    fitted = Preprocessing.for_size((side, side), (0.0,) * 3, (1.0,) * 3, resize="longest")
    return replace(fitted, fill=tuple(round(255 * value) for value in _IMAGENET_MEAN))


def frame_preprocessing(preset: Any) -> Preprocessing:
    """Give the preprocessing of each frame of a clip, as a video network's preset has it."""
    edge = preset.resize_size
    towards: Extent = (edge[0], edge[0]) if len(edge) == 1 else (edge[0], edge[1])
    crop = preset.crop_size
    return Preprocessing(
        size=(crop[0], crop[-1]),
        resize="shorter" if len(edge) == 1 else "squash",
        resize_to=towards,
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        antialias=False,  # the preset resizes tensors without smoothing
    )
