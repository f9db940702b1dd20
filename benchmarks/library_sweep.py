"""Explain vision architectures of transformers and open_clip and write the table: ``make sweep``.

Every architecture is built from a configuration of its own, with few and narrow layers and random weights:
what is checked (layouts, tokens before the grid's, queries, windows) doesn't depend on the width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import open_clip
import torch
import transformers
from benchmarks.layer_checks import Case, Finding, draw_anew, smooth_noise, sweep
from torch import Tensor, nn

NARROW: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
PATCHES: dict[str, Any] = NARROW | {"image_size": 96, "patch_size": 16}
OBLONG: dict[str, Any] = NARROW | {"image_size": [96, 128], "patch_size": 16}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
BLOCKS: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [32, 48, 64, 96],
    "depths": [1, 1, 1, 1],
}
WINDOWS: dict[str, Any] = {
    "image_size": 128,
    "embed_dim": 24,
    "depths": [1, 1, 2],
    "num_heads": [2, 2, 4],
    "window_size": 4,
}
QUERIES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 16,
}
ENCODERS: dict[str, Any] = {"vision_config": PATCHES, "text_config": NARROW}


@dataclass(frozen=True)
class Architecture:
    """A model class of transformers, what its configuration gets, and the input's (height, width)."""

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (128, 128)
    config: str = ""

    def build(self) -> tuple[nn.Module, tuple[int, ...]]:
        """Build the model from a fixed seed."""
        made = {name: value() if callable(value) else value for name, value in self.settings.items()}
        config = getattr(transformers, self.config or _config_of(self.model))(**made)
        torch.manual_seed(0)
        model = draw_anew(getattr(transformers, self.model)(config))
        take_statistics(model, self.size)
        return model, (3, *self.size)


def take_statistics(model: nn.Module, size: tuple[int, int]) -> None:
    """Set the batch norms' statistics from a few images of noise.

    With small random weights and the statistics that they start with, what a deep narrow network passes on
    fades to rounding errors.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    images = torch.cat([smooth_noise((3, *size), seed) for seed in range(2, 10)])
    for norm in norms:
        norm.train().momentum = None
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.eval()


def _config_of(model: str) -> str:
    """Return the usual name of a model class's configuration."""
    return f"{(model.rpartition('For')[0] or model).removesuffix('Model')}Config"


