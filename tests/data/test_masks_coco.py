import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.refused import one_line

from whycam.data.masks import MaskSource, read_masks
from whycam.data.masks.rle import mask_of_runs, runs_of_text
from whycam.data.masks.source import Mask
from whycam.errors import ImageError, UsageError

SQUARE = [2, 1, 7, 1, 7, 4, 2, 4]
OBJECT = np.zeros((6, 8), dtype=np.bool_)
OBJECT[1:4, 2:7] = True
RUNS = [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]
"""OBJECT down its columns."""


def _runs_of(mask: Mask) -> list[int]:
    """The oracle: down the columns, pixel by pixel."""
    runs, value = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != value:
                runs.append(0)
                value = not value
            runs[-1] += 1
    return runs


def _text_of(runs: list[int]) -> str:
    """The oracle: each number as binary digits of its two's complement, in fives, the lowest first."""
    text = ""
    for place, run in enumerate(runs):
        number = run if place < 3 else run - runs[place - 2]
        length = 1
        while not -(2 ** (5 * length - 1)) <= number < 2 ** (5 * length - 1):
            length += 1
        digits = format(number % 2 ** (5 * length), f"0{5 * length}b")
        fives = [digits[at : at + 5] for at in range(0, len(digits), 5)][::-1]
        for at, five in enumerate(fives):
            text += chr(48 + int(five, 2) + (32 if at < len(fives) - 1 else 0))
    return text


def _document(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "val/1.jpg", "height": 6, "width": 8} | image],
        "annotations": [
            {"id": 70 + at, "image_id": 1, "category_id": 3} | one for at, one in enumerate(annotations)
        ],
        "categories": [{"id": 3, "name": "猫"}, {"id": 4, "name": "dog"}],
    }


def _source(
    folder: Path, document: dict[str, Any] | bytes | list[Any], category: str | int | None = None
) -> MaskSource:
    file = folder / "instances.json"
    file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return read_masks(file, category)


def _mask(folder: Path, *annotations: dict[str, Any], **image: Any) -> Mask:
    mask = _source(folder, _document(*annotations, **image)).of("1.jpg", "photos/val/1.jpg", (6, 8))
    assert mask is not None
    return mask


@settings(max_examples=100)
@given(st.integers(1, 12), st.integers(1, 40), st.data())
def test_runs_come_back_from_both_forms(high: int, wide: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 3), min_size=high * wide, max_size=high * wide))
    mask = np.array(values).reshape(high, wide) == 0
    runs = _runs_of(mask)
    assert runs_of_text(_text_of(runs)) == runs
    assert (mask_of_runs(runs, (high, wide), 10**6) == mask).all()


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**30), max_size=9))
def test_runs_of_any_length_come_back_from_their_string(runs: list[int]) -> None:
    assert runs_of_text(_text_of(runs)) == runs


def test_a_string_that_cocos_own_tool_wrote_is_read() -> None:
    assert runs_of_text("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]


@pytest.mark.parametrize(
    "shape",
    [
        {"segmentation": [SQUARE]},
        {"segmentation": [[2, 1, 4, 1, 4, 4, 2, 4], [4.0, 1, 7, 1, 7, 4, 4, 4]]},
        {"segmentation": {"counts": RUNS, "size": [6, 8]}},
        {"segmentation": {"counts": _text_of(RUNS), "size": [6, 8]}},
        {"bbox": [2, 1, 5, 3]},
        {"segmentation": [], "bbox": [1.6, 0.6, 5.0, 3.0]},
    ],
    ids=["polygon", "polygons", "runs", "string", "box", "box without outline"],
)
def test_an_object_is_read_in_each_of_cocos_forms(tmp_path: Path, shape: dict[str, Any]) -> None:
    assert (_mask(tmp_path, shape) == OBJECT).all()


def test_objects_are_joined_and_crowds_left_out(tmp_path: Path) -> None:
    boxes: list[dict[str, Any]] = [{"bbox": [0, 0, 2, 2]}, {"bbox": [6, 4, 99, 99]}]
    crowd = {"segmentation": {"counts": [0, 48], "size": [6, 8]}, "iscrowd": 1}
    document = _document(*boxes, crowd)
    source = _source(tmp_path, document)
    mask = source.of("1.jpg", "val/1.jpg", (6, 8))
    assert mask is not None
    assert [list(map(int, place)) for place in np.argwhere(mask)] == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
        [4, 6],
        [4, 7],
        [5, 6],
        [5, 7],
    ]
    assert "2 objects in 1 images, 1 crowds left out" in source.describe()


@pytest.mark.parametrize("category", ["猫", 3, "3"])
def test_the_mask_may_be_of_one_category(tmp_path: Path, category: str | int) -> None:
    document = _document({"bbox": [2, 1, 5, 3]}, {"bbox": [0, 0, 8, 6], "category_id": 4})
    source = _source(tmp_path, document, category)
    assert (source.of("val/1.jpg", "val/1.jpg", (6, 8)) == OBJECT).all()
    assert "of category 3" in source.describe()
    other = _source(tmp_path, _document({"bbox": [2, 1, 5, 3]}), "dog").of("1.jpg", "val/1.jpg", (6, 8))
    assert other is not None
    assert not other.any()


