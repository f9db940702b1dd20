"""Rows say what the explanation says, and a saved explanation reads back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from whycam import explain, read_run
from whycam.errors import RunError, UsageError
from whycam.explanation import Explanation
from whycam.rows import (
    OVERLAY_SIDE,
    Subject,
    caption_of,
    note_of,
    overlay_name,
    rows_of,
    shrunk,
)
from whycam.store import Row
from whycam.targets import (
    BoxScore,
    ClassIndex,
    ClassPerImage,
    Contrast,
    PerImage,
    Probability,
    SegmentationClass,
    Similarity,
    TopClass,
    Value,
)
from whycam.types import CropGeometry


def subjects(count: int) -> list[Subject]:
    return [
        Subject(index=10 + i, id=f"{i}.jpg", path=f"dir/{i}.jpg", content_hash=f"h{i}", label=f"l{i}")
        for i in range(count)
    ]


def explanation(**changes: Any) -> Explanation:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    made = Explanation(
        maps=torch.tensor([[[1.0, -2.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]),
        scores=torch.tensor([2.0, 0.0]),
        targets=ClassPerImage(torch.tensor([1, 2])),
        classes=torch.tensor([1, 2]),
        outputs=logits,
        layer="layer4",
        method="gradcam",
        size=(8, 8),
        blank=torch.tensor([False, True]),
        images=torch.zeros(2, 3, 8, 8),
        geometries=(
            CropGeometry((20, 30), (0.0, 5.0, 20.0, 25.0)),
            CropGeometry((8, 8), (0.0, 0.0, 8.0, 8.0)),
        ),
        class_names=("ant", "bee", "cat"),
    )
    return replace(made, **changes)


def test_rows_hold_what_the_explanation_holds() -> None:
    first, second = rows_of(explanation(), subjects(2), target="top class", overlays=["a.png", None])
    assert (first.index, first.id, first.path, first.content_hash, first.label) == (
        10,
        "0.jpg",
        "dir/0.jpg",
        "h0",
        "l0",
    )
    assert (first.prediction, first.prediction_name, first.target_class, first.score) == (1, "bee", 1, 2.0)
    assert first.probability == pytest.approx(float(np.exp(2) / (1 + np.exp(2) + np.exp(1))), rel=1e-6)
    assert (first.method, first.layer, first.target) == ("gradcam", "layer4", "top class")
    assert first.map is not None
    np.testing.assert_array_equal(first.map, [[1.0, -2.0], [0.5, 0.0]])
    assert (first.original, first.box, first.overlay) == ((20, 30), (0.0, 5.0, 20.0, 25.0), "a.png")
    assert (first.blank, second.blank) == (False, True)
    assert (second.prediction, second.prediction_name, second.target_class) == (0, "ant", 2)
    assert second.overlay is None
    assert first.error is None
    assert second.error is None


def test_a_batch_crosses_to_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: list[tuple[int, ...]] = []
    plain = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: crossed.append(tuple(self.shape)) or plain(self))
    for name in ("item", "tolist", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("a value was read one by one"))
    rows_of(explanation(), subjects(2))
    assert len(crossed) == 1


def test_class_numbers_survive_the_common_table_exactly() -> None:
    # float32 holds whole numbers up to 2**24; ImageNet-21k has 21843 classes
    logits = torch.zeros(2, 21843)
    logits[0, 21842] = 3.0
    rows = rows_of(explanation(outputs=logits, classes=torch.tensor([21842, 21841])), subjects(2))
    assert [row.prediction for row in rows] == [21842, 0]
    assert [row.target_class for row in rows] == [21842, 21841]


@pytest.mark.parametrize("outputs", [{"boxes": torch.zeros(2, 4)}, torch.zeros(2, 1), [torch.zeros(2)] * 3])
def test_outputs_without_classes_have_no_prediction(outputs: Any) -> None:
    row = rows_of(explanation(outputs=outputs, classes=torch.tensor([-1, -1])), subjects(2))[0]
    assert (row.prediction, row.prediction_name, row.probability, row.target_class) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("target", [Value(1), Similarity(torch.ones(3)), Contrast(Value(0), Value(1))])
def test_values_and_embeddings_are_no_prediction(target: Any) -> None:
    row = rows_of(explanation(targets=target, classes=torch.tensor([-1, -1])), subjects(2))[0]
    assert (row.prediction, row.probability, row.target) == (None, None, target.describe())


def test_a_multi_label_models_probability_is_a_sigmoid() -> None:
    target = Probability(ClassIndex(1), activation="sigmoid")
    first, second = rows_of(explanation(targets=target), subjects(2))
    assert (first.prediction, second.prediction) == (1, 0)
    assert first.probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-6)
    assert second.probability == pytest.approx(1 / (1 + np.exp(-5)), rel=1e-6)


def test_a_map_that_is_not_finite_is_an_error_of_its_own_row_and_kept() -> None:
    maps = explanation().maps.clone()
    maps[1, 0, 0] = torch.nan
    first, second = rows_of(explanation(maps=maps, blank=torch.tensor([False, False])), subjects(2))
    assert first.error is None
    assert second.error is not None
    assert "NaN" in second.error
    assert second.map is not None
    assert np.isnan(second.map[0, 0])
    assert note_of(second) == "failed"


def test_float64_maps_keep_what_float32_holds() -> None:
    maps = torch.tensor([[[1 / 3, 0.0]], [[2.0, 1.0]]], dtype=torch.float64)
    row = rows_of(
        explanation(maps=maps, scores=torch.tensor([1 / 3, 0.0], dtype=torch.float64)), subjects(2)
    )[0]
    assert row.score == 1 / 3
    assert row.map is not None
    assert row.map[0, 0] == np.float32(1 / 3)


def test_a_wrong_number_of_subjects_is_refused() -> None:
    with pytest.raises(UsageError, match="3 subjects for 2 explained images"):
        rows_of(explanation(), subjects(3))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (ClassPerImage(torch.tensor([1, 2])), ["class 1", "class 2"]),
        (ClassIndex(1), ["class 1", "class 2"]),
        (PerImage((TopClass(), ClassIndex(2))), ["top class", "class 2"]),
        (Contrast(1, 0), ["class 1 rather than class 0"] * 2),
    ],
)
def test_without_a_target_text_each_row_names_its_own(target: Any, said: list[str]) -> None:
    assert [row.target for row in rows_of(explanation(targets=target), subjects(2))] == said


def test_the_caption_says_what_was_predicted_and_what_is_explained() -> None:
    first, second = rows_of(explanation(), subjects(2))
    assert caption_of(first, ("ant", "bee", "cat")) == "0.jpg · predicted bee 66.5% · label l0"
    assert caption_of(second, None) == "1.jpg · predicted class 0 98.7% · label l1 · explained: class 2"
    assert caption_of(Row(index=0, id="/far/away/x.jpg", path="x"), None) == "x.jpg"
    box = Row(index=0, id="x.jpg", path="x", target="score of box 1", target_class=1)
    assert caption_of(box, ("ant", "bee")) == "x.jpg · explained: score of box 1 (bee)"
    words = Row(index=0, id="x.jpg", path="x", target="similarity to 'a cat'")
    assert caption_of(words, None) == "x.jpg · explained: similarity to 'a cat'"


def test_a_note_says_why_nothing_is_seen() -> None:
    first, second = rows_of(explanation(), subjects(2))
    assert note_of(first) == ""
    assert note_of(second) == "blank: all zero"
    negative = explanation(maps=-explanation().maps.abs() - 1, blank=torch.tensor([False, False]))
    assert note_of(rows_of(negative, subjects(2))[0]) == "blank: nothing positive"


@given(st.lists(st.text(alphabet="ab./", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_two_images_never_ask_for_one_picture_name(names: list[str]) -> None:
    assert overlay_name(names[0], "gradcam") != overlay_name(names[1], "gradcam")


def test_an_image_outside_gets_a_flat_name_below_the_run() -> None:
    assert overlay_name("birds/robin.jpg", "gradcam") == "overlays/birds/robin.jpg.gradcam.png"
    for outside in ("/data/robin.jpg", "../robin.jpg"):
        name = overlay_name(outside, "gradcam")
        assert name.startswith("overlays/robin-")
        assert name.count("/") == 1


@pytest.mark.parametrize(
    ("size", "expected"), [((4096, 512), (768, 96)), ((9000, 1), (768, 1)), ((700, 500), (700, 500))]
)
def test_pictures_are_shrunk_to_the_side_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert shrunk(Image.new("RGB", size)).size == expected
    assert max(expected) <= OVERLAY_SIDE


def small_network(*, dimensions: int = 2) -> nn.Module:
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dimensions]
    return nn.Sequential(convolution(3, 8, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.usefixtures("seed")
def test_a_saved_explanation_reads_back(tmp_path: Path) -> None:
    explained = explain(small_network(), torch.rand(3, 3, 12, 16), layer="1", method="gradcam")
    explained.save(tmp_path / "run")
    run = read_run(tmp_path / "run")
    rows = list(run.rows())
    assert run.manifest.finished
    assert [row.id for row in rows] == ["image 0", "image 1", "image 2"]
    for row, found in zip(rows, explained.maps, strict=True):
        assert row.map is not None
        np.testing.assert_allclose(row.map, found.numpy(), rtol=2**-10, atol=1e-9)
        assert row.overlay is not None
        with Image.open(tmp_path / "run" / row.overlay) as picture:
            assert picture.size == (16, 12)
    assert [row.target_class for row in rows] == explained.classes.tolist()
    with Image.open(tmp_path / "run" / "sheet.png") as picture:
        assert min(picture.size) > 300


class Segmenting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.head(self.stage(images))}


class Detecting(Segmenting):
    """One box an image, of label 5, whose score is the mean of what the stage gives."""

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:  # type: ignore[override]
        scores = super().forward(images)["out"].mean((2, 3)).sigmoid()
        boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
        return [{"boxes": boxes, "labels": torch.tensor([5]), "scores": score[:1]} for score in scores]


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize(
    ("model", "target", "named", "classes"),
    [
        (
            Segmenting(),
            SegmentationClass(1, torch.ones(1, 1, dtype=torch.bool)),
            "class 1 over a given mask",
            1,
        ),
        (Detecting(), BoxScore(), "score of box 1", 5),
    ],
)
def test_outputs_without_class_scores_are_saved_without_a_prediction(
    tmp_path: Path, model: nn.Module, target: Any, named: str, classes: int
) -> None:
    explain(model, torch.rand(2, 3, 12, 16), target=target, layer="stage").save(tmp_path / "run")
    run = read_run(tmp_path / "run")
    rows = list(run.rows())
    assert run.manifest.target == named
    assert [(row.prediction, row.probability) for row in rows] == [(None, None)] * 2
    assert [(row.target, row.target_class) for row in rows] == [(named, classes)] * 2
    assert all(row.overlay is not None for row in rows)


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("dimensions", [1, 3])
def test_signals_and_volumes_are_saved_without_pictures(tmp_path: Path, dimensions: int) -> None:
    images = torch.rand(2, 3, *[10] * dimensions)
    explain(small_network(dimensions=dimensions), images, layer="1").save(tmp_path / "run")
    rows = list(read_run(tmp_path / "run").rows())
    assert [row.grid for row in rows] == [(10,) * dimensions] * 2
    assert [row.overlay for row in rows] == [None, None]
    assert not (tmp_path / "run" / "overlays").exists()


@pytest.mark.usefixtures("seed")
def test_images_of_one_name_are_told_apart(tmp_path: Path) -> None:
    explained = explain(small_network(), torch.rand(3, 3, 12, 12), layer="1")
    replace(explained, names=("a.jpg", "a.jpg", "b.jpg")).save(tmp_path / "run")
    rows = list(read_run(tmp_path / "run").rows())
    assert [row.id for row in rows] == ["a.jpg", "a.jpg (2)", "b.jpg"]
    assert [row.path for row in rows] == ["a.jpg", "a.jpg", "b.jpg"]
    assert len({row.overlay for row in rows}) == 3


@pytest.mark.usefixtures("seed")
def test_saving_over_a_run_is_refused(tmp_path: Path) -> None:
    explained = explain(small_network(), torch.rand(1, 3, 12, 12), layer="1")
    explained.save(tmp_path / "run")
    before = (tmp_path / "run" / "explanations.parquet").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        explained.save(tmp_path / "run")
    assert (tmp_path / "run" / "explanations.parquet").read_bytes() == before
