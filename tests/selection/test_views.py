"""Images are read once, kept in memory or on the disk, the same in both, and gone at the end."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.selection.conftest import PREPROCESSING

from whycam.data import find_images, read_image
from whycam.errors import RunError, UsageError
from whycam.models import Preprocessing
from whycam.selection.views import Views, views_of


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    draws = np.random.default_rng(2)
    for number in range(9):
        Image.fromarray(draws.integers(0, 256, (33 + number, 40, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:100])
    return folder


def keep(pictures: Path, memory: int = 2**30, **changed: Any) -> AbstractContextManager[Views]:
    usual: dict[str, Any] = {
        "preprocessing": PREPROCESSING,
        "memory": memory,
        "scratch": pictures.parent,
        "max_pixels": 10**6,
        "progress": lambda done, planned: None,
    }
    return views_of(list(find_images([pictures])), **{**usual, **changed})


def deleted_files() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.endswith("(deleted)"):
            yield target


def test_views_are_the_preprocessed_pictures_in_order_without_the_unreadable_ones(pictures: Path) -> None:
    with keep(pictures) as views:
        expected = [
            PREPROCESSING.apply(read_image(pictures / f"{number}.png").image)[0]
            for number in range(9)
            if number != 4
        ]
        assert torch.equal(views.images, torch.stack(expected))
        assert views.images.is_contiguous(memory_format=torch.channels_last)
        assert views.places == (0, 1, 2, 3, 5, 6, 7, 8)
        ((place, reason),) = views.unreadable
        assert place == 4
        assert "4.png" in reason
        assert views.kept_in == "memory"


def test_the_bound_decides_and_on_the_disk_they_are_the_same(pictures: Path) -> None:
    size = 9 * 3 * 32 * 32 * 4
    with keep(pictures, size) as inside, keep(pictures, size - 1) as outside:
        assert (inside.kept_in, outside.kept_in) == ("memory", "disk")
        assert torch.equal(inside.images, outside.images)
        assert outside.images.is_contiguous(memory_format=torch.channels_last)
        assert (inside.places, inside.digest) == (outside.places, outside.digest)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at a process's open files in Linux")
def test_the_file_has_no_name_and_is_closed_also_after_an_error(pictures: Path) -> None:
    before = set(os.listdir(pictures.parent))
    mine = f"{pictures.parent}/"

    def fail() -> None:
        with keep(pictures, 0):
            assert [name for name in deleted_files() if name.startswith(mine)]
            assert set(os.listdir(pictures.parent)) == before
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert not [name for name in deleted_files() if name.startswith(mine)]
    assert set(os.listdir(pictures.parent)) == before


def test_a_full_disk_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115  # closed by what uses it
    monkeypatch.setattr("whycam.selection.views.tempfile.TemporaryFile", lambda dir: full)
    with (
        pytest.raises(RunError, match="cannot keep the decoded images on the disk: No space left"),
        keep(pictures, 0),
    ):
        pass
    assert full.closed


def test_the_digest_is_of_the_contents_and_their_order(pictures: Path) -> None:
    with keep(pictures) as views:
        before = views.digest
    (pictures / "1.png").rename(pictures / "x.png")
    (pictures / "2.png").rename(pictures / "1.png")
    (pictures / "x.png").rename(pictures / "2.png")
    with keep(pictures) as views:
        assert views.digest != before


def test_views_of_different_sizes_are_refused(pictures: Path) -> None:
    bounded = Preprocessing.for_size((32, 48), (0.5,) * 3, (0.5,) * 3, resize="bounded")
    with (
        pytest.raises(UsageError, match="gives each image another size"),
        keep(pictures, preprocessing=bounded),
    ):
        pass


def test_no_readable_image_is_refused_with_the_first_reason(pictures: Path) -> None:
    for file in pictures.iterdir():
        file.write_bytes(b"")
    with (
        pytest.raises(UsageError, match=r"none of the split's 9 images can be read; the first: .*0.png"),
        keep(pictures),
    ):
        pass
