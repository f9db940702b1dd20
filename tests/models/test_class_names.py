import json
from pathlib import Path
from typing import Any

import pytest

from whycam.errors import ModelError
from whycam.models.class_names import read_class_names

NAMES = ("猫", "tabby cat", "كلب")


def _written(folder: Path, content: str | bytes) -> Path:
    file = folder / "classes.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    "content",
    [
        "猫\ntabby cat\nكلب",
        "猫\r\n tabby cat \r\nكلب\r\n\r\n",
        b"\xef\xbb\xbf" + "猫\ntabby cat\nكلب\n".encode(),
        json.dumps(NAMES),
        json.dumps({"2": NAMES[2], "0": NAMES[0], "1": NAMES[1]}),
        json.dumps({NAMES[1]: 1, NAMES[2]: 2, NAMES[0]: 0}),
        json.dumps({str(n): [f"n0{n}", name] for n, name in enumerate(NAMES)}),
    ],
)
def test_names_come_in_the_order_of_the_outputs(tmp_path: Path, content: str | bytes) -> None:
    assert read_class_names(_written(tmp_path, content), expected=3) == NAMES


def test_more_than_ten_classes_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    names = {str(n): f"class {n}" for n in range(12)}
    assert read_class_names(_written(tmp_path, json.dumps(names)))[2] == "class 2"


def test_a_name_cannot_carry_a_line_break_or_an_escape_code(tmp_path: Path) -> None:
    names = read_class_names(_written(tmp_path, json.dumps(["a\nb", "\x1b[31mred"])))
    assert names == ("a b", "[31mred")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\nb\n", ("2 names", "expected 3")),
        ("a\n\nb", ("line 2",)),
        ("", ("empty",)),
        ("[]", ("empty",)),
        ("[1, 2, 3]", ("no text",)),
        ('["a", "b"', ("no valid JSON",)),
        ("[" * 100_000, ("no valid JSON",)),
        ('{"0": "a", "2": "c"}', ("each index from 0 to 1",)),
        ('{"a": 1, "b": 2}', ("each index from 0 to 1",)),
        ('{"0": "a", "x": "c"}', ("each index",)),
        (b"\xff\xfe\x00", ("not UTF-8",)),
    ],
)
def test_a_file_that_does_not_name_each_class_is_refused(
    tmp_path: Path, content: str | bytes, words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, "'classes.txt'", *words):
        read_class_names(_written(tmp_path, content), expected=3)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, refused: Any) -> None:
    with refused(ModelError, "cannot be read", "check the path"):
        read_class_names(tmp_path / "none.txt")
    with refused(ModelError, "cannot be read"):
        read_class_names(tmp_path)
