"""The network sees what transformers' own image processor would show it, or the field is named."""

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
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
    shown = shown[0] if shown.ndim == 4 else shown  # a clip's first frame
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
    "scaled to 128": ("ViTImageProcessor", {"rescale_factor": 1 / 127.5}),
    "scaled by 256": ("ViTImageProcessor", {"rescale_factor": 1 / 256, "do_normalize": False}),
    "detr": ("DetrImageProcessor", {}),
    "detr, as first released": ("DetrImageProcessor", {"size": 800, "max_size": 1333}),
    "detr, small": ("DetrImageProcessor", {"size": {"shortest_edge": 97, "longest_edge": 131}}),
    "detr, not resized": ("DetrImageProcessor", {"size": {"shortest_edge": 431, "longest_edge": 900}}),
    "detr, squashed": ("DetrImageProcessor", {"size": {"height": 90, "width": 110}}),
    "conditional detr": ("ConditionalDetrImageProcessor", {}),
    "deformable detr": ("DeformableDetrImageProcessor", {}),
    "yolos": ("YolosImageProcessor", {}),
    "yolos, small": ("YolosImageProcessor", {"size": {"shortest_edge": 97, "longest_edge": 131}}),
    "maskformer": ("MaskFormerImageProcessor", {}),
    "mask2former": ("Mask2FormerImageProcessor", {"size": {"shortest_edge": 97, "longest_edge": 131}}),
    "mask2former, unrounded": ("Mask2FormerImageProcessor", {"size_divisor": 0}),
    "mobilevit": ("MobileViTImageProcessor", {}),
    "mobilevit, rgb": ("MobileViTImageProcessor", {"do_flip_channel_order": False}),
    "efficientnet": ("EfficientNetImageProcessor", {}),
    "efficientnet, as released": (
        "EfficientNetImageProcessor",
        {"size": {"height": 224, "width": 224}, "rescale_factor": 1 / 127.5, "rescale_offset": True},
    ),
    "efficientnet, embeddings": (
        "EfficientNetImageProcessor",
        {"include_top": False, "do_center_crop": True},
    ),
    "levit": ("LevitImageProcessor", {}),
    "poolformer": ("PoolFormerImageProcessor", {}),
    "poolformer, other share": ("PoolFormerImageProcessor", {"crop_pct": 0.95}),
    "poolformer, whole pixels": ("PoolFormerImageProcessor", {"size": {"shortest_edge": 180}}),
    "dpt": ("DPTImageProcessor", {}),
    "videomae": ("VideoMAEImageProcessor", {}),
    "vivit": ("VivitImageProcessor", {}),
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
        ({"rescale_factor": 0}, ("rescale_factor is 0",)),
        ({"rescale_factor": "1/255"}, ("rescale_factor is 1/255",)),
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
        ({"image_processor_type": "PerceiverImageProcessorFast"}, ("Perceiver",)),
        ({"size_divisor": 32}, ("size_divisor is 32",)),
        ({"include_top": True}, ("include_top is True",)),
        (
            {
                "image_processor_type": "PoolFormerImageProcessor",
                "crop_pct": 0.9,
                "size": {"height": 9, "width": 9},
            },
            ("size", "PoolFormer"),
        ),
    ],
)
def test_what_cannot_be_followed_is_named(
    changes: dict[str, Any], words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, "preprocessing", *words):
        Preprocessing.from_hf({**CLIP, **changes})


DETR = transformers.DetrImageProcessor().to_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pad_size": {"height": 9, "width": 9}}, ("pad_size",)),
        ({"size": {"shortest_edge": 800}}, ("size",)),
        ({"size": {"shortest_edge": 800, "longest_edge": 700}}, ("no longer than the longest_edge",)),
        ({"size": {"shortest_edge": 0, "longest_edge": 700}}, ("size.shortest_edge is 0",)),
        ({"size": {"max_height": 9, "max_width": 9}}, ("size",)),
        ({"do_resize": False}, ("do_resize",)),
        ({"size_divisor": 32}, ("size_divisor is 32",)),
    ],
)
def test_what_cannot_be_followed_of_a_detectors_processor_is_named(
    changes: dict[str, Any], words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, "preprocessing", *words):
        Preprocessing.from_hf({**DETR, **changes})


def test_the_released_form_of_a_detectors_processor_is_read(tmp_path: Path) -> None:
    released = {
        "feature_extractor_type": "DetrFeatureExtractor",
        "format": "coco_detection",
        "do_normalize": True,
        "do_resize": True,
        "size": 800,
        "max_size": 1333,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(released))
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    preprocessing = Preprocessing.from_hf(processor.to_dict())
    assert (preprocessing.resize, preprocessing.size) == ("bounded", (800, 1333))


def test_sizes_of_old_configurations_are_numbers() -> None:
    squashed = Preprocessing.from_hf({"size": 32, "image_mean": 0.5, "image_std": [0.5] * 3})
    assert (squashed.resize, squashed.size, squashed.mean) == ("squash", (32, 32), (0.5,) * 3)
    old = {**CLIP, "size": 40, "crop_size": 32}
    cropped = Preprocessing.from_hf(old)
    assert (cropped.resize, cropped.resize_to, cropped.size) == ("shorter", (40, 40), (32, 32))
