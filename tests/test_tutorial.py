"""The tutorial, typed as it stands: from a data set to the paper, and the maps are where the truth is."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.test_guides import DOCS, blocks, commands

PAGES = [(DOCS / name).read_text(encoding="utf-8") for name in ("tutorial.md", "tutorial.zh-CN.md")]


def test_both_languages_type_the_same() -> None:
    english, chinese = PAGES
    assert commands(english) == commands(chinese)
    assert blocks(english, "python") == blocks(chinese, "python")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Type all of the tutorial in an empty folder; what it prints."""
    desk = tmp_path_factory.mktemp("desk")
    (code,) = blocks(PAGES[0], "python")
    *typed, last = [shlex.split(command)[1:] for command in commands(PAGES[0])]
    # one process for all of them: most of the time goes into the imports
    before = f"import whycam.cli\nfor words in {typed!r}:\n    assert whycam.cli.run(words) == 0, words\n"
    program = f"{before}{code}\nassert whycam.cli.run({last!r}) == 0\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=desk, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return desk, done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are a POSIX shell's")
def test_the_tutorial_goes_the_whole_way(said: tuple[Path, str]) -> None:
    desk, printed = said
    ranking = json.loads((desk / "selection" / "ranking.json").read_text(encoding="utf-8"))
    ranked = [row["accuracy"] for row in ranking["ranking"]]
    assert len(ranked) == 6
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] >= 0.85  # three classes: chance is a third
    with (desk / "weights" / "history.csv").open(encoding="utf-8") as file:
        trained = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    assert max(trained) == pytest.approx(ranked[0])
    shares = {name: float(share) for name, share in re.findall(r"^(\w+) +(0\.\d{3})$", printed, re.MULTILINE)}
    assert min(shares["gradcam"], shares["layercam"]) > 1.2 * max(shares["random"], shares["centre"])


def test_the_report_of_the_tutorial_has_all_its_files(said: tuple[Path, str]) -> None:
    report = said[0] / "run" / "report"
    files = {
        *("figure.pdf", "figure.png", "caption.txt", "methods.txt", "references.bib", "report.html"),
        *("class_means.csv", "class_means.png"),
    }
    assert files <= {path.name for path in report.iterdir()}
    text = (report / "methods.txt").read_text(encoding="utf-8")
    assert all(
        word in text for word in ("mobilenetv3_small_050", "Grad-CAM", "LayerCAM", "64 x 64", "blocks.1")
    )
    if shutil.which("pdffonts"):
        fonts = subprocess.run(
            ["pdffonts", report / "figure.pdf"], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in fonts.stdout.splitlines()[2:]]
        assert rows
        assert all(row[-5] == "yes" for row in rows), fonts.stdout  # "emb", counted from the end
