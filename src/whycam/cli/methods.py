"""``whycam methods``: which methods are there, what do they cost and need, who published them?"""

from typing import TYPE_CHECKING

from whycam.cli.answer import Answer, table
from whycam.cli.console import tell
from whycam.cli.options import JsonOption

if TYPE_CHECKING:
    from whycam.methods import Method


def methods(json: JsonOption = False) -> Answer:
    """List the methods with cost, needs and source.

    F is a forward pass of the model; s-backward a backward from the score to the layer.
    """
    from whycam.methods import METHODS

    known = [*METHODS.values(), *_installed()]
    data = [
        {
            "name": method.name,
            "kind": method.kind,
            "cost": method.cost,
            "needs": sorted(method.needs),
            "source": method.source,
            "summary": method.summary,
            "parameters": method.parameters,
        }
        for method in known
    ]
    rows = [(m.name, m.kind, m.cost, ", ".join(sorted(m.needs)), m.source, m.summary) for m in known]
    lines = table(("method", "kind", "cost", "needs", "source", "what it shows"), rows)
    note = "F: a forward of the model; s-backward: a backward from the score to the layer"
    return Answer([*lines, "", note], {"methods": data})


def _installed() -> "list[Method]":
    """Load the methods that other packages register, and tell of those that cannot be used."""
    from importlib.metadata import entry_points

    from whycam.methods import METHODS, find_method

    found = []
    for point in entry_points(group="whycam.methods"):
        if point.name in METHODS:
            continue
        try:
            method = find_method(point.name)
            _ = method.needs  # raises for a parameter that nothing provides
            found.append(method)
        # another package's code may raise anything, and must not hide the methods that work
        except Exception as error:
            tell("warning", f"method {point.name!r} of {point.value} cannot be used: {error}")
    return found
