"""The list of methods has those of other packages, and survives a broken one."""

from importlib import metadata
from typing import Any, get_args

import pytest

from whycam.cli.methods import KINDS, methods
from whycam.methods import METHODS
from whycam.methods.registry import Kind


def checkerboard(activations: Any, *, cell: int = 2) -> Any:
    """Squares, for a test."""


def wishful(activations: Any, wishes: Any) -> Any:
    """Ask for what nothing provides."""


def test_methods_of_other_packages_are_listed_and_broken_ones_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {
        "checkerboard": lambda: checkerboard,
        "wishful": lambda: wishful,
        "absent": lambda: __import__("absent_package"),
        "gradcam": lambda: wishful,
    }

    class Point:
        def __init__(self, name: str) -> None:
            self.name, self.value = name, f"package:{name}"
            self.load = points[name]

    def entry_points(*, group: str, name: str | None = None) -> list[Point]:
        assert group == "whycam.methods"
        return [Point(one) for one in points if name in (None, one)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr("whycam.methods.registry.entry_points", entry_points)
    answer = methods()
    listed = {method["name"]: method for method in answer.data["methods"]}
    assert list(listed) == [*METHODS, "checkerboard"]
    assert listed["checkerboard"]["parameters"] == {"cell": 2}
    assert listed["gradcam"]["source"] == "Selvaraju 2017"
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "'wishes'" in warnings[0]
    assert "absent_package" in warnings[1]
    assert any(line.startswith("checkerboard") for line in answer.lines)
    assert "other: from other packages" in answer.lines


def test_the_list_is_grouped_by_kind_and_fits_a_hundred_columns() -> None:
    answer = methods()
    assert max(map(len, answer.lines)) <= 100
    assert set(get_args(Kind)) == set(KINDS)
    headings = [line.partition(":")[0] for line in answer.lines if line.partition(":")[0] in KINDS]
    assert headings == [kind for kind in KINDS if any(m.kind == kind for m in METHODS.values())]
    listed = [line.split()[0] for line in answer.lines if line.split() and line.split()[0] in METHODS]
    assert sorted(listed) == sorted(METHODS)
    for name, method in METHODS.items():
        (at,) = (n for n, line in enumerate(answer.lines) if line.split()[:1] == [name])
        assert method.cost in answer.lines[at]
        assert method.source in answer.lines[at]
        below = " ".join(line.strip() for line in answer.lines[at + 1 : at + 4])
        assert below.startswith(method.summary)
        assert all(need in below for need in method.needs)


def test_programs_are_told_what_a_method_works_on_and_which_layers_it_takes() -> None:
    listed = {method["name"]: method for method in methods().data["methods"]}
    assert listed["cam"]["works_on"] == "GAP head"
    assert listed["gradcam"]["works_on"] == "any"
    assert [listed[name]["layer"] for name in ("gradcam", "refinecam", "fullgrad")] == [
        "one",
        "stages",
        "none",
    ]
    assert [listed[name]["explained"] for name in ("gradcam", "finercam")] == ["target", "difference"]
    old = {"name", "kind", "cost", "needs", "source", "summary", "parameters"}
    assert all(old <= entry.keys() for entry in listed.values())
