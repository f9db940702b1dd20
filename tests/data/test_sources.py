import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from whycam.data import ImageItem, find_images, read_image
from whycam.errors import ImageError, UsageError

needs_links = pytest.mark.skipif(os.name != "posix", reason="links and bytes in names as POSIX has them")


def _tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _ids(*sources: str | Path) -> list[str]:
    return [item.id for item in find_images(sources)]


def _refusal(*sources: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        find_images(sources)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert "found " in line
    assert ", expected " in line
    assert "; " in line
    return line


def test_an_item_is_a_frozen_value() -> None:
    item = ImageItem("a.png", Path("a.png"))
    assert (item.label, item.error) == (None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.id = "b.png"


def test_a_named_file_is_tried_whatever_its_suffix(here: Path) -> None:
    _tree(here, "scan.dat", "noext", ".hidden.png", "sub/a.png")
    items = list(find_images(["scan.dat", Path("noext"), ".hidden.png", "./sub//a.png"]))
    assert [item.id for item in items] == ["scan.dat", "noext", ".hidden.png", "sub/a.png"]
    assert all(item.path.exists() for item in items)


def test_of_a_folder_only_pictures_come_in_natural_order_without_labels(here: Path) -> None:
    _tree(
        here / "set",
        "cat/img10.png",
        "cat/img2.JPG",
        "dog/a.tiff",
        "notes.txt",
        "list.csv",
        ".x.png",
        "dog/b",
    )
    items = list(find_images(["set"]))
    assert [item.id for item in items] == ["cat/img2.JPG", "cat/img10.png", "dog/a.tiff"]
    assert [item.path for item in items] == [Path("set", item.id) for item in items]
    assert {item.label for item in items} == {None}


def test_ids_are_unique_when_several_folders_hold_the_same_names(here: Path) -> None:
    _tree(here, "a/x.png", "b/x.png")
    assert _ids("a", "b/") == ["a/x.png", "b/x.png"]


def test_an_id_does_not_depend_on_what_else_is_there(here: Path) -> None:
    _tree(here, "b/x.png")
    (here / "a").mkdir()
    _tree(here, "a/y.png")
    before = _ids("a", "b")
    _tree(here, "a/x.png")
    assert set(before) < set(_ids("a", "b"))


@pytest.mark.parametrize(
    ("glob", "ids"),
    [
        ("set/*.png", ["set/1.png", "set/2.png", "set/10.png"]),
        ("set/*", ["set/1.png", "set/2.png", "set/10.png", "set/a/1.jpg", "set/a/b/3.png"]),
        ("set/**/*.jpg", ["set/a/1.jpg"]),
        ("set/**", ["set/1.png", "set/2.png", "set/10.png", "set/a/1.jpg", "set/a/b/3.png"]),
        ("**/[0-9].png", ["set/1.png", "set/2.png", "set/a/b/3.png"]),
        ("set/*.dat", ["set/x.dat"]),
        ("*/[a]", ["set/a/1.jpg", "set/a/b/3.png"]),
    ],
)
def test_globs_find_pictures_and_search_the_folders_they_match(glob: str, ids: list[str], here: Path) -> None:
    _tree(
        here,
        *("set/1.png", "set/2.png", "set/10.png", "set/a/1.jpg", "set/a/b/3.png", "set/x.dat", "set/n.txt"),
    )
    assert _ids(glob) == ids
    assert _ids(here / glob) == [f"{here.as_posix()}/{name}" for name in ids]


def test_a_glob_that_spells_out_csv_finds_lists(here: Path) -> None:
    (here / "one.csv").write_text("path,label\na.png,cat\n")
    (here / "two.csv").write_text("path,label\nb.png,dog\n")
    assert [(item.id, item.label) for item in find_images(["*.csv"])] == [("a.png", "cat"), ("b.png", "dog")]


def test_a_name_with_wildcards_that_exists_is_that_file(here: Path) -> None:
    _tree(here, "img[1].png", "img1.png", "what?.png", "dir*/x.png")
    assert _ids("img[1].png") == ["img[1].png"]
    assert _ids("what?.png") == ["what?.png"]
    assert _ids("dir*") == ["x.png"]
    assert _ids("img[[]1].png") == ["img[1].png"]


def test_names_in_any_script_and_with_spaces_are_kept(here: Path) -> None:
    _tree(here, "图 片/猫 1.png", "图 片/猫 2.png", 'é, "q".png')
    assert _ids(".") == ['é, "q".png', "图 片/猫 1.png", "图 片/猫 2.png"]
    assert _ids("图 片/*.png") == ["图 片/猫 1.png", "图 片/猫 2.png"]


@needs_links
def test_ids_of_names_that_are_not_text_are_printable_and_unique(here: Path) -> None:
    for name in (b"caf\xe9.png", b"caf\\xe9.png", b"two\nlines.png"):
        (here / os.fsdecode(name)).touch()
    items = list(find_images(["."]))
    assert sorted(item.id for item in items) == ["caf\\xe9.png", "caf\\xe9.png (2)", "two\\nlines.png"]
    assert all(item.path.exists() for item in items)
    assert _ids(os.fsdecode(b"caf\xe9.png")) == ["caf\\xe9.png"]


def test_a_list_gives_paths_from_its_own_folder_and_labels(here: Path) -> None:
    lists = here / "lists"
    lists.mkdir()
    absolute = here / "abs.png"
    (lists / "test.CSV").write_text(f"path,label\n../pics/a.png,cat\n{absolute},dog\nb.png,\n")
    items = list(find_images(["lists/test.CSV"]))
    assert [(item.id, item.label) for item in items] == [
        ("../pics/a.png", "cat"),
        (absolute.as_posix(), "dog"),
        ("b.png", None),
    ]
    assert [item.path for item in items] == [Path("lists/../pics/a.png"), absolute, Path("lists/b.png")]
    assert [item.error for item in items] == [None] * 3
    _tree(here, "c.png")
    assert _ids("c.png", "lists/test.CSV") == [
        "c.png",
        "lists/../pics/a.png",
        absolute.as_posix(),
        "lists/b.png",
    ]


def test_a_row_without_a_picture_is_an_item_with_an_error(here: Path) -> None:
    (here / "list.csv").write_text("path,label\na.png,cat\n,dog\nb.png\n")
    first, broken, last = find_images(["list.csv"])
    assert (first.id, last.id) == ("a.png", "b.png")
    assert broken.id == "list.csv:3"
    assert broken.path == Path("list.csv")
    assert broken.error == "found a row with an empty path, expected a picture's path"


def test_a_listed_file_that_is_missing_is_left_to_the_reader(here: Path) -> None:
    (here / "list.csv").write_text("path\nmissing.png\n")
    (item,) = find_images(["list.csv"])
    assert item.error is None
    with pytest.raises(ImageError, match="no such file"):
        read_image(item.path)


def test_a_file_reached_twice_comes_once_with_its_first_mention(here: Path) -> None:
    _tree(here, "set/a.png", "set/b.png")
    (here / "list.csv").write_text("path,label\nset/b.png,cat\nset/../set/b.png,dog\nset/a.png,dog\n")
    assert _ids("set/b.png", "set", "set/*.png", here / "set", "./set/a.png") == ["set/b.png", "set/a.png"]
    items = list(find_images(["list.csv", "set"]))
    assert [(item.id, item.label) for item in items] == [("set/b.png", "cat"), ("set/a.png", "dog")]


@needs_links
def test_a_file_reached_through_links_comes_once(here: Path) -> None:
    _tree(here, "set/a.png", "set/sub/b.png")
    (here / "set" / "c.png").symlink_to("a.png")
    (here / "set" / "loop").symlink_to("..")
    (here / "other").symlink_to("set")
    assert _ids("set", "other", "other/sub") == ["set/a.png", "set/sub/b.png"]


@needs_links
def test_pipes_and_dead_links_are_left_to_the_reader(here: Path) -> None:
    (here / "set").mkdir()
    os.mkfifo(here / "set" / "pipe.png")
    os.mkfifo(here / "pipe.csv")
    (here / "set" / "dead.png").symlink_to("nowhere")
    items = list(find_images(["set", "pipe.csv"]))
    assert [item.id for item in items] == ["set/dead.png", "set/pipe.png", "pipe.csv"]
    for item in items:
        with pytest.raises(ImageError):
            read_image(item.path)


def test_a_folder_below_that_cannot_be_listed_is_an_item_with_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(here, "set/a/1.png", "set/b/1.png")
    scandir = os.scandir

    def locked(folder: str) -> object:
        if os.path.basename(folder) in ("a", "set2"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    broken, good = find_images(["set"])
    assert (broken.id, broken.path) == ("a", Path("set/a"))
    assert broken.error.startswith(
        "found a folder that cannot be listed (Permission denied), expected pictures"
    )
    assert good.id == "b/1.png"
    (here / "set2").mkdir()
    assert "cannot be opened (Permission denied)" in _refusal("set2")


def test_sources_that_give_nothing_are_wrong_usage_at_the_call(here: Path) -> None:
    _tree(here, "a.png", "empty/notes.txt")
    (here / "rows.csv").write_text("path\n")
    (here / "nopath.csv").write_text("file,label\na.png,cat\n")
    assert _refusal().startswith("found no source")
    assert _refusal("a.png", "missing.png").startswith("'missing.png': found no such file or folder")
    assert _refusal("a.png", "").startswith("'': found no such file or folder")
    assert _refusal("a\0b").startswith("'a\\x00b': found no such file")
    assert _refusal("a.png", "empty").startswith("'empty': found no pictures in it")
    assert _refusal("a.png", "empty/*").startswith("'empty/*': found no pictures in it")
    assert _refusal("nowhere/*.png").startswith("'nowhere/*.png': found no pictures in it")
    assert "add a row" in _refusal("rows.csv")
    assert _refusal("nopath.csv").startswith(
        "nopath.csv: found the columns 'file', 'label', expected one named 'path'"
    )


def test_a_single_source_that_is_not_in_a_sequence_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="found the single source 'photos', expected a sequence"):
        find_images("photos")


def test_a_list_that_goes_away_during_the_run_is_one_line(here: Path) -> None:
    table = here / "list.csv"
    table.write_text("path\na.png\n")
    items = find_images(["list.csv"])
    table.unlink()
    with pytest.raises(UsageError, match=r"^'list.csv': found something that cannot be opened"):
        next(items)


def test_only_what_is_asked_for_is_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(here, *(f"set/{folder}/{file}.png" for folder in range(20) for file in range(5)))
    listed, scandir = [], os.scandir

    def counted(folder: str) -> object:
        listed.append(os.path.basename(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counted)
    items = find_images(["set"])
    assert isinstance(items, Iterator)
    assert [next(items).id for _ in range(6)] == [*(f"0/{file}.png" for file in range(5)), "1/0.png"]
    assert set(listed) == {"set", "0", "1"}


def test_two_calls_give_the_same_items(here: Path) -> None:
    _tree(here, *(f"set/{name}.png" for name in ("b", "A", "a1", "a01", "a10", "ä", "Z9", "z10")))
    assert list(find_images(["set"])) == list(find_images(["set"]))
    assert _ids("set") == ["A.png", "a01.png", "a1.png", "a10.png", "b.png", "Z9.png", "z10.png", "ä.png"]


def test_a_page_is_named_after_the_file_or_in_a_column(here: Path) -> None:
    _tree(here, "a.tif", "b.png", "c#page=7.tif")
    (here / "list.csv").write_text("path,page\na.tif,1\na.tif,0\na.tif,\na.tif,1\na.tif,x\na.tif,-1\n")
    items = list(find_images(["list.csv", "a.tif#page=1", "a.tif", "b.png#page=0", "c#page=7.tif"]))
    assert [item.id for item in items if not item.error] == [
        "a.tif#page=1",
        "a.tif#page=0",
        "a.tif",
        "b.png#page=0",
        "c#page=7.tif",
    ]
    assert items[0].path == Path("a.tif#page=1")
    first, second = (item.error for item in items if item.error)
    assert first == "found the page 'x', expected a number from 0, or nothing for the first"
    assert second == "found the page '-1', expected a number from 0, or nothing for the first"
    assert "no such file" in _refusal("missing.tif#page=1")
    assert "no such file" in _refusal("missing.tif#page=-1")
    for odd in ("-1", "", "1.5", "first"):
        assert f"the page {odd!r}" in _refusal(f"a.tif#page={odd}")
        assert "pages count from 0" in _refusal(f"a.tif#page={odd}")


def test_medical_suffixes_are_found_in_folders_and_double_ones_as_a_whole(here: Path) -> None:
    _tree(here / "set", "a.dcm", "b.NII", "c.nii.gz", "d.tar.gz", "e.gz", "f.btf", "g")
    assert _ids("set") == ["a.dcm", "b.NII", "c.nii.gz", "f.btf"]
    assert _ids("set/*.nii.gz") == ["set/c.nii.gz"]
    assert _ids("set/g") == ["set/g"]


def test_a_page_reached_through_a_link_comes_once(here: Path) -> None:
    _tree(here, "a.tif")
    os.symlink("a.tif", here / "link.tif")
    assert _ids("a.tif#page=1", "link.tif#page=1", "link.tif#page=2") == ["a.tif#page=1", "link.tif#page=2"]


def test_a_lists_id_column_names_its_pictures_and_an_empty_one_leaves_the_path(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,id\na.png,first one\nb.png,\nc.png,first one\n", encoding="utf-8")
    assert [item.id for item in find_images([table])] == ["first one", "b.png", "first one (2)"]
