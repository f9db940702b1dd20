"""A patient's name gets no further than the file it is in, also when everything goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.data.conftest import save_dicom as save_dicom
from tests.hostile.conftest import Whycam


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_run_over_dicom_files_writes_and_says_nothing_of_the_patient(
    debug: str,
    whycam: Whycam,
    rows: Callable[..., dict[str, Any]],
    pictures: Path,
    tmp_path: Path,
    save_dicom: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHYCAM_DEBUG", debug)
    ramp = np.arange(1024, dtype=np.int16).reshape(32, 32)
    for name, elements in (("whole", {}), ("broken", {"Rows": 99}), ("odd", {"BitsStored": 99})):
        save_dicom(ramp, **elements).rename(pictures / f"{name}.dcm")
    done = whycam("explain", "demo", pictures)
    assert done.code == 1
    found = rows()
    assert {name for name, row in found.items() if row.error is None} >= {"good.png", "whole.dcm"}
    assert found["broken.dcm"].error is not None
    left = [file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert b"SENTINEL" not in b"".join([*left, done.out.encode(), done.err.encode()])


def test_further_pages_are_told_of_once_and_a_page_can_be_named(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path
) -> None:
    pages = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    for name in ("a", "b"):
        tifffile.imwrite(pictures / f"{name}.tif", pages, photometric="minisblack")
    done = whycam("explain", "demo", pictures)
    assert done.code == 0
    (line,) = done.lines("warning")
    assert line.startswith("warning: of 2 images only the first of several pages is seen")
    named = whycam("explain", "demo", pictures / "a.tif#page=2", "--out", "other")
    assert (named.code, named.err) == (0, "")
    (row,) = rows("other").values()
    assert row.path.endswith("a.tif#page=2")
    assert (pictures.parent / "other" / "sheet.png").is_file()
