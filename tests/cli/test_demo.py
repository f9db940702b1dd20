"""The demo says by numbers that the methods find the digits and the controls don't."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from whycam import read_run
from whycam.cli.demo import CONTROLS, SHOWN


@pytest.fixture(scope="module")
def demo(whycam: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("demo") / "run"
    return whycam("demo", "--out", out), out


def test_every_method_beats_every_control_in_the_printed_table(demo: Any) -> None:
    done, _ = demo
    assert done.code == 0, done.err
    shares = {line.split()[0]: line.split() for line in done.out.splitlines() if line}
    for method in SHOWN:
        for control in (*CONTROLS, "uniform"):
            assert float(shares[method][1]) > float(shares[control][1]) + 0.05
    assert all(shares[name][5] == "24" for name in (*SHOWN, *CONTROLS))


def test_the_accuracy_and_the_places_of_the_pictures_are_said(demo: Any) -> None:
    done, out = demo
    assert done.out.startswith("the demo network is right on ")
    assert f"  sheet     {out / 'sheet.png'}" in done.out.splitlines()
    assert f"  pictures  {out / 'overlays'}" in done.out.splitlines()
    assert len(list((out / "overlays").rglob("*.png"))) == 24 * (len(SHOWN) + len(CONTROLS))
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 8 * 200
    assert done.err == ""


def test_a_second_call_reads_the_finished_run(demo: Any, whycam: Any) -> None:
    done, out = demo
    again = whycam("demo", "--out", out, "--json").json
    assert (again["images"], again["reused"], again["failed"]) == (24, 24, 0)
    assert again["accuracy"] > 0.9
    printed = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if line}
    for share in again["mass_on_the_digit"]:
        assert f"{share['mean']:.2f}" == printed[share["method"]]
        assert share["low"] <= share["mean"] <= share["high"]


def test_a_second_call_says_that_its_numbers_were_made_earlier_and_by_what(
    demo: Any, whycam: Any, tmp_path: Path
) -> None:
    done, out = demo
    assert "made earlier" not in done.out
    shutil.copytree(out, tmp_path / "run")
    again = whycam("demo", "--out", tmp_path / "run")
    made = read_run(out).manifest.created
    first = f"all read from {str(tmp_path / 'run')!r}, made earlier ({made}); another --out makes them anew"
    assert again.out.splitlines()[:2] == [first, ""]
    assert again.out.endswith(done.out.replace(str(out), str(tmp_path / "run")))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    now = manifest["versions"]["whycam"]
    manifest["versions"]["whycam"] = "0.0.1"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    other = whycam("demo", "--out", tmp_path / "run")
    assert other.out.splitlines()[:3] == [first, f"made with whycam 0.0.1 (now {now})", ""]


def test_the_printed_share_is_that_of_the_masks(demo: Any) -> None:
    import numpy as np

    from whycam.demo import demo_images, demo_masks

    done, out = demo
    masks = {
        image.name: np.array(Image.open(mask))
        for image, mask in zip(demo_images(), demo_masks(), strict=True)
    }
    edges = [row for row in read_run(out).rows() if row.method == "edges"]
    # the edges are at the picture's own resolution: their share is a plain sum
    shares = [row.map[masks[Path(row.id).name]].sum() / row.map.sum() for row in edges if row.map is not None]
    assert len(shares) == 24
    assert f"edges     {np.mean(shares):.2f}  " in done.out
