"""A run's images, measured batch by batch: read again, compared with what the run says, and put to the metrics."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whycam.data import ImageItem
from whycam.data.masks import MaskSource, mask_view
from whycam.engine import Inputs
from whycam.engine.variants import outputs_of
from whycam.errors import ImageError, UsageError
from whycam.evaluation.evaluate import Part, Progress, Subject
from whycam.evaluation.measurements import Measurement, MeasurementLog
from whycam.evaluation.plan import Plan
from whycam.models import LoadedModel
from whycam.models.source import fixed_seed
from whycam.runs.reading import Planned, Read, Seen, Unreadable, read_ahead, reader
from whycam.store import Row, Run
from whycam.targets import ClassPerImage, Target

_FIRST = 20
_SAME_SCORE = 0.02
"""How far, of itself or of 1, a score may be from the run's: another device or number type rounds otherwise."""


@dataclass(frozen=True, eq=False)
class _Explained:
    """An image of the run, with a row for each of its methods."""

    rows: Sequence[Row]

    @property
    def planned(self) -> Planned:
        row = self.rows[0]
        return Planned(row.index, ImageItem(row.id, Path(row.path), row.label))

    @property
    def error(self) -> str | None:
        """Say why there is nothing to measure; a map with NaN in it is measured, and counted."""
        return next((row.error or "it has no map" for row in self.rows if row.map is None), None)

    @property
    def maps(self) -> dict[str, Tensor]:
        return {str(row.method): torch.from_numpy(row.map) for row in self.rows}