def test_a_category_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one of 猫 \(3\), dog \(4\)") as caught:
        _source(tmp_path, _document(), "bird")
    one_line(caught)


def test_a_listed_image_without_an_object_has_an_empty_mask_and_another_none(tmp_path: Path) -> None:
    source = _source(tmp_path, _document())
    mask = source.of("1.jpg", "val/1.jpg", (6, 8))
    assert mask is not None
    assert not mask.any()
    assert source.of("2.jpg", "val/2.jpg", (6, 8)) is None


def test_images_are_found_by_their_path_and_then_by_their_name(tmp_path: Path) -> None:
    document = _document({"bbox": [2, 1, 5, 3]})
    document["images"] += [
        {"id": 2, "file_name": "train/1.jpg"},
        {"id": "three", "file_name": "D:\\图 片\\2.jpg"},
    ]
    document["annotations"].append({"image_id": "three", "bbox": [2, 1, 5, 3]})
    source = _source(tmp_path, document)
    assert (source.of("1.jpg", "/data/val/1.jpg", (6, 8)) == OBJECT).all()
    assert (source.of("2.jpg", "elsewhere/2.jpg", (6, 8)) == OBJECT).all()
    with pytest.raises(ImageError, match=r"'val/1.jpg' and 'train/1.jpg'") as caught:
        source.of("1.jpg", "photos/1.jpg", (6, 8))
    one_line(caught)


def test_coordinates_are_of_the_listed_size(tmp_path: Path) -> None:
    mask = _mask(tmp_path, {"bbox": [4, 2, 10, 6]}, height=12, width=16)
    assert (mask == OBJECT).all()
    with pytest.raises(ImageError, match=r"8 x 9 pixels in 'instances.json'") as caught:
        _mask(tmp_path, height=9)
    one_line(caught)


def test_the_record_has_the_files_hash(tmp_path: Path) -> None:
    source = _source(tmp_path, _document())
    assert sha256((tmp_path / "instances.json").read_bytes()).hexdigest() in source.describe()
    assert len(source.describe().splitlines()) == 1


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        ({"segmentation": [SQUARE[:-1]]}, "a polygon of 7 values"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon of 4 values"),
        ({"segmentation": [[1, 2, 3, 4, float("nan"), 6]]}, "no list of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 1e300, 6]]}, "no list of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 10**400, 6]]}, "no list of numbers"),
        ({"segmentation": ["abcdef"]}, "no list of numbers"),
        ({"segmentation": "abc"}, "the segmentation 'abc'"),
        ({"segmentation": {"counts": [13, 3], "size": [6, 8]}}, "don't add up to 8 x 6"),
        ({"segmentation": {"counts": [10**30], "size": [6, 8]}}, "don't add up to 8 x 6"),
        ({"segmentation": {"counts": [60, -12], "size": [6, 8]}}, "don't add up to 8 x 6"),
        ({"segmentation": {"counts": [48], "size": [10**9, 10**9]}}, "runs of size"),
        ({"segmentation": {"counts": ["48"], "size": [6, 8]}}, "counts that are neither"),
        ({"segmentation": {"counts": "X", "size": [6, 8]}}, "stops inside a number"),
        ({"segmentation": {"counts": "oooooooooo0", "size": [6, 8]}}, "not COCO's"),
        ({"segmentation": {"counts": "图", "size": [6, 8]}}, "not COCO's"),
        ({"bbox": [1, 2, 0, 3]}, "the bbox [1, 2, 0, 3]"),
        ({"bbox": [1, 2, float("inf"), 3]}, "the bbox [1, 2, inf, 3]"),
        ({"bbox": [1, 2, 3]}, "the bbox [1, 2, 3]"),
        ({}, "the bbox None"),
    ],
)
def test_a_broken_object_is_one_line(tmp_path: Path, annotation: dict[str, Any], found: str) -> None:
    with pytest.raises(ImageError) as caught:
        _mask(tmp_path, annotation)
    assert found in one_line(caught)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"height": 10**6, "width": 10**6}, "above the limit"),
        ({"height": -6}, "8 x -6"),
        ({"height": "6"}, "height '6'"),
        ({"height": None}, "height None"),
    ],
)
def test_an_image_of_an_odd_size_is_one_line(tmp_path: Path, image: dict[str, Any], found: str) -> None:
    with pytest.raises(ImageError) as caught:
        _mask(tmp_path, **image)
    assert found in one_line(caught)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"", "0 bytes"),
        (b'{"images": [', "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"images": ' + b"9" * 5000 + b"}", "no JSON"),
        ([1, 2], "JSON of 'list'"),
        ({"shapes": [], "imagePath": "1.jpg"}, "'imagePath'"),
        ({"images": [], "annotations": {}}, "'annotations' that is no list"),
        ({"images": [{"id": 1}], "annotations": []}, "entry 0 of 'images'"),
        ({"images": [], "annotations": [{"image_id": []}]}, "entry 0 of 'annotations'"),
        ({"images": [{"id": 1, "file_name": "a"}] * 2, "annotations": []}, "the id 1 twice"),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "annotations": []},
            "the file_name 'a' twice",
        ),
    ],
)
def test_a_broken_file_is_one_line(
    tmp_path: Path, document: dict[str, Any] | bytes | list[Any], found: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _source(tmp_path, document)
    assert found in one_line(caught)
