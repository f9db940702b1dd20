"""Which images are explained with the best checkpoint, and the list that names them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from whycam.selection.ranking import Result
from whycam.selection.request import SelectRequest
from whycam.selection.split import Split
from whycam.selection.views import Views
from whycam.selection.written import csv_bytes

MOST_BY_DEFAULT = 8


@dataclass(frozen=True)
class ChosenImage:
    """An image that is explained: its place in the split, its name in the run folder, its file, its class."""

    index: int
    id: str
    path: str
    label: str


def choose_images(
    request: SelectRequest, split: Split, views: Views, best: Result
) -> tuple[tuple[ChosenImage, ...], list[str]]:
    """Return the images that were asked for, each once, or a few, and a warning for each that cannot be had.

    Their names are those of the weights' folder, the best accuracy and the index, so that a picture that is
    passed on still says what it is of.
    """
    indices, warnings = _indices(request.images, split, views)
    weights = request.weights.resolve().name
    start = f"{weights}-acc{best.score.accuracy:.4f}"
    chosen = [
        ChosenImage(
            index=index,
            id=f"{start}-{index:06d}",
            path=os.path.abspath(split.items[index].path),
            label=split.folders[split.classes[index]],
        )
        for index in indices
    ]
    return tuple(chosen), warnings


def _indices(asked: Sequence[int] | None, split: Split, views: Views) -> tuple[list[int], list[str]]:
    readable = frozenset(views.places)
    if asked is None:
        firsts: dict[int, int] = {}
        for place in views.places:
            firsts.setdefault(split.classes[place], place)
        return sorted(firsts.values())[:MOST_BY_DEFAULT], []
    warnings = [
        f"image {index} cannot be read and is not explained"
        if 0 <= index < len(split.items)
        else f"there is no image {index}: {split.name!r} has those from 0 to {len(split.items) - 1}"
        for index in dict.fromkeys(asked)
        if index not in readable
    ]
    return [index for index in dict.fromkeys(asked) if index in readable], warnings


def images_csv(chosen: Sequence[ChosenImage]) -> bytes:
    """Write the list that ``whycam explain`` takes."""
    return csv_bytes(("path", "label", "id"), [(one.path, one.label, one.id) for one in chosen])
