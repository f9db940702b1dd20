"""Disks that fill up in the middle. Every other way to fail at writing: tests/store, tests/cli."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.hostile.conftest import Whycam

resource = pytest.importorskip("resource", reason="a limit on the size of files, as POSIX has it")


def test_a_disk_that_is_full_in_the_middle_is_one_line_and_the_run_goes_on_later(
    whycam: Whycam, rows: Callable[..., dict[str, Any]], pictures: Path
) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "large.png")
    Image.new("RGB", (40, 40), "red").save(pictures / "more.png")
    call = ("explain", "demo", pictures, "--batch-size", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # the large overlay alone is above it
    try:
        done = whycam(*call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 2
    (line,) = done.lines("error")
    assert "--resume" in line
    kept = rows()
    assert set(kept) == {"good.png"}
    assert kept["good.png"].error is None
    again = whycam(*call, "--resume")
    assert again.code == 0, again.err
    assert "1 of 3 were finished before" in again.out
    assert set(rows()) == {"good.png", "large.png", "more.png"}
