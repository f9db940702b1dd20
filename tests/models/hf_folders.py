"""Tiny networks of transformers in folders as ``save_pretrained`` writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.detectors import small_detr

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {"image_size": 32, "patch_size": 8}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
FIVE = {"num_labels": 5}


def _vit() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**TINY, **PATCHES, **FIVE))


def _convnext() -> Any:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **FIVE)
    return transformers.ConvNextForImageClassification(config)


def _resnet() -> Any:
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**STAGES, **FIVE))


def _segformer() -> Any:
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        **FIVE,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def _detr() -> Any:
    return small_detr(labels=5)


def _vit_without_head() -> Any:
    return transformers.ViTModel(transformers.ViTConfig(**TINY, **PATCHES))


def _resnet_without_head() -> Any:
    return transformers.ResNetModel(transformers.ResNetConfig(**STAGES))


def _clip() -> Any:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = transformers.CLIPConfig(
        text_config={**TINY, "vocab_size": 600, "max_position_embeddings": 16, **ends},
        vision_config={**TINY, **PATCHES},
        projection_dim=12,
    )
    return transformers.CLIPModel(config)


def _siglip() -> Any:
    config = transformers.SiglipConfig(
        text_config={**TINY, "vocab_size": 600, "max_position_embeddings": 16},
        vision_config={**TINY, **PATCHES},
    )
    return transformers.SiglipModel(config)


def _videomae() -> Any:
    clip = {"num_frames": 6, "tubelet_size": 2, "use_mean_pooling": True}
    return transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(**TINY, **PATCHES, **FIVE, **clip)
    )


def _timesformer() -> Any:
    config = transformers.TimesformerConfig(**TINY, **PATCHES, **FIVE, num_frames=3)
    return transformers.TimesformerForVideoClassification(config)


def _vivit() -> Any:
    clip = {"num_frames": 6, "tubelet_size": [2, 8, 8]}
    config = transformers.VivitConfig(**{**TINY, "image_size": 32}, **FIVE, **clip)
    return transformers.VivitForVideoClassification(config)


def _vjepa2() -> Any:
    part = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1}
    predictor = {f"pred_{name}": value for name, value in part.items()}
    clip = {"patch_size": 8, "crop_size": 32, "frames_per_clip": 6, "tubelet_size": 2, "num_pooler_layers": 1}
    config = transformers.VJEPA2Config(**part, **predictor, **clip, mlp_ratio=2, **FIVE)
    return transformers.VJEPA2ForVideoClassification(config)


def _videomae_without_head() -> Any:
    return transformers.VideoMAEModel(_videomae().config)


NETWORKS: dict[str, Callable[[], Any]] = {
    "vit": _vit,
    "convnext": _convnext,
    "resnet": _resnet,
    "segformer": _segformer,
    "detr": _detr,
    "vit_without_head": _vit_without_head,
    "resnet_without_head": _resnet_without_head,
    "clip": _clip,
    "siglip": _siglip,
    "videomae": _videomae,
    "timesformer": _timesformer,
    "vivit": _vivit,
    "vjepa2": _vjepa2,
    "videomae_without_head": _videomae_without_head,
}


def saved(kind: str, folder: Path, processor: Any = None) -> Any:
    """Save a tiny network, and a processor beside it; give the network in eval mode."""
    torch.manual_seed(77)
    network = NETWORKS[kind]().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)  # some heads are made of zeros
    network.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return network


def save_tokenizer(folder: Path) -> Any:
    """Save a tokenizer that knows the letters and no word; give it."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [
        "<|pad|>",
        "<|startoftext|>",
        "<|endoftext|>",
        *letters,
        *(f"{letter}</w>" for letter in letters),
    ]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    return tokenizer


def change_json(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
