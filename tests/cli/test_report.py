from pathlib import Path
from typing import Any

import pytest
from tests.reports.made_runs import failed_row, made_row, made_run

TEXTS = ("--only", "methods", "--only", "references")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give the folder of a run of two images."""
    made_run(tmp_path / "run", [made_row(0), made_row(1)])
    return tmp_path / "run"


def test_a_report_lies_in_the_run_unless_told_otherwise(whycam: Any, run: Path) -> None:
    done = whycam("report", run, *TEXTS)
    assert done.code == 0
    assert done.out.splitlines()[1:] == ["  written  methods.txt", "  written  references.bib"]
    assert sorted(path.name for path in (run / "report").iterdir()) == [
        "methods.txt",
        "references.bib",
        "report.json",
    ]


def test_a_second_call_says_what_it_kept(whycam: Any, run: Path) -> None:
    whycam("report", run, *TEXTS)
    done = whycam("report", run, *TEXTS)
    assert done.code == 0
    assert "  kept     methods.txt, made before from the same" in done.out.splitlines()


def test_json_names_the_files(whycam: Any, run: Path, tmp_path: Path) -> None:
    done = whycam("report", run, "--out", tmp_path / "out", "--json", *TEXTS)
    assert done.json == {
        "report": str(tmp_path / "out"),
        "written": [str(tmp_path / "out" / name) for name in ("methods.txt", "references.bib")],
        "kept": [],
        "warnings": [],
    }


def test_several_runs_are_compared(whycam: Any, run: Path, tmp_path: Path) -> None:
    made_run(tmp_path / "other", [made_row(0)], target="class 1")
    done = whycam("report", run, tmp_path / "other", "--out", tmp_path / "out", *TEXTS)
    assert done.code == 0
    assert "Two runs are compared: run and other." in (tmp_path / "out" / "methods.txt").read_text()


def test_an_unfinished_run_is_a_warning(whycam: Any, tmp_path: Path) -> None:
    made_run(tmp_path / "run", [made_row(0)], finish=False)
    done = whycam("report", tmp_path / "run", *TEXTS)
    assert done.code == 0
    assert "is not finished; the report is on what is there" in done.err


def test_what_cannot_be_reported_is_one_line_and_exits_with_2(whycam: Any, run: Path, tmp_path: Path) -> None:
    made_run(tmp_path / "failed", [failed_row(0)])
    (tmp_path / "file").write_text("")
    calls = {
        (tmp_path / "none",): "does not exist",
        (tmp_path / "failed", *TEXTS): "all with an error",
        (run, "--only", "figur"): "--only is 'figur'; expected one of figure, caption, methods",
        (run, "--out", tmp_path / "file" / "out", *TEXTS): "cannot write the report into",
        (run, run, *TEXTS): "was given twice",
    }
    for arguments, said in calls.items():
        done = whycam("report", *arguments)
        assert done.code == 2
        assert said in done.error_line
        assert done.out == ""


def test_the_width_reaches_the_pictures(whycam: Any, run: Path) -> None:
    from PIL import Image

    assert whycam("report", run, "--only", "class-means", "--width", "3.5").code == 0
    with Image.open(run / "report" / "class_means.png") as picture:
        assert picture.width == 1050