@dataclass(frozen=True, eq=False)
class _Ready:
    """An image to be measured: what the run has of it, what the model sees of it, and its mask there."""

    explained: _Explained
    view: Tensor
    mask: Tensor | None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Images of one kind go through the model and the metrics together."""
        return self.view.shape, tuple((name, each.shape) for name, each in self.explained.maps.items())


@dataclass
class Odd:
    """The first images that were not measured, as (id, reason); how many they are; how many have no mask."""

    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_count: int = 0
    without_mask: int = 0

    def skip(self, name: str, reason: str) -> None:
        """Count an image that is not measured."""
        self.skipped_count += 1
        if len(self.skipped) < _FIRST:
            self.skipped.append((name, reason))


@dataclass(eq=False)
class Work:
    """Measures a run's images batch by batch, and counts what is odd on the way."""

    model: LoadedModel
    subject: Subject
    plan: Plan
    log: MeasurementLog
    target: Target | None
    masks: MaskSource | None
    odd: Odd = field(default_factory=Odd)
    finished: int = 0

    def measure_all(self, run: Run, batch_size: int, max_pixels: int, progress: Progress) -> None:
        """Measure what is not known, a batch read ahead of the model."""
        planned = run.manifest.image_count
        waiting: dict[int, _Explained] = {}
        self.finished = len(self.log.known)
        progress(self.finished, planned)

        def batches() -> Iterator[list[Planned]]:
            for batch in _batches(self._to_measure(run), batch_size):
                waiting.update((one.planned.index, one) for one in batch)
                yield [one.planned for one in batch]

        read = reader(self.model.preprocessing, max_pixels)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:
            for found in read_ahead(batches(), read, executor):
                self._measure([(waiting.pop(one.subject.index), one) for one in found])
                progress(self.finished, planned)

    def _to_measure(self, run: Run) -> Iterator[_Explained]:
        for index, rows in groupby(run.rows(), key=lambda row: row.index):
            explained = _Explained(list(rows))
            if index in self.log.known:
                continue
            if explained.error is not None:
                self._skip(explained, explained.error)
                continue
            yield explained

    def _skip(self, explained: _Explained, reason: str) -> None:
        self.odd.skip(explained.rows[0].id, reason)
        self.finished += 1

    def _measure(self, batch: Sequence[tuple[_Explained, Read]]) -> None:
        kinds: dict[tuple[Any, ...], list[_Ready]] = {}
        for explained, read in batch:
            ready = self._ready(explained, read)
            if ready is not None:
                kinds.setdefault(ready.kind, []).append(ready)
        before = len(self.log.known)
        self.log.add([row for alike in kinds.values() for row in self._measured(alike)])
        self.finished += len(self.log.known) - before

    def _ready(self, explained: _Explained, read: Read) -> _Ready | None:
        """Return the image where it can be measured."""
        reason = None
        if isinstance(read, Unreadable):
            reason = read.error
        elif read.subject.content_hash != explained.rows[0].content_hash:
            reason = "the file is not what it was when it was explained"
        else:
            try:
                return _Ready(explained, read.view, self._mask(read))
            except ImageError as error:
                reason = str(error)
        self._skip(explained, reason)
        return None

    def _mask(self, seen: Seen) -> Tensor | None:
        """Return the mask as the model sees it; all zero where there is none: no figure, and counted."""
        if self.masks is None:
            return None
        size = tuple(seen.view.shape[1:])
        mask = self.masks.of(seen.subject.id, seen.subject.path, seen.geometry.original)
        if mask is None:
            self.odd.without_mask += 1
            return torch.zeros(size, dtype=torch.bool)
        return mask_view(mask, seen.geometry, size)

    def _measured(self, ready: Sequence[_Ready]) -> list[Measurement]:
        """Measure images of one kind, but those for which the model says something else than in the run."""
        inputs = Inputs(self.model.as_input(torch.stack([one.view for one in ready])))
        target = self.target or _classes_of(ready, inputs.images.device)
        with fixed_seed():  # a model that draws must not depend on which images came before
            outputs = outputs_of(self.subject.module, inputs)
            same = [
                _is_close(score, one.explained.rows[0].score)
                for score, one in zip(target(outputs).tolist(), ready, strict=True)
            ]
            if not all(same):
                return self._without(ready, same)
            first = ready[0].explained.rows
            maps = {
                str(row.method): torch.stack([one.explained.maps[str(row.method)] for one in ready])
                for row in first
            }
            part = Part(
                [one.explained.rows[0].index for one in ready],
                [one.explained.rows[0].id for one in ready],
                inputs,
                target,
                masks=_together([one.mask for one in ready]),
            )
            on_device = {name: each.to(inputs.images.device) for name, each in maps.items()}
            return self.subject.measure_maps(part, self.plan, on_device, outputs)

    def _without(self, ready: Sequence[_Ready], same: Sequence[bool]) -> list[Measurement]:
        if not any(same) and not self.log.known:
            raise UsageError(
                f"the model's score for {ready[0].explained.rows[0].id!r} is not the run's "
                f"({ready[0].explained.rows[0].score:.4g}), nor are those of the images with it; give the "
                "model, weights and target that the run was made with"
            )
        for one, alike in zip(ready, same, strict=True):
            if not alike:
                self._skip(one.explained, "the model's score is not the one in the run")
        rest = [one for one, alike in zip(ready, same, strict=True) if alike]
        return self._measured(rest) if rest else []


def _batches(images: Iterator[_Explained], size: int) -> Iterator[list[_Explained]]:
    while batch := list(islice(images, size)):
        yield batch


def _classes_of(ready: Sequence[_Ready], device: torch.device) -> Target:
    """Return the class that the run explains of each image. Raises UsageError where it has none."""
    rows = [one.explained.rows[0] for one in ready]
    classes = [row.target_class for row in rows]
    known = [each for each in classes if each is not None]
    if len(known) < len(rows):
        raise UsageError(
            f"the run explains {rows[0].target!r}, which is no class of each image; give the target again"
        )
    return ClassPerImage(torch.tensor(known, device=device))


def _is_close(score: float, of_run: float | None) -> bool:
    """Say whether the model still gives the run's score; where that was no number, nothing is compared."""
    if of_run is None or not math.isfinite(of_run):
        return True
    return abs(score - of_run) <= _SAME_SCORE * max(1.0, abs(of_run))


def _together(masks: Sequence[Tensor | None]) -> Tensor | None:
    known = [mask for mask in masks if mask is not None]
    return torch.stack(known) if known else None
