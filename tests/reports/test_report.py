import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.reports.made_runs import failed_row, made_row, made_run

from whycam.demo import demo_images
from whycam.errors import RunError, UsageError
from whycam.models import load
from whycam.reports import PARTS, ReportOptions, write_report
from whycam.runs import RunRequest, run_explain
from whycam.store import Run, RunWriter, read_run

DEATHS = Path(__file__).with_name("report_deaths.py")
TEXTS = ReportOptions(parts=("methods", "references"))
FILES = {
    "caption.txt", "class_means.csv", "class_means.png", "figure.pdf", "figure.png", "methods.txt",
    "references.bib", "report.html", "report.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a run of the demo network, by two methods and a control."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    request = RunRequest(
        model=load("demo"),
        sources=tuple(demo_images()[:3]),
        folder=folder,
        methods=("gradcam", "smoothgrad", "centre"),
    )
    run_explain(request)
    return read_run(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a made run of two images."""
    return made_run(tmp_path / "run", [made_row(0), made_row(1)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_on_a_real_run_has_all_parts(tmp_path: Path, demo: Run) -> None:
    summary = write_report([demo], tmp_path / "report", ReportOptions(width=3.5))
    assert set(content(tmp_path / "report")) == FILES
    assert {path.name for path in summary.written} == FILES - {"report.json"}


def test_the_texts_of_a_real_run_say_what_was_run_and_drawn(tmp_path: Path, demo: Run) -> None:
    write_report([demo], tmp_path / "report", ReportOptions(parts=("caption", "methods"), width=3.5))
    caption = (tmp_path / "report" / "caption.txt").read_text()
    methods = (tmp_path / "report" / "methods.txt").read_text()
    assert "(b) Grad-CAM; (c) SmoothGrad; (d) Centre (a Gaussian" in caption
    assert "the first three images with a map (of 3 in the run)" in caption
    assert "(samples = 50; sigma = 0.15; seed = 0)" in methods
    assert demo.manifest.layer is not None
    assert f"{demo.manifest.layer.paths[0]} ({demo.manifest.layer.reason})" in methods
    assert demo.manifest.versions["torch"] in methods


def test_the_same_report_again_keeps_every_file_and_what_was_edited(tmp_path: Path, run: Run) -> None:
    first = write_report([run], tmp_path / "report", TEXTS)
    (tmp_path / "report" / "methods.txt").write_text("mine\n")
    second = write_report([run], tmp_path / "report", TEXTS)
    assert (second.written, second.kept) == ((), first.written)
    assert (tmp_path / "report" / "methods.txt").read_text() == "mine\n"


def test_a_file_that_is_gone_is_made_again_and_no_other(tmp_path: Path, run: Run) -> None:
    write_report([run], tmp_path / "report", TEXTS)
    (tmp_path / "report" / "methods.txt").unlink()
    again = write_report([run], tmp_path / "report", TEXTS)
    assert [path.name for path in again.written] == ["methods.txt"]


def test_a_run_that_has_grown_is_reported_anew(tmp_path: Path, run: Run) -> None:
    write_report([run], tmp_path / "report", TEXTS)
    with RunWriter.resume(run.folder, run.manifest) as writer:
        writer.write([made_row(2)])
        writer.finish()
    again = write_report([read_run(run.folder)], tmp_path / "report", TEXTS)
    assert again.kept == ()
    assert "Three images were explained" in (tmp_path / "report" / "methods.txt").read_text()


def test_other_options_make_the_parts_that_depend_on_them_alone(tmp_path: Path, run: Run) -> None:
    parts: Any = ("methods", "class-means")
    write_report([run], tmp_path / "report", ReportOptions(parts=parts, width=3.5))
    again = write_report([run], tmp_path / "report", ReportOptions(parts=parts, width=3.6))
    assert [path.name for path in again.kept] == ["methods.txt"]
    assert [path.name for path in again.written] == ["class_means.csv", "class_means.png"]


def test_a_caption_brings_the_figure_that_it_is_about(tmp_path: Path, demo: Run) -> None:
    summary = write_report([demo], tmp_path / "report", ReportOptions(parts=("caption",), width=3.5))
    assert [path.name for path in summary.written] == ["figure.pdf", "figure.png", "caption.txt"]


def test_a_file_of_somebody_elses_is_never_written_over(tmp_path: Path, run: Run) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "references.bib").write_text("mine\n")
    with pytest.raises(RunError, match=r"references\.bib' is there already and no report's") as caught:
        write_report([run], tmp_path / "paper", TEXTS)
    assert len(str(caught.value).splitlines()) == 1
    assert content(tmp_path / "paper") == {"references.bib": b"mine\n"}


def test_an_unfinished_run_is_reported_with_a_warning(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [made_row(0)], finish=False)
    summary = write_report([run], tmp_path / "report", TEXTS)
    assert [re.sub("'.*'", "RUN", text) for text in summary.warnings] == [
        "the run RUN is not finished; the report is on what is there"
    ]


def test_a_run_of_failures_alone_is_refused(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [failed_row(0)])
    with pytest.raises(RunError, match="all with an error"):
        write_report([run], tmp_path / "report", TEXTS)


def test_no_run_and_an_unknown_part_are_refused(tmp_path: Path, run: Run, unchecked: None) -> None:
    with pytest.raises(UsageError, match="no run"):
        write_report([], tmp_path / "report")
    parts: Any = ("figur",)
    with pytest.raises(UsageError, match=f"no part 'figur'; expected some of {', '.join(PARTS)}"):
        write_report([run], tmp_path / "report", ReportOptions(parts=parts))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report into") as caught:
        write_report([run], tmp_path / "file" / "report", TEXTS)
    assert len(str(caught.value).splitlines()) == 1
    assert "--resume" not in str(caught.value)


def test_a_damaged_record_is_refused(tmp_path: Path, run: Run) -> None:
    write_report([run], tmp_path / "report", TEXTS)
    (tmp_path / "report" / "report.json").write_text("{")
    with pytest.raises(RunError, match=r"report\.json' is damaged"):
        write_report([run], tmp_path / "report", TEXTS)


@pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")
def test_a_report_killed_at_any_moment_ends_with_the_files_of_one_that_was_not(
    tmp_path: Path, run: Run
) -> None:
    done = subprocess.run(
        [sys.executable, str(DEATHS), str(run.folder), str(tmp_path), *TEXTS.parts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert ends["died"] >= 15
    assert ends["kept"] >= 8


def test_what_a_killed_report_left_half_written_is_cleared_away(tmp_path: Path, run: Run) -> None:
    for name in (".tmp", ".figure-abc", ".report"):
        (tmp_path / "report" / name).mkdir(parents=True)
        (tmp_path / "report" / name / "000000.tmp").write_bytes(b"half")
    write_report([run], tmp_path / "report", TEXTS)
    assert set(content(tmp_path / "report")) == {"methods.txt", "references.bib", "report.json"}


def test_class_means_are_the_same_bytes_each_time(tmp_path: Path, run: Run) -> None:
    for name in ("one", "two"):
        write_report([run], tmp_path / name, ReportOptions(parts=("class-means",), width=3.5))
    assert content(tmp_path / "one") == content(tmp_path / "two")
