"""What a run's rows say, counted in one pass in bounded memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whycam.errors import RunError
from whycam.store import Manifest, Run
from whycam.store.schema import plain_text

NAMED_FAILURES = 10


@dataclass
class MethodFacts:
    """One method's rows: maps without an error, those of them that are all zero, layers and grids."""

    maps: int = 0
    blank: int = 0
    layers: set[str] = field(default_factory=set)
    grids: set[tuple[int, ...]] = field(default_factory=set)


@dataclass
class RunFacts:
    """A run under a name that tells it from the others of a report, and what its rows say.

    ``images`` have a row, ``failures`` of them one with an error; the first few of those are named as
    (id, error). ``labelled`` images were explained and have a class as label; ``right`` are predicted so.
    """

    name: str
    run: Run
    images: int = 0
    failures: int = 0
    named_failures: tuple[tuple[str, str], ...] = ()
    labelled: int = 0
    right: int = 0
    methods: dict[str, MethodFacts] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """How the run was made."""
        return self.run.manifest

    @property
    def explained(self) -> int:
        """The number of images without an error."""
        return self.images - self.failures

    @property
    def blank(self) -> int:
        """The number of maps that are all zero."""
        return sum(method.blank for method in self.methods.values())

    @property
    def layers(self) -> dict[str, list[str]]:
        """Each layer, as the rows name it, with the methods that were explained there."""
        found: dict[str, list[str]] = {}
        for name, method in self.methods.items():
            for layer in sorted(method.layers):
                found.setdefault(layer, []).append(name)
        return found


_COLUMNS = ("index", "id", "label", "prediction", "method", "layer", "grid", "blank", "error")


def facts_of(runs: Sequence[Run]) -> list[RunFacts]:
    """Count the rows of each run. Raises RunError where a run has no row without an error."""
    found = [_count(run, name) for run, name in zip(runs, names_of(runs), strict=True)]
    for facts in found:
        if not any(method.maps for method in facts.methods.values()):
            first = f"; the first: {facts.named_failures[0][1]}" if facts.named_failures else ""
            rows = f"{facts.failures} images, all with an error" if facts.images else "no row"
            raise RunError(
                f"run folder {str(facts.run.folder)!r} has {rows}{first}; expected an explained image; "
                "mend what failed, then go on with whycam explain ... --resume"
            )
    return found


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return a short name a run: its folder's, with as many of the folders above as tell the runs apart."""
    folders = [Path(run.folder).resolve() for run in runs]
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise RunError(f"the run folder {str(runs[0].folder)!r} was given twice; name each run once")


def _count(run: Run, name: str) -> RunFacts:
    facts = RunFacts(name, run, methods={method.name: MethodFacts() for method in run.manifest.methods})
    images, failed, judged = set[int](), set[int](), set[int]()
    failures: dict[str, str] = {}
    names = run.manifest.class_names
    for table in run.batches(_COLUMNS):
        for row in table.to_pylist():
            images.add(row["index"])
            if row["error"] is not None:
                failed.add(row["index"])
                if len(failures) < NAMED_FAILURES:
                    failures.setdefault(plain_text(row["id"]) or "", plain_text(row["error"]) or "")
                continue
            _count_map(facts.methods.setdefault(plain_text(row["method"]) or "", MethodFacts()), row)
            right = is_right(plain_text(row["label"]), row["prediction"], names)
            if right is not None and row["index"] not in judged:
                judged.add(row["index"])
                facts.right += right
    facts.images, facts.failures, facts.labelled = len(images), len(failed), len(judged)
    facts.named_failures = tuple(failures.items())
    return facts


def _count_map(method: MethodFacts, row: Mapping[str, Any]) -> None:
    method.maps += 1
    method.blank += row["blank"]
    method.layers.add(plain_text(row["layer"]) or "")
    method.grids.add(tuple(row["grid"] or ()))


def is_right(label: str | None, prediction: int | None, class_names: Sequence[str] | None) -> bool | None:
    """Tell whether a prediction is the label, a class's name or else its index; None if unknown."""
    names = class_names or ()
    if label is None or prediction is None:
        return None
    if label in names:
        return prediction < len(names) and names[prediction] == label
    return int(label) == prediction if label.isascii() and label.isdecimal() else None
