"""The figure's caption: true to what was run, and to what is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whycam.reports.facts import RunFacts
from whycam.reports.sentences import (
    capital,
    counted,
    failures_text,
    joined,
    layer_text,
    listed,
    target_text,
    titles,
    together,
    weights_caution,
    weights_text,
)
from whycam.reports.wording import CONTROLS, WORDS, title_of

_OF_A_FIGURE = (
    "arrangement", "panels", "images", "total", "style", "colormap", "normalise", "levels", "warnings",
)  # fmt: skip


@dataclass(frozen=True)
class DrawnFigure:
    """What is on a figure, as plain values: those of ``figure.FigureResult`` that a caption needs.

    ``panels`` have ``letter``, ``heading``, ``run``, ``method`` and ``target``; ``images`` have ``id``,
    ``reason``, ``wrong`` and ``notes``.
    """

    arrangement: str
    panels: Sequence[Mapping[str, Any]]
    images: Sequence[Mapping[str, Any]]
    total: int
    style: str
    colormap: str
    normalise: str
    levels: Sequence[float]
    warnings: Sequence[str]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "DrawnFigure":
        """Take what is needed of a figure's result as plain values; more of them are passed over."""
        return cls(**{name: document[name] for name in _OF_A_FIGURE})

    @property
    def maps(self) -> Sequence[Mapping[str, Any]]:
        """The columns of maps, without that of the images."""
        return [panel for panel in self.panels if panel["run"] is not None]

    @property
    def methods(self) -> list[str]:
        """The methods on the figure, each once, in its order."""
        return list(dict.fromkeys(panel["method"] for panel in self.maps if panel["method"]))


def caption_text(runs: Sequence[RunFacts], drawn: DrawnFigure) -> str:
    """Return the caption as plain text, one paragraph on one line."""
    shown = [runs[at] for at in sorted({panel["run"] for panel in drawn.maps})]
    sentences = (
        _headline(shown, drawn),
        _panels(runs, drawn),
        together(shown, _explained),
        _colours(drawn),
        _chosen(drawn),
        together(shown, lambda facts: weights_caution(facts.manifest.model)),
        together(shown, failures_text),
        together(shown, _unfinished),
        _notes(drawn),
        # the failures are said already, in other words
        *(f"{capital(warning)}." for warning in drawn.warnings if " images failed" not in warning),
    )
    return joined(sentences) + "\n"


def _headline(shown: Sequence[RunFacts], drawn: DrawnFigure) -> str:
    references = dict.fromkeys(facts.manifest.model.reference for facts in shown)
    network = f"the network{'' if len(references) == 1 else 's'} {listed(map(repr, references))}"
    own = [name for name in drawn.methods if name not in CONTROLS]
    by = f"by {titles(own)}" if own else "by controls alone"
    if drawn.arrangement == "checkpoints":
        return f"Maps of {counted(len(drawn.maps), 'set')} of weights of {network} {by}."
    if drawn.arrangement == "classes":
        return f"Maps of {network} for {counted(len(drawn.maps), 'target')} {by}."
    return f"Maps of {network} {by}."


def _panels(runs: Sequence[RunFacts], drawn: DrawnFigure) -> str:
    said = [f"{panel['letter']} {_panel(runs, drawn, panel)}" for panel in drawn.panels]
    text = f"Columns: {'; '.join(said)}."
    controls = [panel["letter"] for panel in drawn.maps if panel["method"] in CONTROLS]
    if not controls:
        return text
    know = "is a control that knows" if len(controls) == 1 else "are controls that know"
    return f"{text} {listed(controls)} {know} nothing of the network."


def _panel(runs: Sequence[RunFacts], drawn: DrawnFigure, panel: Mapping[str, Any]) -> str:
    if panel["run"] is None:
        return "the image"
    facts = runs[panel["run"]]
    if drawn.arrangement == "checkpoints":
        return f"{panel['heading']}, {weights_text(facts.manifest.model)}"
    if drawn.arrangement == "classes":
        return str(panel["heading"])
    several = len({other["run"] for other in drawn.maps}) > 1
    method = panel["method"]
    what = f" ({WORDS[method].does})" if method in CONTROLS else ""
    return f"{title_of(method)}{what}{f' in run {facts.name}' if several else ''}"


def _explained(facts: RunFacts) -> str:
    layer = layer_text(facts)
    word = "layer" if facts.manifest.layer and len(facts.manifest.layer.paths) == 1 else "layers"
    at = f"; the explained {word}: {layer}" if layer else ""
    return f"What the maps explain: {target_text(facts.manifest)}{at}."


def _colours(drawn: DrawnFigure) -> str:
    by = "its own maximum" if drawn.normalise == "image" else "the highest maximum of its column"
    text = (
        f"Colours ({drawn.colormap}) go from 0, no evidence for what is explained, to 1; each map's negative "
        f"values were set to zero, then it was resized bilinearly to the image and divided by {by}."
    )
    if not drawn.levels:
        return text
    lines = "lines are" if len(drawn.levels) > 1 else "line is"
    return f"{text} The {lines} drawn at {listed(f'{level:g}' for level in drawn.levels)}."


def _chosen(drawn: DrawnFigure) -> str:
    by_reason: dict[str, list[str]] = {}
    for image in drawn.images:
        by_reason.setdefault(image["reason"], []).append(image["id"])
    first, wrong = by_reason.get("first in the run", []), by_reason.get("wrong prediction", [])
    asked = by_reason.get("asked for", [])
    said = []
    if first:
        some = "image" if len(first) == 1 else counted(len(first), "image")
        said.append(f"the first {some} with a map (of {drawn.total} in the run)")
    if wrong:
        said.append(f"the wrong prediction of the highest probability ({listed(wrong)})")
    if asked:
        said.append(f"{counted(len(asked), 'image')} of {drawn.total}, chosen by name")
    marked = [image["id"] for image in drawn.images if image["wrong"] and image["id"] not in wrong]
    also = f"Predicted otherwise than labelled: {listed(marked)}." if marked else ""
    are = "is" if len(drawn.images) == 1 else "are"
    return joined((f"Shown {are} {listed(said)}." if said else "", also))


def _unfinished(facts: RunFacts) -> str:
    if facts.manifest.finished:
        return ""
    return f"The run was not finished: {facts.images} of {facts.manifest.image_count} images are in it."


def _notes(drawn: DrawnFigure) -> str:
    said = [f"{image['id']}: {note}" for image in drawn.images for note in image["notes"]]
    return f"{capital('; '.join(said))}." if said else ""
