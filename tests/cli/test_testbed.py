"""The verb makes a bed, says by its code whether it is valid, and refuses in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from whycam import read_run
from whycam.cli.testbed import make_testbed
from whycam.testbeds import TESTBEDS, BedRecipe, make_bed
from whycam.testbeds.bed import Bed, Check, PictureSet
from whycam.testbeds.workshop import Effort


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_the_beds_are_listed(whycam: Any, arguments: tuple[str, ...]) -> None:
    done = whycam("testbed", *arguments)
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == list(TESTBEDS)


def test_the_list_is_to_be_had_as_data(whycam: Any) -> None:
    assert [bed["name"] for bed in whycam("testbed", "--json").json["testbeds"]] == list(TESTBEDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("watermarks", "--out", "new"), "did you mean 'watermark'?"),
        (("gridpg",), "--out is missing"),
        (("gridpg", "--out", "."), "choose another one with --out"),
        (("gridpg", "--out", "new", "--seed", "-3"), "the seed is -3"),
        (("gridpg", "--out", "new", "--device", "cuda:77"), "device 'cuda:77' cannot be used"),
    ],
)
def test_what_cannot_be_made_is_one_line(whycam: Any, arguments: tuple[str, ...], words: str) -> None:
    done = whycam("testbed", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.error_line
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(("value", "code"), [(0.95, 0), (0.5, 1)])
def test_the_code_says_whether_the_bed_is_valid(
    value: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = Check("digits that the plate turns", value, at_least=0.9)
    image, mask = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.bool)
    made = Bed("a bed of one check", [check], [], [PictureSet("one", image, mask, ["3"], [(0,)])])
    monkeypatch.setitem(TESTBEDS, "parts", BedRecipe("parts", "", lambda shop: made))
    answer = make_testbed("parts", tmp_path / "bed", seed=7)
    assert (answer.code, answer.data["valid"]) == (code, code == 0)
    assert any(line.startswith(f"digits that the plate turns  {value}") for line in answer.lines)
    assert ("invalid: parts with seed 7 fails its checks" in capsys.readouterr().err) == (code == 1)


def test_a_beds_table_and_weights_are_what_explain_takes(whycam: Any, tmp_path: Path) -> None:
    make_bed("parts", tmp_path / "bed", effort=Effort(tested=10, shown=2))
    weights, table = tmp_path / "bed" / "classifier.pth", tmp_path / "bed" / "labels.csv"
    done = whycam("explain", weights, table, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    rows = list(read_run(tmp_path / "run").rows())
    assert len(rows) == 2
    assert [row.label for row in rows] == [row.prediction_name for row in rows]
