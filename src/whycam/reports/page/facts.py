"""What the page says in words: its warnings, and how each run can be made again."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whycam.explanation import caution_in
from whycam.reports.page.catalogue import FAILURES_NAMED, Catalogue, RunFacts
from whycam.reports.page.text import shown
from whycam.store import Manifest, Run

_LONGEST = 400


@dataclass(frozen=True)
class Warned:
    """A warning in a sentence, with the cases that it names."""

    text: str
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunText:
    """A run in words: ``facts`` are (term, description), ``again`` is what makes it again."""

    name: str
    facts: tuple[tuple[str, str], ...]
    again: str


def run_names(runs: Sequence[Run]) -> list[str]:
    """Name each run by its folder, and tell those of one name apart."""
    names: list[str] = []
    for run in runs:
        name = shown(run.folder.resolve().name or run.folder)
        copies = sum(known == name or known.startswith(f"{name} (") for known in names)
        names.append(name if not copies else f"{name} ({copies + 1})")
    return names


def warnings_of(runs: Sequence[Run], catalogue: Catalogue, pictures_missing: int) -> list[Warned]:
    """Return what a reader must know before looking at a picture, the gravest first."""
    by_gravity: list[tuple[int, Warned]] = []
    for name, run, facts in zip(run_names(runs), runs, catalogue.runs, strict=True):
        start = f"Run {name}: " if len(runs) > 1 else ""
        for gravity, warned in _of_run(run.manifest, facts, catalogue):
            by_gravity.append((gravity, Warned(start + warned.text, warned.cases)))
    found = [warned for _, warned in sorted(by_gravity, key=lambda pair: pair[0])]
    if catalogue.changed:
        count = len(catalogue.changed)
        found.append(Warned(f"{_images(count)} changed between the runs: the files' contents differ."))
    if pictures_missing:
        found.append(
            Warned(
                f"{_images(pictures_missing)} without a picture in the run folder: maps are drawn on gray."
            )
        )
    return found


def _of_run(manifest: Manifest, facts: RunFacts, catalogue: Catalogue) -> Iterator[tuple[int, Warned]]:
    """Return a run's warnings, each with a number that is lower the graver it is."""
    model = manifest.model
    provenance = _cut(shown(model.provenance))
    if model.provenance.startswith("random weights"):
        yield 0, Warned("The network has random weights: its maps say nothing about any trained model.")
    elif caution_in(model.provenance) is not None:
        yield 1, Warned(f"The weights were loaded in part: {provenance}.")
    elif "whether they are trained is not known" in model.provenance:
        yield 2, Warned(f"Whether the weights are trained is not known: {provenance}.")
    if not manifest.finished:
        there = f"{len(facts.images):,} of {_images(manifest.image_count)}"
        mend = "Go on with --resume, then write the report again."
        yield 3, Warned(f"The run is not finished: {there} are in it. {mend}")
    if facts.failed:
        yield 4, Warned(f"{_images(len(facts.failed))} failed.", tuple(_failures(facts, catalogue)))
    if facts.blank:
        maps = "1 map is" if facts.blank == 1 else f"{facts.blank:,} maps are"
        yield 5, Warned(f"{maps} blank: zero everywhere, so there is nothing to see and nothing to conclude.")


def _failures(facts: RunFacts, catalogue: Catalogue) -> Iterator[str]:
    names = catalogue.names
    for image, error in list(facts.failed.items())[:FAILURES_NAMED]:
        yield _cut(f"{shown(names[image])}: {shown(error)}")
    if len(facts.failed) > FAILURES_NAMED:
        yield f"and {len(facts.failed) - FAILURES_NAMED:,} more"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def run_text(name: str, manifest: Manifest) -> RunText:
    """Say how a run was made."""
    return RunText(name, tuple(_facts(manifest)), "\n".join(_again(manifest)))


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    model, layer = manifest.model, manifest.layer
    yield "Model", shown(model.reference)
    yield "Weights", shown(model.provenance)
    yield "SHA-256 of the weights", shown(model.weights_sha256 or "none")
    yield "Target", shown(manifest.target)
    if layer is not None:
        yield "Layer", shown(f"{' + '.join(layer.paths)}: {layer.reason}")
    yield "Methods", shown("; ".join(_method_texts(manifest)))
    yield "Made", shown(f"{manifest.created} on {manifest.device}")


def _method_texts(manifest: Manifest) -> Iterator[str]:
    for method in manifest.methods:
        parameters = ", ".join(f"{key}={value}" for key, value in method.parameters.items())
        yield f"{method.name} ({parameters})" if parameters else method.name


def _again(manifest: Manifest) -> Iterator[str]:
    """Give a command and, as its comments, what else must be the same."""
    yield shown(shlex.join(manifest.command))
    for resumption in manifest.resumed:
        yield f"# resumed {shown(resumption.time)} on {shown(resumption.device)}"
    yield f"# versions: {shown(', '.join(f'{name} {said}' for name, said in manifest.versions.items()))}"
    yield f"# device: {shown(manifest.device)}"
    yield f"# seed: {'none' if manifest.seed is None else manifest.seed}"
    yield f"# model: {shown(manifest.model.reference)}"
    yield f"# weights: {shown(manifest.model.provenance)}"
    yield f"# weights, SHA-256: {shown(manifest.model.weights_sha256 or 'none')}"
    yield f"# methods: {shown('; '.join(_method_texts(manifest)))}"
    yield f"# layer: {shown(' + '.join(manifest.layer.paths) if manifest.layer else 'none')}"
    yield f"# target: {shown(manifest.target)}"
    yield f"# sources: {shown(' '.join(map(shlex.quote, manifest.sources)))}"
    yield f"# preprocessing: {_json(manifest.preprocessing)}"
    yield f"# settings: {_json(manifest.settings)}"


def _json(value: object) -> str:
    return shown(json.dumps(value, ensure_ascii=False, sort_keys=True))
