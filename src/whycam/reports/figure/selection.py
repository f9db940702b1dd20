"""Which images a figure shows: found from a run's light columns, whatever its number of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from whycam.errors import RunError, UsageError
from whycam.store import Row, Run
from whycam.store.schema import plain_text, safe_text, table_to_rows

Reason: TypeAlias = Literal["first in the run", "wrong prediction", "asked for"]
"""Why an image is on the figure."""

_LIGHT = ("index", "id", "label", "prediction", "probability", "error")
_NAMED = 3


@dataclass(frozen=True)
class Choice:
    """The images to show, each with the reason, of ``total`` in the run; ``failed`` of those have no map."""

    images: tuple[tuple[str, Reason], ...]
    total: int
    failed: int


class Judge:
    """Tells whether a prediction is right, as far as a label says so."""

    def __init__(self, class_names: Sequence[str] | None) -> None:
        """Take the class names in the order of the model's outputs; None where they are not known."""
        self._names = tuple(class_names or ())
        self._known = frozenset(self._names)

    def is_wrong(self, label: str | None, prediction: int | None) -> bool | None:
        """Return None where that is not known: no label, no prediction, or a label that is no class."""
        if label is None or prediction is None:
            return None
        if label in self._known:
            named = prediction < len(self._names)
            return not (named and self._names[prediction] == label)
        return int(label) != prediction if label.isascii() and label.isdecimal() else None


@dataclass(frozen=True)
class _Found:
    """What one pass over a run's light columns finds.

    ``earliest`` are the first images that have a map, as (index, id, wrong); ``worst`` is the wrong
    prediction with the highest probability, as (-probability, index, id); ``wanted`` are the ids asked for
    that are there.
    """

    earliest: tuple[tuple[int, str, bool], ...]
    worst: tuple[float, int, str] | None
    wanted: frozenset[str]
    total: int
    failed: int


def choose_images(runs: Sequence[Run], wanted: Sequence[str], most: int) -> Choice:
    """Choose the images to show.

    Without ``wanted`` ids these are the first run's first that have a map, in the plan's order. Where none
    of them was predicted wrong and another image was, the last of several gives way to the wrong prediction
    with the highest probability in any of the runs (the first of equals). Memory grows by two numbers an
    image, no more. Raises UsageError for an id that the first run lacks, RunError for a run without a map.
    """
    found = [_survey(run, most, frozenset(wanted)) for run in (runs[:1] if wanted else runs)]
    first = found[0]
    if wanted:
        _check_known(wanted, first)
        return Choice(tuple((name, "asked for") for name in dict.fromkeys(wanted)), first.total, first.failed)
    if not first.earliest:
        raise RunError(
            f"the run {str(runs[0].folder)!r} has no map to show: {first.failed} of its {first.total} images "
            "failed; mend what its errors say, and explain again"
        )
    return Choice(_with_a_wrong_one(found, most), first.total, first.failed)


def rows_of_images(run: Run, names: Sequence[str]) -> list[Row]:
    """Return a run's rows of these images, maps included, in the plan's order; read a table at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array([safe_text(name) for name in names], pa.string())
    found: list[Row] = []
    for table in run.batches():
        found += table_to_rows(table.filter(pc.is_in(table.column("id"), value_set=wanted)))
    return sorted(found, key=lambda row: row.index)


def _survey(run: Run, most: int, wanted: frozenset[str]) -> _Found:
    judge, seen, mapped = Judge(run.manifest.class_names), set[int](), set[int]()
    earliest: dict[int, tuple[str, bool]] = {}
    worst, present = list[tuple[float, int, str]](), set[str]()
    for index, name, label, prediction, probability, error in _light_rows(run):
        seen.add(index)
        present |= {name} & wanted
        if error is not None or index in mapped:
            continue
        mapped.add(index)
        wrong = bool(judge.is_wrong(label, prediction))
        earliest[index] = name, wrong
        if len(earliest) > most:
            del earliest[max(earliest)]
        if wrong:
            worst = [min([*worst, (-(probability or 0.0), index, name)])]
    first = tuple((index, *earliest[index]) for index in sorted(earliest))
    return _Found(first, next(iter(worst), None), frozenset(present), len(seen), len(seen - mapped))


def _light_rows(run: Run) -> Iterator[tuple[Any, ...]]:
    for table in run.batches(_LIGHT):
        columns = [table.column(name).to_pylist() for name in _LIGHT]
        for index, name, label, *rest in zip(*columns, strict=True):
            yield (index, plain_text(name), plain_text(label), *rest)


def _check_known(wanted: Sequence[str], found: _Found) -> None:
    unknown = [name for name in wanted if name not in found.wanted]
    if unknown:
        there = ", ".join(repr(name) for _, name, _ in found.earliest[:_NAMED]) or "none with a map"
        raise UsageError(f"no image {unknown[0]!r} in the run; expected ids of it, such as {there}")


def _with_a_wrong_one(found: Sequence[_Found], most: int) -> tuple[tuple[str, Reason], ...]:
    names = [name for _, name, _ in found[0].earliest]
    chosen: list[tuple[str, Reason]] = [(name, "first in the run") for name in names]
    worst = min((one.worst for one in found if one.worst), default=None)
    shown = any(wrong and name in names for one in found for _, name, wrong in one.earliest)
    if worst is None or shown or most == 1:
        return tuple(chosen)
    return (*chosen[: most - 1], (worst[2], "wrong prediction"))
