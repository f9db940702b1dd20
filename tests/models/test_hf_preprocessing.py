"""The network sees what transformers' own image processor would show it, or the field is named."""

from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import skimage.data
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from whycam.errors import ModelError
from whycam.models import Preprocessing

# the differences are odd on one axis, so that the rounding of the crop's corner shows
SIZES = [(512, 512), (431, 511), (200, 333)]


@cache
def _astronaut(height: int, width: int) -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()[:height, :width])


def _differences(processor: Any, picture: Image.Image) -> Tensor:
    """Give how far the pixels are from transformers' own, on the scale of 0 to 255."""
    preprocessing = Preprocessing.from_hf(processor.to_dict())
    view, _ = preprocessing.apply(picture)
    shown: Tensor = processor(images=[picture], return_tensors="pt")["pixel_values"][0]
    assert shown.shape == view.shape
    deviation = torch.tensor(preprocessing.std)[:, None, None]
    return ((view - shown).abs() * deviation * 255).detach()


def _assert_close(differences: Tensor) -> None:
    # torchvision resizes tensors and Pillow pictures: bilinear values round to a neighbour here and there,
    # and bicubic and Lanczos ones may be two apart; a crop moved by one pixel would be tens apart
    assert differences.max() < 2.01
    assert differences.mean() < 0.3


PROCESSORS = {
    "vit": ("ViTImageProcessor", {}),
    "vit, oblong": ("ViTImageProcessor", {"size": {"height": 96, "width": 128}}),
    "vit, lanczos": ("ViTImageProcessor", {"resample": 1}),
    "convnext, squashed": ("ConvNextImageProcessor", {}),
    "convnext, cropped": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
    "convnext, other share": ("ConvNextImageProcessor", {"size": {"shortest_edge": 100}, "crop_pct": 0.9}),
    "clip": ("CLIPImageProcessor", {}),
    "clip, padded": ("CLIPImageProcessor", {"size": {"shortest_edge": 100}}),
    "clip, not resized": ("CLIPImageProcessor", {"do_resize": False}),
    "clip, not normalised": ("CLIPImageProcessor", {"do_normalize": False}),
    "siglip": ("SiglipImageProcessor", {}),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_photograph_is_shown_as_transformers_shows_it(name: str, size: tuple[int, int]) -> None:
    kind, changes = PROCESSORS[name]
    processor = getattr(transformers, kind)(**changes)
    _assert_close(_differences(processor, _astronaut(*size)))


@pytest.mark.parametrize("kind", ["ViT", "Siglip", "CLIP", "ConvNext"])
def test_processors_that_resize_with_pillow_are_followed_exactly(kind: str) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessorPil")()
    assert _differences(processor, _astronaut(431, 511)).max() < 0.001


def _every_processor() -> list[str]:
    names = (mapped.get("torchvision") for mapped in IMAGE_PROCESSOR_MAPPING_NAMES.values())
    return sorted({name for name in names if name})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _every_processor())
def test_every_processor_of_transformers_is_followed_or_refused(name: str) -> None:
    try:
        processor = getattr(transformers, name)()
    except (ImportError, TypeError, ValueError, AttributeError) as error:
        pytest.skip(f"cannot be made without arguments: {type(error).__name__}")
    with suppress(ModelError):
        _assert_close(_differences(processor, _astronaut(431, 511)))


CLIP = transformers.CLIPImageProcessor().to_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rescale_factor": 1 / 127.5}, ("rescale_factor",)),
        ({"do_rescale": False}, ("do_rescale",)),
        ({"resample": 9}, ("resample is 9",)),
        ({"resample": "cubic"}, ("resample is cubic",)),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, ("size",)),
        ({"size": {"shortest_edge": 0}}, ("size.shortest_edge is 0",)),
        ({"size": None}, ("size is None",)),
        ({"do_center_crop": False}, ("size", "centre crop")),
        ({"do_resize": False, "do_center_crop": False}, ("do_resize",)),
        ({"crop_size": {"height": 5}}, ("crop_size",)),
        ({"crop_pct": 0.9}, ("crop_pct",)),
        ({"image_mean": None}, ("image_mean",)),
        ({"image_mean": ["a", "b", "c"]}, ("image_mean",)),
        ({"image_std": [0.0, 0.0, 0.0]}, ("std", "above 0")),
        ({"image_mean": [127.0, 127.0, 127.0]}, ("mean", "255")),
        ({"do_flip_channel_order": True}, ("do_flip_channel_order",)),
        ({"do_pad": True}, ("do_pad",)),
        ({"sharpen": 3}, ("sharpen is 3",)),
        ({"image_processor_type": "LevitImageProcessorFast"}, ("Levit",)),
    ],
)
def test_what_cannot_be_followed_is_named(
    changes: dict[str, Any], words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, "preprocessing", *words):
        Preprocessing.from_hf({**CLIP, **changes})


def test_sizes_of_old_configurations_are_numbers() -> None:
    squashed = Preprocessing.from_hf({"size": 32, "image_mean": 0.5, "image_std": [0.5] * 3})
    assert (squashed.resize, squashed.size, squashed.mean) == ("squash", (32, 32), (0.5,) * 3)
    old = {**CLIP, "size": 40, "crop_size": 32}
    cropped = Preprocessing.from_hf(old)
    assert (cropped.resize, cropped.resize_to, cropped.size) == ("shorter", (40, 40), (32, 32))
