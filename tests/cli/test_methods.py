"""The list of methods has those of other packages, and survives a broken one."""

from importlib import metadata
from typing import Any

import pytest

from whycam.cli.methods import methods
from whycam.methods import METHODS


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
