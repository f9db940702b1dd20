"""The page's files: what is written where, whole, the same each time."""

import base64
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tests.reports.browser import jpeg, manifest, ramp, row, without_checks, write_run

from whycam.errors import MissingExtraError, RunError, UsageError
from whycam.reports.page import MOST_IN_ONE_FILE, write_page
from whycam.reports.page.cells import cells_of, input_size
from whycam.reports.page.pictures import page_picture
from whycam.store import Run, read_run

MANY = MOST_IN_ONE_FILE + 1


def run_of(folder: Path, images: int, shades: int = 100) -> Run:
    """Write a run whose maps and pictures are all different."""
    pictures = {f"pictures/{index}.jpg": jpeg(index % shades) for index in range(images)}
    rows = [row(index, map=ramp() + index, picture=f"pictures/{index}.jpg") for index in range(images)]
    return write_run(folder, rows, pictures=pictures)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with without_checks():
        return run_of(tmp_path_factory.mktemp("many") / "run", MANY)


@pytest.mark.usefixtures("unchecked")
def test_few_images_are_one_file_and_many_have_a_folder(tmp_path: Path, many: Run) -> None:
    few = write_page([run_of(tmp_path / "run", 3)], tmp_path / "few")
    assert (few.data, few.images, few.rows) == (None, 3, 3)
    assert set(contents(tmp_path / "few")) == {"report.html"}
    steps: list[tuple[int, int]] = []
    result = write_page([many], tmp_path / "many", progress=lambda done, all: steps.append((done, all)))
    assert result.data == tmp_path / "many" / "report"
    assert steps[0] == (0, MANY)
    assert steps[-1] == (MANY, MANY)
    files = contents(tmp_path / "many")
    assert b"data:image/jpeg" not in files["report.html"]
    assert sum(name.endswith(".js") for name in files) >= 1
    assert not re.search(
        rb"https?://", b"".join(content for name, content in files.items() if ".jpg" not in name)
    )


@pytest.mark.usefixtures("unchecked")
def test_the_same_run_gives_the_same_bytes_and_leaves_no_stale_file(tmp_path: Path, many: Run) -> None:
    write_page([many], tmp_path)
    first = contents(tmp_path)
    (tmp_path / "report" / "notes.txt").write_text("mine")
    broken = next((tmp_path / "report").glob("*.js"))
    broken.write_bytes(bytes(broken.stat().st_size))  # as a disk leaves it that was cut off from power
    write_page([many], tmp_path)
    assert contents(tmp_path) == {**first, "report/notes.txt": b"mine"}
    write_page([run_of(tmp_path / "run", 2)], tmp_path)
    left = {name for name in contents(tmp_path) if not name.startswith("run/")}
    assert left == {"report.html", "report/notes.txt"}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from whycam import read_run
    from whycam.reports.page import write_page

    def progress(done, planned):
        if done > planned // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    write_page([read_run(sys.argv[1])], Path(sys.argv[2]), progress=progress)
"""


@pytest.mark.usefixtures("unchecked")
def test_a_kill_leaves_the_earlier_page_whole_and_the_next_call_completes(tmp_path: Path, many: Run) -> None:
    out = tmp_path / "out"
    write_page([many], out)
    whole = contents(out)
    other = tmp_path / "other"
    changed = run_of(other, MANY, shades=200)
    code = textwrap.dedent(KILLED)
    killed = subprocess.run([sys.executable, "-c", code, str(other), str(out)], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    found = contents(out)
    assert {name: found.get(name) for name in whole} == whole
    assert len(found) > len(whole)
    write_page([changed], out)
    write_page([changed], tmp_path / "uninterrupted")
    assert contents(out) == contents(tmp_path / "uninterrupted")


def test_a_run_with_a_target_an_image_is_one_column(tmp_path: Path) -> None:
    rows = [row(index, target=f"class {index}") for index in range(3)]
    one = write_page([write_run(tmp_path / "one", rows)], tmp_path)
    assert one.page.read_text().count('"title":"gradcam"') == 1
    rows += [row(0, target="class 9")]
    several = write_page([write_run(tmp_path / "several", rows)], tmp_path)
    assert '"title":"gradcam \\u00b7 class 9"' in several.page.read_text()


def test_maps_are_bytes_of_their_evidence(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.0], [0.5, 2.0]], np.float32)
    rows = [
        row(0, map=values),
        row(1, map=np.full((2, 2), 0.25, np.float32)),
        row(2, map=np.full((2, 2), np.nan, np.float32), error="NaN"),
        row(3, map=np.ones(5, np.float32)),
        row(4, map=np.ones((1030, 4), np.float32)),
    ]
    peaked, uniform, failed, signal_, large = cells_of(rows, None)
    assert list(base64.b64decode(peaked["map"])) == [0, 0, 64, 255]
    assert (peaked["top"], peaked["peak"], peaked["box"]) == (2.0, 2.0, [0.0, 0.0, 1.0, 1.0])
    assert (uniform["peak"], uniform["uniform"]) == (1.0, True)
    assert "map" not in failed
    assert signal_["grid"] == [1, 5]
    assert (large["grid"], large["native"]) == ([512, 4], [1030, 4])
    assert cells_of(rows[:1], (32, 32))[0]["peak"] == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [
        ({"resize": "shorter", "size": [32, 48]}, (32, 48)),
        ({"resize": "bounded", "size": [32, 48]}, None),
        ({"size": "large"}, None),
        ({}, None),
    ],
)
def test_the_models_input_size_is_read_where_it_is_one(
    preprocessing: dict[str, object], size: tuple[int, int] | None
) -> None:
    assert input_size(manifest(preprocessing=preprocessing)) == size


def test_pictures_outside_the_run_or_broken_are_missing(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    run = tmp_path / "run"
    run.mkdir()
    (run / "broken.jpg").write_bytes(jpeg()[:60])
    (run / "large.jpg").write_bytes(jpeg(90, (600, 1200)))
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "broken.jpg", "absent.jpg", "a\0.jpg"):
        assert page_picture(run, name) is None
    large = page_picture(run, "large.jpg")
    assert large is not None
    assert (large.height, large.width) == (256, 512)


def test_errors_name_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "run", 1)
    with pytest.raises(UsageError, match="give at least one run folder"):
        write_page([], tmp_path)
    with pytest.raises(UsageError, match="2 mappings of values for 1 runs"):
        write_page([run], tmp_path, values=[{}, {}])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write_page([run], tmp_path / "file")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'whycam[report]'")):
        write_page([read_run(tmp_path / "run")], tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
