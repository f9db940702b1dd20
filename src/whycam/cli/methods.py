"""``whycam methods``: which methods are there, what do they cost and need, who published them?"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whycam.cli.answer import Answer, table
from whycam.cli.console import tell
from whycam.cli.options import JsonOption

if TYPE_CHECKING:
    from whycam.methods import Method

WIDTH = 100
INDENT = " " * 4
KINDS = {
    "gradient": "activations weighted by the score's gradient at the layer",
    "activation": "activations alone",
    "layered": "several layers, or all of them",
    "perturbation": "what the score does when something is hidden or changed",
    "pixel": "gradients at the image's own pixels",
    "attention": "a transformer's attention",
    "control": "what a method must beat; they know nothing of the model",
    "other": "from other packages",
}
NOTES = (
    "F, B: a forward, a backward of the model; s-backward: a backward from the score to the layer;",
    "s: a forward of what follows the layer. layer: none is needed, one, or stages (one a resolution)",
)


def methods(json: JsonOption = False) -> Answer:
    """List the methods with cost, needs and source.

    F is a forward pass of the model; s-backward a backward from the score to the layer.
    """
    from whycam.methods import METHODS

    known = [*METHODS.values(), *_installed()]
    return Answer(_lines(known), {"methods": [_data(method) for method in known]})


def _data(method: "Method") -> dict[str, Any]:
    return {
        "name": method.name,
        "kind": method.kind,
        "cost": method.cost,
        "needs": sorted(method.needs),
        "source": method.source,
        "summary": method.summary,
        "parameters": method.parameters,
        "works_on": method.works_on,
        "layer": _layer(method),
        "explained": method.explained,
    }


def _layer(method: "Method") -> str:
    """Say which layers a method takes: none, one, or several at once."""
    if method.takes_all_layers_at_once:
        return "stages"
    return "one" if method.takes_layer else "none"


def _lines(methods: "Sequence[Method]") -> list[str]:
    """Set the methods in columns under a heading for each kind; below each what it shows and needs."""
    heads = ("method", "cost", "works on", "layer", "source")
    ordered = [method for kind in KINDS for method in methods if method.kind == kind]
    head, *rows = table(heads, [(m.name, m.cost, m.works_on, _layer(m), m.source) for m in ordered])
    lines = [head]
    for kind, meaning in KINDS.items():
        some = [(row, m) for row, m in zip(rows, ordered, strict=True) if m.kind == kind]
        lines += ["", f"{kind}: {meaning}"] if some else []
        for row, method in some:
            below = f"{method.summary}; needs {', '.join(sorted(method.needs))}".removeprefix("; ")
            lines += [row, *textwrap.wrap(below, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)]
    return [*lines, "", *NOTES]


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
