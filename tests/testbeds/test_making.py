"""A bed's folder is whole or not there, the same again from its seed, and refused where it is not valid."""

import csv
import filecmp
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.errors import ModelError, UsageError
from whycam.testbeds import TESTBEDS, WrittenBed, make_bed, read_bed
from whycam.testbeds.bam import BACKGROUNDS
from whycam.testbeds.training import outputs
from whycam.testbeds.workshop import Effort

QUICK = Effort(share=0.005, tested=30, shown=5)


@pytest.fixture(scope="module")
def beds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beds")
    for name in ("parts", "bam"):
        make_bed(name, folder / name, effort=QUICK)
    return folder


@pytest.fixture(scope="module")
def parts(beds: Path) -> WrittenBed:
    return read_bed(beds / "parts")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_seed_makes_the_same_files_again_and_another_one_others(beds: Path, tmp_path: Path):
    make_bed("bam", tmp_path / "bam", effort=QUICK)
    names = files(beds / "bam")
    assert files(tmp_path / "bam") == names
    same, different, missing = filecmp.cmpfiles(beds / "bam", tmp_path / "bam", names, shallow=False)
    assert (different, missing) == ([], [])
    assert {"background.pth", "object.pth", "labels.csv", "bed.json", "masks/object/001.png"} <= set(same)
    make_bed("parts", tmp_path / "other", seed=1, effort=QUICK)
    first, other = (folder / "images/whole/000.png" for folder in (beds / "parts", tmp_path / "other"))
    assert not filecmp.cmp(first, other, shallow=False)


def test_every_picture_has_a_one_bit_mask_of_its_size_and_name(parts: WrittenBed):
    for shown in (parts.pictures("whole"), parts.pictures("removed")):
        for path, mask in zip(shown.paths, shown.mask_paths, strict=True):
            with Image.open(path) as picture, Image.open(mask) as truth:
                assert (picture.mode, truth.mode) == ("RGB", "1")
                assert picture.size == truth.size
                assert np.asarray(truth).any()


def test_a_written_model_is_loaded_by_its_path_and_says_what_it_was_trained_to(beds: Path, parts: WrittenBed):
    model = whycam.load(str(beds / "bam" / "background.pth"))
    assert model.class_names == BACKGROUNDS
    assert model.reference == "testbed:digits"
    classifier, shown = parts.model("classifier"), parts.pictures("whole")
    with torch.no_grad():
        said = classifier.module(classifier.prepare(shown.paths).images).argmax(1).tolist()
    assert [classifier.class_names[index] for index in said] == list(shown.labels)


def test_a_picture_is_seen_as_it_was_in_training(parts: WrittenBed):
    model, shown = parts.model("classifier"), parts.pictures("whole")
    images = torch.stack(
        [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in shown.paths]
    )
    with torch.no_grad():
        torch.testing.assert_close(
            model.module(model.prepare(shown.paths).images), outputs(model.module, images), atol=1e-4, rtol=0
        )


def test_photographs_and_digits_are_credited(parts: WrittenBed):
    credits = (parts.folder / "CREDITS.md").read_text(encoding="utf-8")
    with (parts.folder / "labels.csv").open(newline="") as file:
        used = {row["photographs"] for row in csv.DictReader(file)}
    assert used <= set(BACKGROUNDS)
    assert all(f"`{name}`" in credits for name in used)
    assert "CC BY 4.0" in credits


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from PIL import Image
from whycam.testbeds.bed import Bed, PictureSet
from whycam.testbeds.writing import write_bed

save, saved = Image.Image.save, []

def save_some(picture, *place, **options):
    save(picture, *place, **options)
    saved.append(place)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Image.Image.save = save_some
images, masks = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.ones(4, 8, 8, dtype=torch.bool)
pictures = PictureSet("one", images, masks, "1234", [(0,)] * 4)
write_bed(Bed("", [], [], [pictures]), Path(sys.argv[1]), facts={})
"""


def test_a_killed_making_leaves_no_bed_and_the_next_one_is_whole(beds: Path, tmp_path: Path):
    place = tmp_path / "parts"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".parts.unfinished"]
    make_bed("parts", place, effort=QUICK)
    assert files(place) == files(beds / "parts")
    assert os.listdir(tmp_path) == ["parts"]


def test_a_making_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*place: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="No space left on device; choose another folder with --out"):
        make_bed("parts", tmp_path / "parts", effort=QUICK)
    assert os.listdir(tmp_path) == []


def test_a_filled_folder_is_refused_before_any_work_and_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="not an empty folder; choose another one with --out"):
        make_bed("classifier", tmp_path)  # in full, which takes minutes
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("waterwark", {}, "did you mean 'watermark'"),
        ("parts", {"seed": -1}, "expected a whole number from 0"),
        ("parts", {"device": "cuda:77"}, "cannot be used"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict, words: str, tmp_path: Path):
    with pytest.raises(UsageError, match=words):
        make_bed(name, tmp_path / "bed", **options)
    assert os.listdir(tmp_path) == []


def test_a_bed_that_is_not_valid_says_so_and_is_not_read(beds: Path):
    described = json.loads((beds / "bam" / "bed.json").read_text())
    assert described["valid"] is False
    assert [check["holds"] for check in described["checks"]].count(False) >= 1
    with pytest.raises(UsageError, match=r"is not valid .*photographs recognised"):
        read_bed(beds / "bam")


def test_what_is_no_bed_is_refused(tmp_path: Path, parts: WrittenBed):
    with pytest.raises(UsageError, match="holds no test bed"):
        read_bed(tmp_path)
    (tmp_path / "bed.json").write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="schema 99, expected 1"):
        read_bed(tmp_path)
    with pytest.raises(UsageError, match="no 'cheating' among its models; expected one of classifier"):
        parts.model("cheating")


def test_the_beds_networks_are_model_references():
    assert whycam.load("testbed:digits", num_classes=3).module.head.out_features == 3
    assert whycam.load("testbed:cells").preprocessing.size == (192, 192)
    with pytest.raises(ModelError, match="no test bed network 'digit'; did you mean 'digits'"):
        whycam.load("testbed:digit")
    with pytest.raises(UsageError, match="leave num_classes out"):
        whycam.load("testbed:cells", num_classes=3)


def test_every_bed_goes_by_its_name():
    assert all(name == recipe.name for name, recipe in TESTBEDS.items())
    trained = ["classifier", "watermark", "partial", "gridpg", "difull", "bam", "parts"]
    assert list(TESTBEDS) == [*trained, "colours"]
