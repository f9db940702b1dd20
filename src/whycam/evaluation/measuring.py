"""One batch, all methods, all metrics: what they share is computed once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from whycam.errors import UsageError
from whycam.evaluation.curves import (
    ByScale,
    Curves,
    Score,
    TileDrops,
    clean_scores,
    curves_of,
    removed_scores,
    tile_drops,
)
from whycam.evaluation.fills import Filler, fill_named
from whycam.evaluation.legacy import faded, shown
from whycam.evaluation.localisation import Masks
from whycam.evaluation.mosaics import Cells
from whycam.evaluation.ranking import are_finite, are_informative, importance, removal_ranks, tied_share
from whycam.evaluation.registry import Metric
from whycam.evaluation.sanity import NOISE_DRAWS, noisy
from whycam.evaluation.twins import Maps, Twins
from whycam.types import Classes, Flags, Heatmaps, Images, Map, Rows, Scores

LOGIT, PROBABILITY = "logit", "probability"
TILE_FILL = "push-pull"
"""Fills a removed tile: as the pixels around it go on."""


@runtime_checkable
class Again(Protocol):
    """Explains the batch's images again, with the same classes, after something changed."""

    def randomised(self) -> Maps:
        """Return each method's maps of a copy of the model with random weights."""
        ...

    def rival(self) -> Maps:
        """Return each method's maps of the likeliest other class."""
        ...

    def predictions(self) -> Classes:
        """Return what is predicted for the images as they are."""
        ...

    def of(self, images: Images) -> tuple[Maps, Classes]:
        """Return each method's maps of changed images, and what is predicted for these."""
        ...

    def by(self, method: str, images: Images) -> Map:
        """Return one method's maps of changed images."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """Images with each method's maps, and all that metrics may ask about them.

    ``score`` gives the scores of changed images on each of ``scales``. ``again`` explains anew, and is only
    asked where a metric needs another explanation. ``twins`` say where a map is another method's, whose curve
    then serves for both.
    """

    images: Images
    maps: Maps
    score: Score
    scales: tuple[str, ...] = (LOGIT,)
    masks: Masks | None = None
    cells: Cells | None = None
    again: Again | None = None
    steps: int = 20
    seed: int = 0
    twins: Twins = field(default_factory=dict)
    _kept: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse maps that are not of these images, and too few steps."""
        if self.steps < 2:
            raise UsageError(f"{self.steps} steps; a curve needs at least 2")
        for method, maps in self.maps.items():
            if len(maps) != len(self.images) or maps.ndim != self.images.ndim - 1:
                raise UsageError(
                    f"the maps of {method!r} are {list(maps.shape)} for images {list(self.images.shape)}; "
                    f"expected "
                    "one map an image with the same number of spatial axes"
                )

    def figures(self, metrics: Sequence[Metric]) -> dict[str, dict[str, Tensor]]:
        """Return by method and column what each metric gives, [B] each ([B, thresholds] for ``iou``)."""
        return {one.method: dict(one.figures) for one in self.each(metrics)}

    def each(self, metrics: Sequence[Metric]) -> Iterator["MethodFigures"]:
        """Measure method by method; what was one's own is let go of before the next."""
        for method in self.maps:
            yield MethodFigures(method, self._of_method(method, metrics), self._courses(method, metrics))
            self._forget(method)

    def _of_method(self, method: str, metrics: Sequence[Metric]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for metric in metrics:
            for fill in metric.fills or ("",):
                given = {need: PROVIDERS[need](self, method, fill) for need in metric.needs}
                values = metric.function(**given)
                rows = values if metric.by_scale else [values]
                found |= dict(zip(columns_of(metric, fill, self.scales), rows, strict=True))
        return found

    def _courses(self, method: str, metrics: Sequence[Metric]) -> dict[str, Tensor]:
        """Return the curves that the metrics were read from, on the last scale [B, steps + 1]."""
        fills = dict.fromkeys(fill for one in metrics if "curves" in one.needs for fill in one.fills)
        found = {fill: self.curves(method, fill) for fill in fills}
        return {
            f"{order}_{fill}": getattr(curves, order)[-1]
            for fill, curves in found.items()
            for order in ("least", "most")
        }

    def _forget(self, method: str) -> None:
        """Let go of what is a method's own: memory must not grow with the methods."""
        for key in [key for key in self._kept if key[:2] == ("of", method)]:
            del self._kept[key]

    def facts(self, method: str) -> "MapFacts":
        """Return what must be said of a method's maps beside their figures."""
        maps = self.maps[method]
        finite = are_finite(maps)
        return MapFacts(
            ties=tied_share(importance(maps, self.images.shape[2:])),
            blank=finite & ~are_informative(maps),
            broken=~finite,
        )

    def once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """Return what is known under a key, made at its first use."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @cached_property
    def clean(self) -> ByScale:
        """The scores of the images as they are, for all methods and curves."""
        return clean_scores(self.score, self.images)

    @cached_property
    def tile_drops(self) -> TileDrops:
        """What each tile's removal costs, for all methods."""
        return tile_drops(self.score, self.filler(TILE_FILL), self.images, self.clean)

    def filler(self, fill: str) -> Filler:
        """Return what fills these images' removed pixels, prepared once."""
        made: Filler = self.once(("filler", fill), lambda: fill_named(fill)(self.images))
        return made

    def removed(self, fill: str) -> ByScale:
        """Return the scores of the fully removed images, for all methods."""
        found: ByScale = self.once(
            ("removed", fill), lambda: removed_scores(self.score, self.filler(fill), self.images)
        )
        return found

    def important(self, method: str) -> Heatmaps:
        """Return a method's signed maps at the images' size."""
        found: Heatmaps = self.once(
            ("of", method, "important"), lambda: importance(self.maps[method], self.images.shape[2:])
        )
        return found

    def curves(self, method: str, fill: str) -> Curves:
        """Return a method's curves under a fill, for all metrics and scales."""
        lent = any(method in twins for twins in self.twins.values())
        key = ("lent", method, fill) if lent else ("of", method, "curves", fill)
        found: Curves = self.once(key, lambda: self._curves(method, fill))
        return found

    def _curves(self, method: str, fill: str) -> Curves:
        """Measure the images whose map is the method's own, and take the others' from their twins."""
        twins = self.twins.get(method) or [None] * len(self.images)
        own = [row for row, twin in enumerate(twins) if twin is None]
        sources: dict[str | None, Curves] = {
            twin: self.curves(twin, fill) for twin in twins if twin is not None
        }
        if own:
            sources[None] = self._measured(method, fill, torch.tensor(own, device=self.images.device))
        place = {row: at for at, row in enumerate(own)}
        columns = [(sources[twin], place.get(row, row)) for row, twin in enumerate(twins)]
        least = torch.stack([curves.least[:, at] for curves, at in columns], 1)
        return Curves(least, torch.stack([curves.most[:, at] for curves, at in columns], 1))

    def _measured(self, method: str, fill: str, rows: Rows) -> Curves:
        ranks = self.once(("of", method, "ranks"), lambda: removal_ranks(self.important(method)))
        ends = (self.clean, self.removed(fill))
        return curves_of(self.score, self.filler(fill), ranks[:, rows], rows, *ends, self.steps)

    def probability(self, scores: ByScale) -> Scores:
        """Return the scores on the scale of probabilities. Raises UsageError where there are none."""
        if PROBABILITY not in self.scales:
            raise UsageError(
                "averagedrop, increase, gain and adcc need a class's probability; explain a class"
            )
        return scores[self.scales.index(PROBABILITY)]

    def faded_images(self, method: str) -> Images:
        """Return the images times their maps."""
        made: Images = self.once(
            ("of", method, "faded images"), lambda: faded(self.images, self.maps[method])
        )
        return made

    def faded_scores(self, method: str) -> ByScale:
        """Return the scores of the images times their maps."""
        images = self.faded_images(method)
        rows = torch.arange(len(images), device=images.device)

        def make(which: Rows) -> Images:
            return images[which]

        found: ByScale = self.once(("of", method, "faded"), lambda: self.score(rows, make))
        return found

    def anew(self) -> Again:
        """Return what explains again. Raises UsageError where nothing does."""
        if self.again is None:
            raise UsageError(
                "randomisation, contrast, stability and adcc explain again; give the model and the method, "
                "not only "
                "its maps"
            )
        return self.again

    def under_noise(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return each method's maps under all noises [N, B, *grid], and where the prediction stays [N, B]."""

        def make() -> tuple[dict[str, Tensor], Tensor]:
            again = self.anew()
            clean = again.predictions()
            draws = [again.of(noisy(self.images, draw, self.seed)) for draw in range(NOISE_DRAWS)]
            maps = {method: torch.stack([found[method] for found, _ in draws]) for method in self.maps}
            return maps, torch.stack([predicted == clean for _, predicted in draws])

        found: tuple[dict[str, Tensor], Tensor] = self.once(("noise",), make)
        return found

    def shown(self, maps: Map) -> Heatmaps:
        """Return maps as they are laid over the images."""
        return shown(maps, self.images.shape[2:])

    def given(self, name: str) -> Tensor:
        """Return the masks or the cells. Raises UsageError where there are none."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise UsageError(f"a metric needs {name}; give them, or leave the metric out")
        return value


@dataclass(frozen=True, eq=False)
class MethodFigures:
    """A method's figures by column, and its curves by order and fill, such as ``least_blur``."""

    method: str
    figures: Mapping[str, Tensor]
    courses: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class MapFacts:
    """Of each map [B]: its share of tied pixels, whether it is constant, whether it holds NaN or infinity."""

    ties: Scores
    blank: Flags
    broken: Flags


Provider: TypeAlias = Callable[[Batch, str, str], Any]
"""Gives what a metric asks for under a name, for a method and a fill."""

PROVIDERS: Mapping[str, Provider] = {
    "maps": lambda batch, method, fill: batch.maps[method],
    "important": lambda batch, method, fill: batch.important(method),
    "curves": lambda batch, method, fill: batch.curves(method, fill),
    "tile_drops": lambda batch, method, fill: batch.tile_drops,
    "clean_probability": lambda batch, method, fill: batch.probability(batch.clean),
    "faded_probability": lambda batch, method, fill: batch.probability(batch.faded_scores(method)),
    "shown_map": lambda batch, method, fill: batch.shown(batch.maps[method]),
    "shown_again": lambda batch, method, fill: batch.shown(
        batch.anew().by(method, batch.faded_images(method))
    ),
    "masks": lambda batch, method, fill: batch.given("masks"),
    "cells": lambda batch, method, fill: batch.given("cells"),
    "randomised_maps": lambda batch, method, fill: batch.once(("randomised",), batch.anew().randomised)[
        method
    ],
    "rival_maps": lambda batch, method, fill: batch.once(("rival",), batch.anew().rival)[method],
    "noisy_maps": lambda batch, method, fill: batch.under_noise()[0][method],
    "same_prediction": lambda batch, method, fill: batch.under_noise()[1],
}


def columns_of(metric: Metric, fill: str, scales: Sequence[str]) -> list[str]:
    """Name a metric's figures, such as ``srg_blur_logit``: fill and scale where there are any."""
    stem = "_".join(part for part in (metric.name, fill) if part)
    return [f"{stem}_{scale}" for scale in scales] if metric.by_scale else [stem]
