"""Data sets in folders: whose images are whose, and the same split again from the same seed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from whycam.data.labelled import _counts, read_labelled
from whycam.errors import UsageError


def _fill(folder: Path, count: int, start: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(start, start + count):
        Image.new("RGB", (2, 2), (number % 256, 0, 0)).save(folder / f"img{number}.png")


def test_the_folders_own_splits_are_kept_and_classes_are_in_torchvisions_order(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for split in ("train", "validation", "test"):
        for name, count in (("b", 2), ("B", 1), ("10", 1), ("9", 1)):
            _fill(tmp_path / split / name, count)
    (tmp_path / "train" / ".hidden").mkdir()
    found = read_labelled(tmp_path)
    theirs = ImageFolder(str(tmp_path / "test"))
    assert list(found.class_names) == theirs.classes
    assert list(found.class_indices("test")) == [label for _, label in theirs.samples]
    assert [item.id for item in found.split("val")][:2] == ["validation/10/img0.png", "validation/9/img0.png"]
    assert (list(found.splits), found.drawn) == (["train", "val", "test"], False)


def test_one_folder_is_split_by_class_and_the_same_seed_splits_it_the_same(tmp_path: Path) -> None:
    for name, count in (("cat", 20), ("dog", 7), ("owl", 3)):
        _fill(tmp_path / "data" / name, count)
    found, again = read_labelled(tmp_path / "data", seed=3), read_labelled(tmp_path / "data", seed=3)
    assert found == again
    assert found.drawn
    sizes = {split: [found.class_indices(split).count(c) for c in range(3)] for split in found.splits}
    assert sizes == {"train": [14, 5, 1], "val": [3, 1, 1], "test": [3, 1, 1]}
    ids = [item.id for items in found.splits.values() for item in items]
    assert len(set(ids)) == len(ids) == 30
    assert read_labelled(tmp_path / "data", seed=4).splits != found.splits


def test_a_split_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    for place in ("one", "two"):
        _fill(tmp_path / place / "cat", 12)
    first, second = (read_labelled(tmp_path / place) for place in ("one", "two"))
    assert [item.id for item in first.split("test")] == [item.id for item in second.split("test")]


@given(total=st.integers(1, 400), cut=st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)))
def test_every_image_goes_somewhere_and_every_share_gets_one_where_there_are_enough(
    total: int, cut: tuple[int, int, int]
) -> None:
    shares = [part / sum(cut) for part in cut]
    counts = _counts(total, shares)
    assert sum(counts) == total
    assert all(count == 0 for count, share in zip(counts, shares, strict=True) if share == 0)
    if total >= 3:
        assert all(count > 0 for count, share in zip(counts, shares, strict=True) if share > 0)
        assert all(abs(count - total * share) < 2 for count, share in zip(counts, shares, strict=True))


def test_a_split_alone_has_its_own_classes(tmp_path: Path) -> None:
    _fill(tmp_path / "test" / "cat", 2)
    found = read_labelled(tmp_path)
    assert (found.class_names, list(found.splits)) == (("cat",), ["test"])
    with pytest.raises(UsageError, match="no split 'val'; expected one of test"):
        found.split("val")


def test_what_is_no_data_set_is_refused_in_a_line_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        read_labelled(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no folder; expected a folder a class"):
        read_labelled(tmp_path)
    _fill(tmp_path / "train" / "cat", 1)
    _fill(tmp_path / "test" / "dog", 1)
    with pytest.raises(UsageError, match="class 'dog' in 'test' that 'train' lacks"):
        read_labelled(tmp_path)
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(UsageError, match=r"class folder '.*dog' holds no image"):
        read_labelled(tmp_path)
    _fill(tmp_path / "valid" / "cat", 1)
    _fill(tmp_path / "val" / "cat", 1)
    with pytest.raises(UsageError, match="both 'val' and 'valid'"):
        read_labelled(tmp_path)
    for shares in ((0.5, 0.5), (0.5, 0.6, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)):
        with pytest.raises(UsageError, match="sum to 1"):
            read_labelled(tmp_path, shares=shares)
