"""Targets of boxes: which detection is meant, that it is found again, and every refusal in one line."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets import BoxCoordinate, BoxScore, Contrast, PerImage, as_target, join_targets

A, B, C = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 10.0], [0.0, 30.0, 8.0, 40.0]


def image(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def detections() -> list[dict[str, Tensor]]:
    return [image([A, B, C], [1, 2, 1], [0.9, 0.8, 0.3]), image([C, B], [2, 1], [0.7, 0.6])]


def queries() -> dict[str, Tensor]:
    """Two images of three queries: classes 0 and 1, and 'no object' last."""
    logits = torch.tensor([[[3.0, 0, 0], [0, 2, 0], [0, 0, 9]], [[0, 0, 9], [0, 4, 0], [1, 0, 0]]])
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.2], [0.75, 0.5, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]])
    return {"logits": logits, "pred_boxes": boxes.repeat(2, 1, 1)}


def refusal(target: Any, outputs: Any) -> str:
    with pytest.raises(TargetError) as caught:
        as_target(target, 2)(outputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_boxes_are_ranked_by_score_among_their_label() -> None:
    assert BoxScore()(detections()).tolist() == pytest.approx([0.9, 0.7])
    assert BoxScore(2)(detections()).tolist() == pytest.approx([0.8, 0.6])
    assert BoxScore(label=1)(detections()).tolist() == pytest.approx([0.9, 0.6])
    assert BoxScore().classes(detections()).tolist() == [1, 2]
    shuffled = [{key: value.flip(0) for key, value in one.items()} for one in detections()]
    assert BoxScore(2)(shuffled).tolist() == pytest.approx([0.8, 0.6])


@pytest.mark.parametrize(
    ("side", "edges"), [("left", [20, 20]), ("top", [0, 0]), ("right", [40, 40]), ("bottom", [10, 10])]
)
def test_an_edge_is_where_it_lies(side: Any, edges: list[float]) -> None:
    assert BoxCoordinate(side, rank=2)(detections()).tolist() == edges


def test_the_pinned_box_is_found_again_by_overlap_within_its_label() -> None:
    pinned = BoxScore().pin(detections())
    shifted = [1.0, 1.0, 11.0, 11.0]
    changed = [
        image([B, A, shifted, C], [1, 2, 1, 1], [0.99, 0.95, 0.2, 0.1]),  # A itself is of another label
        image([C, A], [2, 2], [0.4, 0.5]),
    ]
    assert pinned(changed).tolist() == pytest.approx([0.2, 0.4])
    assert pinned.classes(changed).tolist() == [1, 2]
    edge = BoxCoordinate("left").pin(detections())
    assert edge(changed).tolist() == [1.0, 0.0]


def test_a_box_that_is_gone_scores_zero_and_its_edge_is_refused() -> None:
    gone = [image([B], [1], [0.9]), image([], [], [])]
    scores = [one["scores"].requires_grad_() for one in gone]
    found = BoxScore().pin(detections())(gone)
    assert found.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(found.sum(), scores[:1])
    assert gradient.tolist() == [0.0]
    with pytest.raises(TargetError, match=r"box of image 0 is gone.*BoxScore"):
        BoxCoordinate("top").pin(detections())(gone)


def test_a_transformers_query_is_kept_with_its_label() -> None:
    clean = queries()
    likely = clean["logits"].softmax(2)
    pinned = BoxScore().pin(clean)
    assert pinned(clean).tolist() == pytest.approx([float(likely[0, 0, 0]), float(likely[1, 1, 1])])
    assert pinned.classes(clean).tolist() == [0, 1]
    changed = {"logits": clean["logits"].flip(2), "pred_boxes": clean["pred_boxes"]}
    turned = changed["logits"].softmax(2)
    assert pinned(changed).tolist() == pytest.approx([float(turned[0, 0, 0]), float(turned[1, 1, 1])])
    assert BoxCoordinate("left")(clean).tolist() == pytest.approx([0.0, 0.7])
    assert BoxCoordinate("bottom")(clean).tolist() == pytest.approx([0.6, 0.55])


def test_an_unknown_kind_of_output_must_say_its_activation() -> None:
    class OtherDetectionOutput(dict[str, Tensor]):
        pass

    outputs = OtherDetectionOutput(queries())
    assert "OtherDetectionOutput does not say" in refusal(BoxScore(), outputs)
    sigmoid = BoxScore(activation="sigmoid")(outputs).tolist()
    assert sigmoid == pytest.approx([1 / (1 + math.exp(-9.0))] * 2)  # the last class is one like the others


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (BoxScore(4), "image 0 of the batch has 3 detections.*rank 4"),
        (BoxScore(3), "image 1 of the batch has 2 detections"),
        (
            BoxScore(label=7),
            r"image 0 of the batch has 0 detections of label 7 with a score of 0.05 or more,",
        ),
        (
            BoxScore(threshold=0.85),
            r"image 1 .* 0 detections with a score of 0.85 or more \(best score 0.7\)",
        ),
        (BoxCoordinate("left", 2, label=2), "has 1 detections of label 2"),
    ],
)
def test_an_image_without_that_detection_is_named_with_the_mend(target: Any, said: str) -> None:
    assert re.search(said + ".*lower threshold=", refusal(target, detections()))


@pytest.mark.parametrize(
    "outputs",
    [torch.zeros(2, 4), {"logits": torch.zeros(2, 4)}, [], [{"boxes": torch.zeros(1, 4)}] * 2, None],
)
def test_outputs_without_boxes_are_refused(outputs: Any) -> None:
    assert "box targets need a list with a dict of boxes" in refusal(BoxScore(), outputs)


def test_what_selects_nothing_is_refused_at_once() -> None:
    with pytest.raises(TargetError, match="rank 0 does not exist"):
        BoxScore(0)


def test_an_unknown_side_or_activation_is_refused_at_once(unchecked: None) -> None:
    with pytest.raises(TargetError, match="side 'middle' is none of left, top, right, bottom"):
        BoxCoordinate("middle")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="activation 'relu' is unknown"):
        BoxScore(activation="relu")  # type: ignore[arg-type]


@pytest.mark.parametrize("outputs", [detections(), queries()], ids=["list", "queries"])
@pytest.mark.parametrize("target", [BoxScore(), BoxCoordinate("right"), Contrast(BoxScore(), BoxScore(2))])
def test_parts_and_joins_are_their_images_own(target: Any, outputs: Any) -> None:
    if isinstance(outputs, dict) and isinstance(target, Contrast):
        target = Contrast(BoxScore(), BoxScore(2, threshold=0.0))
    pinned = target.pin(outputs)
    halves = [pinned.part(0, 1), pinned.part(1, 2)]
    single = [outputs[i : i + 1] if isinstance(outputs, list) else row(outputs, i) for i in range(2)]
    each = [half(one) for half, one in zip(halves, single, strict=True)]
    assert torch.equal(torch.cat(each), pinned(outputs))
    joined = join_targets(halves, [1, 1])
    assert type(joined) is type(pinned)
    assert torch.equal(joined(outputs), pinned(outputs))
    assert torch.equal(PerImage((target, target)).pin(outputs)(outputs), pinned(outputs))
    assert pinned.count() == 2
    with pytest.raises(TargetError, match="2 targets for 3 images"):
        as_target(pinned, 3)


def row(outputs: dict[str, Tensor], at: int) -> dict[str, Tensor]:
    return {name: value[at : at + 1] for name, value in outputs.items()}


@pytest.mark.parametrize("axis", [-1, -2])
def test_in_a_mirror_image_the_box_is_found_at_its_mirrored_place(axis: int) -> None:
    width, height = 50.0, 60.0

    def mirrored(box: list[float]) -> list[float]:
        left, top, right, bottom = box
        if axis == -1:
            return [width - right, top, width - left, bottom]
        return [left, height - bottom, right, height - top]

    seen = [
        image([mirrored(A), A, mirrored(B)], [1, 1, 2], [0.5, 0.95, 0.4]),
        image([mirrored(C)], [2], [0.1]),
    ]
    size = (int(height), int(width))
    flip = lambda maps: maps.flip(axis)  # noqa: E731
    assert BoxScore().pin(detections()).in_view(flip, size)(seen).tolist() == pytest.approx([0.5, 0.1])
    for side in ("left", "top", "right", "bottom"):  # edges are told in the clean image's coordinates
        target = BoxCoordinate(side).pin(detections())  # type: ignore[arg-type]
        assert torch.equal(target.in_view(flip, size)(seen), target(detections()))
        assert torch.equal(target.in_view(lambda maps: maps, size)(detections()), target(detections()))


def test_in_a_mirror_image_another_query_may_have_the_box() -> None:
    clean = queries()
    boxes = clean["pred_boxes"].clone()
    boxes[..., 0] = 1 - boxes[..., 0]
    seen = {"logits": clean["logits"].flip(1), "pred_boxes": boxes.flip(1)}
    pinned = BoxScore().pin(clean)
    assert torch.equal(pinned.in_view(lambda maps: maps.flip(-1), (64, 64))(seen), pinned(clean))


def test_descriptions_are_a_few_words() -> None:
    assert BoxScore().describe() == "score of box 1"
    assert (
        BoxScore(2, label=3).pin([image([A, B], [3, 3], [0.9, 0.8])]).describe()
        == "score of box 2 of class 3"
    )
    assert BoxCoordinate("left").describe() == "left edge of box 1"
