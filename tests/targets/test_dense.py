"""Targets of segmentation: the mean over a mask by explicit indexing, whose mask it is, and each refusal."""

import re
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets import PerImage, SegmentationClass, as_target, join_targets

GENERATOR = torch.Generator().manual_seed(3)
SCORES = torch.randn(2, 3, 4, 6, generator=GENERATOR)
OWN = SCORES.argmax(1)


def by_loops(scores: Tensor, index: int, mask: Tensor) -> list[float]:
    found = []
    for image in range(len(scores)):
        cells = [
            float(scores[image, index, y, x])
            for y in range(scores.shape[2])
            for x in range(scores.shape[3])
            if mask[image, y, x]
        ]
        found.append(sum(cells) / len(cells))
    return found


def refusal(target: SegmentationClass, outputs: Any) -> str:
    with pytest.raises(TargetError) as caught:
        as_target(target, 2)(outputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_without_a_mask_it_is_the_mean_over_the_models_own_pixels(index: int) -> None:
    assert SegmentationClass(index)(SCORES).tolist() == pytest.approx(by_loops(SCORES, index, index == OWN))
    assert SegmentationClass(index).classes(SCORES).tolist() == [index, index]


def test_scores_are_found_in_containers() -> None:
    expected = SegmentationClass(1)(SCORES)
    record = SimpleNamespace(logits=SCORES)
    for outputs in (OrderedDict(out=SCORES, aux=SCORES + 1), {"logits": SCORES}, (SCORES, "other"), record):
        assert torch.equal(SegmentationClass(1)(outputs), expected)
    assert SegmentationClass(1)(SCORES.half()).dtype == torch.float32


def test_queries_give_the_usual_semantic_map() -> None:
    classes = torch.randn(2, 5, 4, generator=GENERATOR)  # 3 classes and "no object"
    masks = torch.randn(2, 5, 4, 6, generator=GENERATOR)
    semantic = torch.zeros(2, 3, 4, 6)
    for query in range(5):
        for index in range(3):
            likely = classes[:, query].softmax(1)[:, index]
            semantic[:, index] += likely[:, None, None] * masks[:, query].sigmoid()
    outputs = {"class_queries_logits": classes, "masks_queries_logits": masks}
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    for index in range(3):
        found = SegmentationClass(index, everywhere)(outputs)
        torch.testing.assert_close(found, semantic[:, index].mean((1, 2)))


def test_one_class_has_the_pixels_where_it_is_more_likely_than_not() -> None:
    scores = SCORES[:, :1]
    assert SegmentationClass(0)(scores).tolist() == pytest.approx(by_loops(scores, 0, scores[:, 0] > 0))


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray], ids=["tensor", "array"])
def test_a_mask_of_any_size_is_brought_to_the_scores_grid(kind: Any, unchecked: None) -> None:
    cells = torch.zeros(2, 4, 6, dtype=torch.bool)
    cells[0, 1:3, 2:5] = True
    cells[1, 0, 0] = True
    fine = kind(cells.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert SegmentationClass(2, fine)(SCORES).tolist() == pytest.approx(by_loops(SCORES, 2, cells))
    for_all = SegmentationClass(2, fine[0])(SCORES)
    assert for_all.tolist() == pytest.approx(by_loops(SCORES, 2, cells[:1].expand(2, 4, 6)))


def test_volumes_are_scored_over_masks_of_three_axes() -> None:
    volume = torch.randn(2, 3, 4, 4, 4, generator=GENERATOR)
    mask = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    mask[0, 1, 2, 3] = True
    assert torch.equal(SegmentationClass(1, mask)(volume), volume[:, 1, 1, 2, 3])


def test_pinned_pixels_stay_when_the_scores_change() -> None:
    other = SCORES.roll(1, dims=1)
    pinned = SegmentationClass(0).pin(SCORES)
    assert pinned(other).tolist() == pytest.approx(by_loops(other, 0, OWN == 0))
    assert pinned.describe() == SegmentationClass(0).describe() == "class 0 over its own pixels"
    assert SegmentationClass(0, OWN == 0).pin(SCORES).describe() == "class 0 over a given mask"


@pytest.mark.parametrize("target", [SegmentationClass(1), SegmentationClass(1, OWN == 2)])
def test_parts_and_joins_are_their_images_own(target: SegmentationClass) -> None:
    whole = target(SCORES)
    pinned = [target.part(i, i + 1).pin(SCORES[i : i + 1]) for i in range(2)]
    for i, one in enumerate(pinned):
        assert torch.equal(one(SCORES[i : i + 1]), whole[i : i + 1])
        assert torch.equal(target.pin(SCORES).part(i, i + 1)(SCORES[i : i + 1]), whole[i : i + 1])
    joined = join_targets(pinned, [1, 1])
    assert type(joined) is type(pinned[0])
    assert torch.equal(joined(SCORES), whole)
    each = PerImage((SegmentationClass(1), SegmentationClass(2)))
    expected = [by_loops(SCORES, 1, OWN == 1)[0], by_loops(SCORES, 2, OWN == 2)[1]]
    assert each.pin({"out": SCORES})({"out": SCORES}).tolist() == pytest.approx(expected)


def test_in_a_mirror_image_the_pixels_are_mirrored() -> None:
    pinned = SegmentationClass(1).pin(SCORES)
    seen = pinned.in_view(lambda maps: maps.flip(-1), (16, 24))
    torch.testing.assert_close(seen(SCORES.flip(-1)), pinned(SCORES))
    assert torch.equal(pinned.in_view(lambda maps: maps, (16, 24))(SCORES), pinned(SCORES))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (SegmentationClass(3), "class 3 does not exist; the model has 3 classes, 0 to 2"),
        (SegmentationClass(-1), "class -1 does not exist"),
        (
            SegmentationClass(0, torch.zeros(4, 6, dtype=torch.bool)),
            "image 0 .* no pixel on the scores' grid",
        ),
        (SegmentationClass(0, torch.ones(3, 4, 6, dtype=torch.bool)), "3 targets for 2 images"),
        (
            SegmentationClass(0, torch.ones(2, 2, 4, 6, dtype=torch.bool)),
            r"mask is \[2, 2, 4, 6\] for scores",
        ),
    ],
)
def test_what_does_not_fit_is_refused(target: SegmentationClass, said: str) -> None:
    assert re.search(said, refusal(target, SCORES))


def test_an_image_without_the_class_is_named_with_the_mend() -> None:
    scores = SCORES.clone()
    scores[1, 2] = -9.0
    said = refusal(SegmentationClass(2), scores)
    assert "image 1 of the batch: the model gives no pixel to class 2" in said
    assert "mask=torch.ones(1, 1, dtype=torch.bool)" in said
    assert SegmentationClass(2, torch.ones(1, 1, dtype=torch.bool))(scores)[1] == -9.0


@pytest.mark.parametrize("outputs", [torch.zeros(2, 3), {"features": SCORES}, [], None])
def test_outputs_without_scores_of_pixels_are_refused(outputs: Any) -> None:
    assert "SegmentationClass needs scores [batch, classes, height, width]" in refusal(
        SegmentationClass(0), outputs
    )


@pytest.mark.parametrize("mask", [torch.ones(4, 6), torch.ones(4, dtype=torch.bool), [[True]], "all"])
def test_what_is_no_mask_is_refused_at_once(mask: Any, unchecked: None) -> None:
    with pytest.raises(TargetError, match=r"expected bool \[height, width\]"):
        SegmentationClass(0, mask)
