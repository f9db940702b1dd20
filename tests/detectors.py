"""A small detector of transformers, for the tests of several rooms."""

from torch import nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig


def small_detr(labels: int = 3) -> nn.Module:
    """Return a DETR with four queries and random weights, whose backbone has a position every 8 pixels."""
    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_queries=4,
        d_model=32,
        encoder_layers=0,  # where an object is, is learned in seconds without
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        num_labels=labels,
        dropout=0.0,
        init_std=0.3,
    )
    detector: nn.Module = DetrForObjectDetection(config)
    return detector
