"""Maps of Hugging Face models land where the truth is known; everything is tiny and trained here.

The bounds are below the least share that was measured with seeds 0 to 3 (DETR: 0 to 7), and well above the
share of the image that the square covers with a cell around it (0.18 to 0.25).
"""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from tests.detectors import small_detr
from tests.targets.scenes import BLUE, GREEN, RED, SIZE, drawn, inside, squares, trained
from tests.targets.test_right_place import CELL, share
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
)

from whycam import BoxCoordinate, BoxScore, SegmentationClass, Similarity, explain
from whycam.targets import Side, Target

pytestmark = pytest.mark.usefixtures("one_thread")


def segformer() -> nn.Module:
    sizes = [16, 16, 32, 32]
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            num_labels=4,
            depths=[1] * 4,
            hidden_sizes=sizes,
            num_attention_heads=[1, 1, 2, 2],
            sr_ratios=[4, 2, 1, 1],
            decoder_hidden_size=32,
            hidden_dropout_prob=0.0,
            classifier_dropout_prob=0.0,
        )
    )


def test_a_class_of_segformer_is_on_its_own_pixels() -> None:
    torch.manual_seed(0)

    def loss(model: nn.Module, step: int) -> Tensor:
        colours = drawn(8, 2, step)
        images, boxes = squares(colours, step)
        truth = torch.zeros(8, SIZE, SIZE, dtype=torch.long)
        for image, wanted, places in zip(truth, colours, boxes, strict=True):
            for colour, (left, top, right, bottom) in zip(wanted, places, strict=True):
                image[top:bottom, left:right] = colour + 1
        whole = F.interpolate(model(images).logits, size=truth.shape[1:], mode="bilinear")
        return F.cross_entropy(whole, truth, weight=torch.tensor([0.2, 1.0, 1.0, 1.0]))

    model = trained(segformer(), loss, steps=100)
    for colour in (RED, GREEN, BLUE):
        found = share(
            model,
            SegmentationClass(colour + 1),
            of=colour,
            among=(RED, GREEN, BLUE),
            layer="decode_head.activation",
        )
        assert found > 0.6


def test_similarity_of_clip_is_explained_patch_by_patch() -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
        projection_dim=8,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    images, _ = squares([[RED], [BLUE], [GREEN, RED]], 5)
    with torch.no_grad():
        text = model(images[:1]).image_embeds[0] + 0.1 * torch.randn(8)
    explanation = explain(
        model,
        images,
        target=Similarity(text),
        layer="vision_model.embeddings.patch_embedding",
        method="hirescam",
        batch_size=2,
    )
    # patches are embedded linearly and without a bias, so each one's share is known from the pixels
    pixels = images.clone().requires_grad_()
    cosines = F.normalize(model(pixels).image_embeds, dim=1) @ F.normalize(text, dim=0)
    (gradient,) = torch.autograd.grad(cosines.sum(), pixels)
    shares = F.avg_pool2d((gradient * images).sum(1), 8) * 64
    torch.testing.assert_close(explanation.scores, cosines.detach())
    torch.testing.assert_close(explanation.maps, shares, rtol=1e-3, atol=1e-6)


def detection_loss(model: nn.Module, step: int) -> Tensor:
    """The first query is for the square; the others are for nothing."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 3, (16,), generator=generator)
    images, boxes = squares([[label] for label in labels.tolist()], step)
    found = model(images)
    places = torch.tensor([box for (box,) in boxes]) / SIZE
    wanted = torch.cat([(places[:, :2] + places[:, 2:]) / 2, places[:, 2:] - places[:, :2]], 1)
    nothing = torch.full((3 * len(images),), 3)
    return (
        F.cross_entropy(found.logits[:, 0], labels)
        + 0.2 * F.cross_entropy(found.logits[:, 1:].flatten(0, 1), nothing)
        + 5 * F.l1_loss(found.pred_boxes[:, 0], wanted, reduction="none").sum(1).mean()
    )


BACKBONE = "model.backbone.model.encoder.stages.1"


def detr_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return trained(small_detr(), lambda model, step: detection_loss(model, step + 10_000 * seed), steps=250)


@pytest.fixture(scope="module")
def learned_detr(one_thread_a_module: None) -> nn.Module:
    return detr_of(0)


def on_own_square(model: nn.Module, target: Target, *, colour: int, seed: int = 0) -> float:
    """Return how much of the maps is on the square, where its box was found near it."""
    images, boxes = squares([[colour]] * 8, 1000 + seed)
    own = [places[0] for places in boxes]
    explanation = explain(model, images, target=target, layer=BACKBONE, method="layercam")
    off = explanation.targets.boxes * SIZE - torch.tensor(own)  # type: ignore[attr-defined]
    assert float(off.abs().mean()) < 9  # boxes in the middle of the image are 12 off
    return float(inside(explanation.heatmaps(), own, CELL).mean())


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_a_box_of_detr_is_explained_by_its_object(learned_detr: nn.Module, colour: int) -> None:
    assert on_own_square(learned_detr, BoxScore(label=colour), colour=colour) > 0.4


@pytest.mark.parametrize("side", get_args(Side))
def test_an_edge_of_detrs_box_is_explained_by_its_object(learned_detr: nn.Module, side: Side) -> None:
    for colour in (RED, BLUE):
        target = BoxCoordinate(side, label=colour)
        assert on_own_square(learned_detr, target, colour=colour) > 0.4


def test_a_box_of_detr_is_its_query(learned_detr: nn.Module) -> None:
    images, _ = squares([[RED], [BLUE], [GREEN]], 5)
    for target, by_hand in (  # the first query won: the same numbers by explicit indexing
        (BoxScore(), lambda o: o.logits.softmax(2)[:, 0, :3].amax(1)),
        (BoxCoordinate("right"), lambda o: o.pred_boxes[:, 0, 0] + o.pred_boxes[:, 0, 2] / 2),
    ):
        found, expected = (
            explain(learned_detr, images, target=one, layer=BACKBONE, batch_size=2)
            for one in (target, by_hand)
        )
        torch.testing.assert_close(found.scores, expected.scores)
        torch.testing.assert_close(found.maps, expected.maps)


def test_mask2former_is_explained_by_its_semantic_map() -> None:
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=SIZE,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
        num_labels=3,
    )
    model = Mask2FormerForUniversalSegmentation(config).eval()
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[16:32, 16:48] = True

    def by_hand(outputs: object) -> Tensor:
        likely = outputs.class_queries_logits.softmax(2)[:, :, 1]  # type: ignore[attr-defined]
        masks = outputs.masks_queries_logits.sigmoid()  # type: ignore[attr-defined]
        inside = masks[:, :, 4:8, 4:12].mean((2, 3))
        return (likely * inside).sum(1)

    images, _ = squares([[RED], [BLUE], [GREEN]], 5)
    layer = "model.pixel_level_module.decoder.mask_projection"
    found, expected = (
        explain(model, images, target=one, layer=layer, batch_size=2)
        for one in (SegmentationClass(1, mask), by_hand)
    )
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.maps, expected.maps)
