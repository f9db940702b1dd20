"""Killed or interrupted in the middle: what was finished stays, and the rest is done once."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

IMAGES = 40


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    draws = np.random.default_rng(1)
    for number in range(IMAGES):
        Image.fromarray(draws.integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "13.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def asked(factory: Any, many: Path) -> tuple[object, ...]:
    return ("explain", *factory, many, "--batch-size", 2, "-m", "gradcam", "-m", "random")


@pytest.fixture(scope="module")
def unbroken(whycam: Any, asked: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    assert whycam(*asked, "--out", out).code == 1
    return out


def stopped(whycam: Any, asked: Any, out: Path, stop: signal.Signals) -> Any:
    """Start a run and stop it when a few batches are committed; return what it left."""
    started = whycam.start(*asked, "--out", out, HOLD="8")
    deadline = time.monotonic() + 120
    while not (out / "rows").is_dir() or len(os.listdir(out / "rows")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(started.process, stop)
    return whycam.wait(started)


def columns(run: Path) -> list[dict[str, Any]]:
    table = pq.read_table(run / "explanations.parquet")
    return table.select([name for name in table.column_names if name != "commit"]).to_pylist()


def pictures(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.png")}


def test_a_killed_run_resumes_to_what_an_unbroken_one_gives(
    whycam: Any, asked: Any, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert stopped(whycam, asked, out, signal.SIGKILL).code == -signal.SIGKILL
    assert not (out / "explanations.parquet").exists()
    resumed = whycam(*asked, "--out", out, "--resume", "--json")
    assert resumed.code == 1
    assert 2 <= resumed.json["reused"] < IMAGES
    assert (resumed.json["images"], resumed.json["failed"]) == (IMAGES, 1)
    rows = columns(out)
    assert len(rows) == 2 * IMAGES
    assert len({(row["id"], row["method"]) for row in rows}) == 2 * IMAGES
    assert rows == columns(unbroken)
    assert pictures(out) == pictures(unbroken)
    left = {path.name for path in out.iterdir()}
    assert left == {"manifest.json", "explanations.parquet", "overlays", "pictures", "sheet.png"}


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    whycam: Any, asked: Any, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    interrupted = stopped(whycam, (*asked, "--json"), out, signal.SIGINT)
    assert interrupted.code == 130
    assert "Traceback" not in interrupted.err
    assert "is kept" in interrupted.error_line
    assert interrupted.error_line.endswith("--resume")
    assert interrupted.json["kind"] == "Interrupted"
    assert whycam(*asked, "--out", out, "--resume").code == 1
    assert columns(out) == columns(unbroken)