def _swin() -> Any:
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    settings = WINDOWS | {"depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4], "out_features": stages}
    return transformers.SwinConfig(**settings)


def _resnet() -> Any:
    return transformers.ResNetConfig(**BLOCKS | {"out_features": ["stage4"]})


def _resnet_of_rt_detr() -> Any:
    stages = {"hidden_sizes": [8, 16, 32, 48], "out_features": ["stage2", "stage3", "stage4"]}
    return transformers.RTDetrResNetConfig(**BLOCKS | stages | {"embedding_size": 8, "layer_type": "basic"})


def _detr() -> Any:
    return transformers.DetrConfig(**QUERIES | {"encoder_layers": 1, "decoder_layers": 1})


DETECTOR: dict[str, Any] = QUERIES | {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": _resnet,
}
MASKS: dict[str, Any] = {
    "backbone_config": _swin,
    "hidden_dim": 32,
    "feature_size": 32,
    "mask_feature_size": 32,
    "num_attention_heads": 2,
    "decoder_layers": 2,
    "encoder_layers": 1,
    "dim_feedforward": 64,
    "encoder_feedforward_dim": 64,
    "num_queries": 16,
}
NECK: dict[str, Any] = {
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [16, 24, 32, 48],
    "fusion_hidden_size": 32,
}
HEADS: dict[str, Any] = {"num_attention_heads": [1, 2, 4, 8]}

ARCHITECTURES: dict[str, Architecture] = {
    "vit": Architecture("ViTForImageClassification", PATCHES, (96, 96)),
    "vit, oblong": Architecture("ViTForImageClassification", OBLONG, (96, 128)),
    "deit": Architecture("DeiTForImageClassification", PATCHES, (96, 96)),
    "deit, two heads": Architecture("DeiTForImageClassificationWithTeacher", PATCHES, (96, 96)),
    "beit": Architecture("BeitForImageClassification", PATCHES, (96, 96)),
    "data2vec": Architecture("Data2VecVisionForImageClassification", PATCHES, (96, 96)),
    "dinov2": Architecture("Dinov2ForImageClassification", PATCHES, (96, 96)),
    "dinov2, registers": Architecture("Dinov2WithRegistersForImageClassification", PATCHES, (96, 96)),
    "dinov2, registers, oblong": Architecture(
        "Dinov2WithRegistersForImageClassification", PATCHES, (96, 160)
    ),
    "dinov3": Architecture("DINOv3ViTModel", PATCHES | {"num_register_tokens": 4}, (96, 96)),
    "ijepa": Architecture("IJepaForImageClassification", PATCHES, (96, 96)),
    "vit_msn": Architecture("ViTMSNForImageClassification", PATCHES, (96, 96)),
    "vit_mae": Architecture("ViTMAEModel", PATCHES | {"mask_ratio": 0.0}, (96, 96)),
    "swin": Architecture("SwinForImageClassification", WINDOWS),
    "swin, oblong": Architecture("SwinForImageClassification", WINDOWS, (96, 160)),
    "swinv2": Architecture("Swinv2ForImageClassification", WINDOWS),
    "convnext": Architecture("ConvNextForImageClassification", STAGES, (224, 224)),
    "convnextv2": Architecture("ConvNextV2ForImageClassification", STAGES, (224, 224)),
    "resnet": Architecture("ResNetForImageClassification", BLOCKS),
    "regnet": Architecture("RegNetForImageClassification", BLOCKS | {"groups_width": 8}),
    "bit": Architecture("BitForImageClassification", BLOCKS | {"num_groups": 8}, (224, 224)),
    "mobilenet_v1": Architecture("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25}, (224, 224)),
    "mobilenet_v2": Architecture("MobileNetV2ForImageClassification", {"depth_multiplier": 0.35}, (224, 224)),
    "mobilevit": Architecture("MobileViTForImageClassification", {"image_size": 256}, (256, 256)),
    "mobilevitv2": Architecture(
        "MobileViTV2ForImageClassification", {"image_size": 256, "width_multiplier": 0.5}, (256, 256)
    ),
    "efficientnet": Architecture(
        "EfficientNetForImageClassification",
        {"hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 1.0},
        (224, 224),
    ),
    "poolformer": Architecture("PoolFormerForImageClassification", STAGES),
    "pvt": Architecture("PvtForImageClassification", STAGES | HEADS | {"image_size": 128}),
    "pvt_v2": Architecture("PvtV2ForImageClassification", STAGES | HEADS | {"image_size": 128}),
    "cvt": Architecture(
        "CvtForImageClassification", {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}
    ),
    "levit": Architecture(
        "LevitForImageClassification",
        {
            "hidden_sizes": [64, 96, 128],
            "num_attention_heads": [2, 3, 4],
            "depths": [2, 2, 2],
            "key_dim": [8, 8, 8],
        },
        (224, 224),
    ),
    "focalnet": Architecture(
        "FocalNetForImageClassification", {"image_size": 128, "embed_dim": 24, "depths": [1, 1, 2, 1]}
    ),
    "swiftformer": Architecture(
        "SwiftFormerForImageClassification", {"embed_dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
    ),
    "hiera": Architecture(
        "HieraForImageClassification",
        {"image_size": [128, 128], "embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
    ),
    "hgnet_v2": Architecture("HGNetV2ForImageClassification"),
    "textnet": Architecture("TextNetForImageClassification"),
    "segformer": Architecture(
        "SegformerForSemanticSegmentation", STAGES | {"decoder_hidden_size": 32, "num_labels": 4}
    ),
    "segformer, classes": Architecture("SegformerForImageClassification", STAGES, (96, 160)),
    "dpt": Architecture("DPTForSemanticSegmentation", PATCHES | NECK, (96, 96)),
    "dpt, depth": Architecture("DPTForDepthEstimation", PATCHES | NECK, (96, 96)),
    "clip": Architecture("CLIPVisionModelWithProjection", PATCHES, (96, 96), "CLIPVisionConfig"),
    "clip, classes": Architecture("CLIPForImageClassification", ENCODERS, (96, 96)),
    "siglip": Architecture("SiglipVisionModel", PATCHES, (96, 96)),
    "siglip, classes": Architecture("SiglipForImageClassification", ENCODERS, (96, 96)),
    "yolos": Architecture("YolosForObjectDetection", OBLONG | {"num_detection_tokens": 9}, (96, 128)),
    "detr": Architecture("DetrForObjectDetection", DETECTOR),
    "conditional_detr": Architecture("ConditionalDetrForObjectDetection", DETECTOR),
    "table_transformer": Architecture("TableTransformerForObjectDetection", DETECTOR),
    "rt_detr": Architecture(
        "RTDetrForObjectDetection",
        {
            "d_model": 32,
            "encoder_hidden_dim": 32,
            "encoder_in_channels": [16, 32, 48],
            "decoder_in_channels": [32, 32, 32],
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "num_queries": 16,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "encoder_attention_heads": 2,
            "num_denoising": 0,
            "backbone_config": _resnet_of_rt_detr,
        },
    ),
    "mask2former": Architecture("Mask2FormerForUniversalSegmentation", MASKS),
    "maskformer": Architecture(
        "MaskFormerForInstanceSegmentation",
        {
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
            "backbone_config": _swin,
            "decoder_config": _detr,
        },
    ),
    "perceiver": Architecture(
        "PerceiverForImageClassificationLearned",
        {
            "image_size": 64,
            "num_latents": 32,
            "d_latents": 48,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
        },
        (64, 64),
    ),
}

OPEN_CLIP = (
    "ViT-S-32",
    "ViT-M-16-alt",
    "RN50",
    "convnext_base",
    "MobileCLIP-S1",
    "ViT-B-16-SigLIP",
    "coca_ViT-B-32",
)


class ImageEncoder(nn.Module):
    """The half of an image-text model that sees the image."""

    def __init__(self, name: str) -> None:
        """Build the model with random weights."""
        super().__init__()
        self.model = open_clip.create_model(name, pretrained=None, load_weights=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding [B, D]."""
        embedding: Tensor = self.model.encode_image(images)
        return embedding


def _open_clip(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    encoder = ImageEncoder(name)
    size = encoder.model.visual.image_size
    return draw_anew(encoder), (3, *(size if isinstance(size, tuple) else (size, size)))


def cases() -> Iterator[Case]:
    """Give every architecture of both libraries."""
    for family, architecture in ARCHITECTURES.items():
        yield family, architecture.model, architecture.build
    for name in OPEN_CLIP:
        yield "open_clip", name, partial(_open_clip, name)


def page(findings: list[Finding], said: str) -> str:
    """Return the page of the docs."""
    release = open_clip.__version__
    return f"""# The layer chosen on transformers' and open_clip's architectures

transformers {transformers.__version__}, open_clip {release}, torch {torch.__version__.split("+")[0]}; each
architecture from a configuration of its own, narrow, with random weights from a fixed seed. `make sweep`
makes this page again.

{said}"""


if __name__ == "__main__":
    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    sweep(cases(), __doc__, page)
