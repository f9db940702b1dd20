import inspect
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whycam.data.walking import natural_key, walk

needs_links = pytest.mark.skipif(os.name != "posix", reason="links without special rights")


def _tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def _walked(folder: Path, pattern: str = "**") -> list[str]:
    return [found.relative for found in walk(str(folder), tuple(pattern.split("/")))]


def test_names_sort_as_people_count() -> None:
    ordered = [
        "2.png",
        "10.png",
        "a.png",
        "IMG1.png",
        "img2.png",
        "img002b.png",
        "img10.png",
        "img10a3",
        "img10a20",
    ]
    shuffled = random.Random(3).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


@given(st.lists(st.text("aB019.é²", max_size=6), unique=True), st.randoms())
def test_the_order_is_the_same_however_the_names_come(names: list[str], chance: random.Random) -> None:
    shuffled = chance.sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


def test_folders_stand_where_their_name_sorts(tmp_path: Path) -> None:
    _tree(tmp_path, "c10/x.png", "c2/b/1.png", "c2/a.png", "c2/c.png", "c3.png", "b.png")
    assert _walked(tmp_path) == ["b.png", "c2/a.png", "c2/b/1.png", "c2/c.png", "c3.png", "c10/x.png"]


def test_hidden_names_are_skipped_unless_the_pattern_names_them(tmp_path: Path) -> None:
    _tree(tmp_path, ".git/a.png", "._a.png", "a.png", "b/.c/a.png")
    assert _walked(tmp_path) == ["a.png"]
    assert _walked(tmp_path, "*") == ["a.png"]
    assert _walked(tmp_path, ".*") == ["._a.png"]
    assert _walked(tmp_path, "**/.c/*.png") == ["b/.c/a.png"]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.png", ["1.png", "2.png", "10.png"]),
        ("?.png", ["1.png", "2.png"]),
        ("[!1]*.png", ["2.png"]),
        ("*/*.png", ["a/1.png", "b/1.png"]),
        ("a/**", ["a/1.png", "a/c/1.png", "a/c/d/2.png", "a/e.txt"]),
        ("**/1.png", ["1.png", "a/1.png", "a/c/1.png", "b/1.png"]),
        ("**/c/**/*.png", ["a/c/1.png", "a/c/d/2.png"]),
        ("**/**/d/*", ["a/c/d/2.png"]),
        ("a", []),
        ("*/nothing/*", []),
    ],
)
def test_patterns_match_name_by_name(pattern: str, matches: list[str], tmp_path: Path) -> None:
    _tree(
        tmp_path, *("1.png", "2.png", "10.png", "a/1.png", "a/c/1.png", "a/c/d/2.png", "a/e.txt", "b/1.png")
    )
    assert _walked(tmp_path, pattern) == matches


def _matches_by_hand(names: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_matches_by_hand(names[skipped:], pattern[1:]) for skipped in range(len(names) + 1))
    return bool(names) and pattern[0] in (names[0], "*") and _matches_by_hand(names[1:], pattern[1:])


@given(pattern=st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=5))
def test_any_pattern_matches_what_plain_recursion_matches(
    pattern: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "patterns"
    files = [f"{first}{second}{last}" for first in ("", "a/", "b/") for second in ("", "a/") for last in "cd"]
    files += ["a/b/b/a/c"]
    if not root.exists():
        _tree(root, *files)
    expected = {name for name in files if _matches_by_hand(name.split("/"), pattern)}
    got = _walked(root, "/".join(pattern))
    assert len(got) == len(set(got))
    assert set(got) == expected


def test_a_folder_is_listed_only_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "a/1.png", "b/1.png", "c/1.png", "only/other.txt")
    listed, scandir = [], os.scandir

    def counted(folder: str) -> object:
        listed.append(os.path.basename(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counted)
    found = walk(str(tmp_path))
    assert listed == []
    assert next(found).relative == "a/1.png"
    assert listed == [tmp_path.name, "a"]
    listed.clear()
    assert _walked(tmp_path, "a/*") == ["a/1.png"]
    assert listed == [tmp_path.name, "a"]  # what cannot match is not even listed


@needs_links
def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    _tree(tmp_path, "a/1.png", "a/b/2.png")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "here").symlink_to(".")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "z").symlink_to("a")
    assert _walked(tmp_path) == ["a/1.png", "a/b/2.png", "itself"]
    assert "a/b/up/a/1.png" not in _walked(tmp_path, "**/1.png")


@needs_links
def test_links_that_multiply_the_ways_do_not_multiply_the_work(tmp_path: Path) -> None:
    for level in range(40):
        (tmp_path / f"d{level}").mkdir()
        (tmp_path / f"d{level}" / "left").symlink_to(tmp_path / f"d{level + 1}")
        (tmp_path / f"d{level}" / "right").symlink_to(tmp_path / f"d{level + 1}")
    _tree(tmp_path, "d40/x.png")
    assert len(_walked(tmp_path / "d0")) == 1
    assert len(_walked(tmp_path / "d0", "**/x*.png")) == 1


def test_deep_folders_need_no_recursion(tmp_path: Path) -> None:
    deep = "/".join("d" * 300)
    _tree(tmp_path, f"{deep}/x.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert _walked(tmp_path) == [f"{deep}/x.png"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_cannot_be_listed_is_an_entry_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(tmp_path, "a/1.png", "b/1.png")
    scandir = os.scandir

    def locked(folder: str) -> object:
        if os.path.basename(folder) == "a":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    first, second = walk(str(tmp_path))
    assert first.relative == "a"
    assert first.error == "a folder that cannot be listed (Permission denied)"
    assert (second.relative, second.error) == ("b/1.png", None)
    with pytest.raises(PermissionError):
        next(walk(str(tmp_path / "a")))
