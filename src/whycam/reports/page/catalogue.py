"""What the runs hold, without maps and pictures: which images, which columns, what was predicted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from whycam.errors import UsageError
from whycam.store import Key, Row, Run
from whycam.store.schema import plain_text

Values: TypeAlias = Mapping[Key, Mapping[str, float]]
"""Further numbers of a run's rows by name, such as measures of faithfulness."""

NO_METHOD = "no method"

_FACTS = (
    "index",
    "id",
    "content_hash",
    "label",
    "prediction",
    "prediction_name",
    "probability",
    "target",
    "score",
    "method",
    "blank",
    "error",
)

FAILURES_NAMED = 10
"""Of a run, in a warning."""


@dataclass(frozen=True)
class Column:
    """What is shown beside the others for an image: a run's method, and its target where it has several."""

    run: int
    method: str
    target: str | None


@dataclass
class RunFacts:
    """A run's facts by image, None where it has not that image, and what its page must warn of.

    ``right`` says whether the prediction is the label, None where one of them is not known.
    """

    predicted: list[str | None]
    right: list[bool | None]
    probability: list[float | None]
    images: set[int] = field(default_factory=set)
    several_targets: bool = False
    blank: int = 0
    failed: dict[int, str] = field(default_factory=dict)


@dataclass
class Catalogue:
    """Images of all runs, in the first run's order, and what every column says of them.

    An image is one whatever run it is in: its id says so. ``scores`` and ``values`` are by column, the
    latter by name too; each list has a place for every image.
    """

    places: Mapping[str, int]
    labels: list[str | None]
    runs: list[RunFacts]
    columns: dict[Column, int] = field(default_factory=dict)
    scores: list[list[float | None]] = field(default_factory=list)
    values: list[dict[str, list[float | None]]] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    rows: int = 0

    @property
    def names(self) -> Sequence[str]:
        """The images' ids in order."""
        return list(self.places)

    def column_of(self, run: int, row: Row) -> int | None:
        """Return the column that a row is in, None for one that was not there when the runs were read."""
        return self.columns.get(self._key(run, row.method, row.target)) if row.id in self.places else None

    def add_column(self, run: int, method: str | None, target: str | None) -> int:
        """Return a row's column, new where there is none yet."""
        column = self._key(run, method, target)
        if column not in self.columns:
            self.columns[column] = len(self.columns)
            self.scores.append([None] * len(self.places))
            self.values.append({})
        return self.columns[column]

    def _key(self, run: int, method: str | None, target: str | None) -> Column:
        return Column(run, method or NO_METHOD, target if self.runs[run].several_targets else None)


def read_catalogue(runs: Sequence[Run], values: Sequence[Values] = ()) -> Catalogue:
    """Read all runs' rows without their maps; memory grows with the rows, by some hundred bytes each.

    ``values`` has a mapping for each run, or none at all. Raises UsageError for another number of them,
    RunError where a run cannot be read.
    """
    if values and len(values) != len(runs):
        raise UsageError(f"{len(values)} mappings of values for {len(runs)} runs; give one for each run")
    places = _places(runs)
    catalogue = Catalogue(places, [None] * len(places), [_no_facts(len(places)) for _ in runs])
    for position, run in enumerate(runs):
        catalogue.runs[position].several_targets = _has_several_targets(run)
        own = values[position] if values else {}
        for record in _records(run, _FACTS):
            if record["id"] in places:  # a run that is being written grows between two readings
                _add(catalogue, position, record, own)
    return catalogue


def _no_facts(images: int) -> RunFacts:
    return RunFacts([None] * images, [None] * images, [None] * images)


def _records(run: Run, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for table in run.batches(columns):
        for record in table.to_pylist():
            yield {
                name: plain_text(value) if isinstance(value, str) else value for name, value in record.items()
            }


def _places(runs: Sequence[Run]) -> dict[str, int]:
    """Number the images in the plan's order; an unfinished run comes in the order of writing."""
    places: dict[str, int] = {}
    for run in runs:
        planned: dict[str, int] = {}
        for record in _records(run, ("id", "index")):
            planned.setdefault(record["id"], record["index"])
        for name in sorted(planned, key=planned.__getitem__):
            places.setdefault(name, len(places))
    return places


def _has_several_targets(run: Run) -> bool:
    """Say whether an image is explained by a method for more than one target.

    A run that has one target an image ("class 3", "class 5", ...) is one column, not one a class.
    """
    seen: set[tuple[str, str | None]] = set()
    for record in _records(run, ("id", "method")):
        pair = record["id"], record["method"]
        if pair in seen:
            return True
        seen.add(pair)
    return False


def _add(catalogue: Catalogue, run: int, record: Mapping[str, Any], values: Values) -> None:
    image, facts = catalogue.places[record["id"]], catalogue.runs[run]
    facts.images.add(image)
    catalogue.rows += 1
    facts.blank += bool(record["blank"])
    if record["error"] is not None:
        facts.failed.setdefault(image, record["error"] if len(facts.failed) < FAILURES_NAMED else "")
    if record["label"] is not None and catalogue.labels[image] is None:
        catalogue.labels[image] = record["label"]
    if record["content_hash"] is not None:
        known = catalogue.hashes.setdefault(image, record["content_hash"])
        if known != record["content_hash"]:
            catalogue.changed.add(image)
    _add_prediction(facts, image, record)
    column = catalogue.add_column(run, record["method"], record["target"])
    catalogue.scores[column][image] = record["score"]
    for name, value in values.get((record["id"], record["method"], record["target"]), {}).items():
        empty: list[float | None] = [None] * len(catalogue.places)
        catalogue.values[column].setdefault(name, empty)[image] = value


def _add_prediction(facts: RunFacts, image: int, record: Mapping[str, Any]) -> None:
    if record["prediction"] is None:
        return
    name, index = record["prediction_name"], str(record["prediction"])
    facts.predicted[image] = name if name is not None else f"class {index}"
    facts.probability[image] = record["probability"]
    if record["label"] is not None:
        # without class names a label is a class number, as it is in a list of images
        facts.right[image] = record["label"] == (index if name is None else name)
