"""Which files are checkpoints, in which order, and which numbers are missing."""

from pathlib import Path

import pytest

from whycam.errors import UsageError
from whycam.selection.checkpoints import find_checkpoints, gaps_text


def _folder(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).touch()
    return place


def test_checkpoints_come_in_natural_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    _folder(
        tmp_path, "model-10.pth", "model-9.pth", "model-1.pth", "best.pth", "model-1.yaml", "._model-3.pth"
    )
    found = find_checkpoints(tmp_path, "model-*.pth")
    assert [(one.name, one.number) for one in found.checkpoints] == [
        ("model-1.pth", 1),
        ("model-9.pth", 9),
        ("model-10.pth", 10),
    ]
    assert found.missing == ()


def test_the_number_is_the_first_behind_what_the_pattern_begins_with(tmp_path: Path) -> None:
    _folder(tmp_path, "resnet50-3-acc0.9.ckpt", "resnet50-x.ckpt")
    found = find_checkpoints(tmp_path, "resnet50-*.ckpt")
    assert [one.number for one in found.checkpoints] == [3, None]


@pytest.mark.parametrize(
    ("first", "last", "numbers", "missing"),
    [
        (80, 99, [81, 82, 90], ((80, 80), (83, 89), (91, 99))),
        (81, None, [81, 82, 90, 100], ((83, 89), (91, 99))),
        (None, 82, [3, 81, 82], ((4, 80),)),
        (3, 10**12, [3, 81, 82, 90, 100], ((4, 80), (83, 89), (91, 99), (101, 10**12))),
    ],
)
def test_a_range_keeps_the_numbers_in_it_and_names_those_that_lack(
    tmp_path: Path, first: int | None, last: int | None, numbers: list[int], missing: object
) -> None:
    _folder(tmp_path, *(f"model-{number}.pth" for number in (3, 81, 82, 90, 100)), "model-best.pth")
    found = find_checkpoints(tmp_path, "model-*.pth", first, last)
    assert [one.number for one in found.checkpoints] == numbers
    assert found.missing == missing


def test_gaps_are_written_as_people_do_and_many_are_cut() -> None:
    assert gaps_text([(3, 3), (7, 9)]) == "3, 7 to 9"
    assert gaps_text([(n, n) for n in range(0, 16, 2)]) == "0, 2, 4, 6, 8, 10 and 2 more gaps"


@pytest.mark.parametrize(
    ("pattern", "first", "last", "said"),
    [
        ("*.ckpt", None, None, "no file in .* matches"),
        ("model-*.pth", 5, 4, "goes from 5 to 4"),
        ("model-*.pth", 7, None, "has a number from 7; there are model-1.pth to model-2.pth"),
    ],
)
def test_where_nothing_is_left_the_line_says_what_there_is(
    tmp_path: Path, pattern: str, first: int | None, last: int | None, said: str
) -> None:
    _folder(tmp_path, "model-1.pth", "model-2.pth")
    with pytest.raises(UsageError, match=said):
        find_checkpoints(tmp_path, pattern, first, last)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be listed"):
        find_checkpoints(tmp_path / "nowhere", "*")
