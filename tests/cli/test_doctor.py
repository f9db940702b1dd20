"""What is installed and whether it works; a wrong number or a missing package exits with 1."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch

import whycam.demo
from whycam.cli.doctor import TOLERANCE, doctor
from whycam.demo import demo_expectation, demo_images

MODULE = sys.modules["whycam.cli.doctor"]  # the package has the verb under that name
ROOT = Path(__file__).parents[2]


def test_a_sound_installation_is_well_and_exits_with_0(whycam: Any) -> None:
    done = whycam("doctor")
    assert done.code == 0, done.out
    assert done.out.splitlines()[-1] == "all is well"
    assert re.search(rf"^torch +{re.escape(torch.__version__.partition('+')[0])}", done.out, re.MULTILINE)
    assert re.search(r"^device cpu +\d+ threads$", done.out, re.MULTILINE)
    assert re.search(r"^self-test +00-zero.png: class 0 \(", done.out, re.MULTILINE)
    assert done.err == ""


def test_json_has_the_same_as_data(whycam: Any) -> None:
    said = whycam("doctor", "--json").json
    assert said["ok"] is True
    assert said["self_test"]["problems"] == []
    assert said["self_test"]["map_deviation"] < TOLERANCE
    assert set(said["fonts"]) == {"Chinese", "Japanese", "Korean"}


def test_packages_and_extras_are_those_of_the_project(whycam: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = whycam("doctor", "--json").json
    names = {re.split(r"[^\w-]", text, maxsplit=1)[0] for text in project["dependencies"]}
    assert set(said["packages"]) == {"whycam", *names}
    assert set(said["extras"]) == set(project["optional-dependencies"]) - {"dev", "bench"}


def test_an_absent_extra_is_told_with_its_command_and_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> str:
        if name == "transformers":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(MODULE, "version", without)
    answer = doctor()
    assert answer.code == 0
    (line,) = (line for line in answer.lines if line.startswith("extra hf"))
    assert line.endswith("transformers not installed; pip install 'whycam[hf]'")


def test_an_absent_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> str:
        if name == "timm":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(MODULE, "version", without)
    answer = doctor()
    assert answer.code == 1
    assert answer.lines[-1] == "problem: timm is not installed; pip install whycam"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.update({"class": 3}), "the prediction is class 0, expected 3"),
        (lambda e: e.update(probability=0.9), "the probability is 0.9999, expected 0.9000"),
        (lambda e: e["map"][6].__setitem__(5, 9.0), "of its peak, expected"),
        (lambda e: e["map"].pop(), "the map is off by inf"),
        (lambda e: e.update(image="absent.png"), "the self-test failed: ValueError"),
        (lambda e: e.update(layer="absent"), "the self-test failed: LayerError"),
    ],
)
def test_a_number_that_is_off_is_a_problem(monkeypatch: pytest.MonkeyPatch, change: Any, said: str) -> None:
    expected = demo_expectation()
    change(expected)
    monkeypatch.setattr(whycam.demo, "demo_expectation", lambda: expected)
    answer = doctor()
    assert answer.code == 1
    assert answer.data["ok"] is False
    assert any(line.startswith("problem: ") and said in line for line in answer.lines)


def test_a_network_that_computes_otherwise_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    network = whycam.demo.demo_network()
    with torch.no_grad():
        network.head.weight.mul_(1.02)
    monkeypatch.setattr(whycam.demo, "demo_network", lambda: network)
    assert doctor().code == 1


def test_the_numbers_are_held_to_on_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            # a hundredth of what is allowed: other machines round otherwise
            assert doctor().data["self_test"]["map_deviation"] < TOLERANCE / 100
    finally:
        torch.set_num_threads(before)


def test_the_expected_image_is_the_first_of_the_demo() -> None:
    assert demo_expectation()["image"] == demo_images()[0].name


def test_no_extra_is_imported() -> None:
    code = (
        "import sys; from whycam.cli import run; code = run(['doctor']); "
        "print({'transformers', 'open_clip', 'tifffile', 'pydicom', 'nibabel'} & set(sys.modules), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set() 0"
