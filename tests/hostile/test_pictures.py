"""Pictures that were made to harm: each costs its own row, in one line, and the good one beside is kept.

How each is refused is tested in tests/data; here, that a run as a whole gets over it.
"""

import gzip
import io
import os
import shutil
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from tests.hostile.conftest import Whycam

import whycam.runs.local as local
from whycam.data import find_images

BOMB = 200_000_000
MANY = 100_000
ZEROS = zlib.compress(bytes(BOMB), 9)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int, data: bytes, before: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _nifti(side: int) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((5000, 5000)))
    return file.getvalue()


SMALL = zlib.compress((b"\0" + bytes(3 * 32)) * 32)
FILES = {
    "side.png": (_png(50_000, zlib.compress(bytes(1000))), "50000 x 50000 = 2500000000 pixels"),
    "text.png": (_png(32, SMALL, _chunk(b"zTXt", b"Comment\0\0" + ZEROS)), "Decompressed data too large"),
    "profile.png": (_png(32, SMALL, _chunk(b"iCCP", b"icc\0\0" + ZEROS)), "Decompressed data too large"),
    "packed.png": (gzip.compress(bytes(BOMB)), "something else"),
    "packed.nii.gz": (gzip.compress(_nifti(4) + bytes(BOMB)), "unpacks to more than its header says"),
    "long.nii.gz": (gzip.compress(bytes(BOMB)), "something else"),
    "large.nii": (_nifti(30_000), "30000 x 30000 x 30000 voxels"),
    "arrays.png": (_npz(), "something else"),
    "page.html.png": (b"<script>alert(1)</script>", "something else"),
    "\x1b[31m\u202egnp.png": (b"x", "something else"),
    "two\nlines.png": (b"x", "something else"),
}


@pytest.fixture
def hostile(pictures: Path) -> Path:
    for name, (data, _) in FILES.items():
        (pictures / name).write_bytes(data)
    os.symlink("loop.png", pictures / "loop.png")
    os.symlink(pictures, pictures / "again")
    os.mkfifo(pictures / "pipe.png")
    return pictures


@pytest.mark.skipif(os.name != "posix", reason="names, links and pipes as POSIX has them")
def test_each_harmful_file_costs_its_own_row_and_little_memory(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], hostile: Path
) -> None:
    before = psutil.Process().memory_info().rss
    done = whycam("explain", "demo", hostile)
    assert psutil.Process().memory_info().rss - before < 2 * BOMB
    assert done.code == 1
    found = rows()
    good = found.pop("good.png")
    assert (good.error, good.overlay) == (None, "overlays/good.png.gradcam.png")
    errors = {row.error.split(": found ", 1)[1] for row in found.values()}
    assert all(len(row.error.splitlines()) == 1 and "; " in row.error for row in found.values())
    for _, text in FILES.values():
        assert any(text in error for error in errors), text
    assert len(found) == len(FILES) + 2
    assert any("symbolic links" in error for error in errors)
    assert any("named pipe" in error for error in errors)
    assert len(done.lines("failed")) == 10 + 1  # the first ten, and how many more


def test_an_image_bomb_behind_an_honest_header_is_not_unpacked(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path
) -> None:
    (pictures / "data.png").write_bytes(_png(32, ZEROS))
    started = time.monotonic()
    assert whycam("explain", "demo", pictures).code == 0
    assert time.monotonic() - started < 20
    assert set(rows()) == {"data.png", "good.png"}


def test_links_lead_where_the_user_put_them_and_each_file_is_explained_once(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "elsewhere.png")
    os.symlink("../elsewhere.png", pictures / "link.png")
    os.symlink("good.png", pictures / "same.png")
    assert whycam("explain", "demo", pictures).code == 0
    assert set(rows()) == {"good.png", "link.png"}


def test_a_file_that_vanishes_between_listing_and_reading_costs_its_own_row(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = pictures / "zz.png"
    Image.new("RGB", (40, 40), "red").save(gone)
    settle = local.settle_layer

    def and_remove(*arguments: Any) -> Any:
        gone.unlink()
        return settle(*arguments)

    listed = list(local.find_images([pictures]))
    monkeypatch.setattr(local, "find_images", lambda sources: iter(listed))
    monkeypatch.setattr(local, "settle_layer", and_remove)
    done = whycam("explain", "demo", pictures)
    assert done.code == 1
    assert rows()["good.png"].error is None
    (line,) = done.lines("failed")
    assert "zz.png: found no such file" in line


@pytest.fixture
def full_folder(pictures: Path) -> Iterator[Path]:
    """A folder beside a picture, with a hundred thousand hard links: files would take three times as long."""
    full = pictures / "x"
    full.mkdir()
    for start in (0, MANY // 2):  # file systems allow some 65000 links of a file
        (full / f"{start}.png").touch()
        for number in range(start + 1, start + MANY // 2):
            os.link(full / f"{start}.png", full / f"{number}.png")
    yield pictures
    shutil.rmtree(full)  # or pytest would keep three such folders


def test_a_folder_of_a_hundred_thousand_files_is_listed_when_its_turn_comes_and_in_little_memory(
    full_folder: Path, unchecked: None
) -> None:
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    try:
        items = find_images([full_folder])
        assert next(items).id == "good.png"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()  # it makes what follows several times slower
    assert [item.id for item in islice(items, 1000)] == [f"x/{number}.png" for number in range(1000)]
    assert psutil.Process().memory_info().rss - before < 1000 * MANY
