# ruff: noqa: E501  (one line a metric)
"""The registry: one line a metric."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from math import inf
from typing import Literal

from torch import Tensor

from whycam.errors import UsageError
from whycam.evaluation import curves, legacy, localisation, mosaics, sanity

Direction = Literal["higher", "lower", "neither"]
Standing = Literal["measure", "descriptor", "unit test", "as others report it", "legacy"]

NEEDS: Mapping[str, str] = {
    "maps": "the raw maps [B, *grid]",
    "important": "the signed maps at the images' size [B, *size]",
    "curves": "scores as pixels are removed, of a fill",
    "tile_drops": "the fall of the score without each tile; the same for all methods",
    "clean_probability": "the explained class's probability",
    "faded_probability": "the same of the image times its map",
    "shown_map": "the map as it is laid over the image",
    "shown_again": "the same of the image times its map, explained again",
    "masks": "true masks [B, *size]",
    "randomised_maps": "the maps of a copy of the model with random weights",
    "rival_maps": "the maps of the likeliest other class",
    "noisy_maps": "the maps under small noises",
    "same_prediction": "whether the prediction stays under each noise",
    "cells": "which cell of a mosaic is explained",
}
"""What a metric may ask for by the names of its function's parameters."""

MetricFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class Metric:
    """A registered metric: ``function`` gives figures [B], or [scales, B], from what its parameters name.

    ``forwards`` says in words what an image costs. ``low`` and ``high`` bound the figures; None where the
    score's own range does. ``fills`` are those it is measured under, one figure each.
    """

    name: str
    function: MetricFunction
    forwards: str
    low: float | None
    high: float | None
    direction: Direction
    source: str
    summary: str
    fills: tuple[str, ...] = ()
    standing: Standing = "measure"

    @cached_property
    def needs(self) -> frozenset[str]:
        """The inputs that the function asks for by name; raises UsageError on an unknown one."""
        wanted = {
            each.name
            for each in inspect.signature(self.function).parameters.values()
            if each.default is each.empty
        }
        unknown = sorted(wanted - NEEDS.keys())
        if unknown or not wanted:
            raise UsageError(
                f"metric {self.name!r} asks for {unknown[0] if unknown else 'nothing'!r}, which nothing provides; "
                f"name its parameters after what it needs: {', '.join(NEEDS)}"
            )
        return frozenset(wanted)

    @property
    def told(self) -> str:
        """Its name; with its fills where they are not the registered metric's."""
        usual = self.name in METRICS and METRICS[self.name].fills == self.fills
        return self.name if usual or not self.fills else f"{self.name} under {', '.join(self.fills)}"

    @property
    def by_scale(self) -> bool:
        """Whether there is a figure for each scale of the score: its logit and its probability."""
        return not self.needs.isdisjoint({"curves", "tile_drops"})


_FILLS = ("blur", "push-pull")
_CURVE = "2 S - 1 a fill, for all three"

_BUILT_IN = (
    Metric("insertion", curves.insertion, _CURVE, None, None, "higher", "Petsiuk 2018", "mean score as the most important pixels come back first", _FILLS),
    Metric("deletion", curves.deletion, _CURVE, None, None, "lower", "Petsiuk 2018", "mean score as the most important pixels go first", _FILLS),
    Metric("srg", curves.srg, _CURVE, None, None, "higher", "Blücher 2024", "area between removing the least and the most important first; 0 is chance", _FILLS),
    Metric("tilecorr", curves.tilecorr, "16, once for all methods", -1.0, 1.0, "higher", "after Alvarez-Melis 2018", "rank correlation of each tile's drop with the map's sum there; 0 is chance"),
    Metric("energy", localisation.energy, "0", 0.0, 1.0, "higher", "Wang 2020", "positive mass inside the true mask; chance is the mask's area"),
    Metric("enrichment", localisation.enrichment, "0", 0.0, inf, "higher", "energy over area", "mass inside the mask over the mask's area; 1 is chance"),
    Metric("pointing", localisation.pointing, "0", 0.0, 1.0, "higher", "Zhang 2018", "maximum on the object, within one grid cell"),
    Metric("auprc", localisation.auprc, "0", 0.0, 1.0, "higher", "average precision", "pixels ranked by the map against the mask; chance is the mask's area"),
    Metric("iou", localisation.iou, "0", 0.0, 1.0, "higher", "Choe 2020", "overlap at the threshold that is best on other images"),
    Metric("randomisation", sanity.randomisation, "1 explanation", 0.0, 2.0, "higher", "Adebayo 2018", "how far the map moves when the weights are random; 0 is not at all"),
    Metric("contrast", sanity.contrast, "1 explanation", 0.0, 2.0, "higher", "after Rao 2022", "how far the map moves when another class is explained; 0 is not at all"),
    Metric("stability", sanity.stability, "10 explanations", 0.0, inf, "lower", "Agarwal 2022", "largest relative change of the map under small noise"),
    Metric("sparsity", sanity.sparsity, "0", 0.0, 1.0, "neither", "Chalasani 2020", "Gini index of the map's magnitudes", standing="descriptor"),
    Metric("road", curves.road, "2 S - 1", None, None, "higher", "Rong 2022", "half the gap between the two orders, removed pixels imputed from those around", ("linear",), "as others report it"),
    Metric("averagedrop", legacy.averagedrop, "1", 0.0, 1.0, "lower", "Chattopadhay 2018", "share of the probability lost when the image is multiplied by the map", standing="legacy"),
    Metric("increase", legacy.increase, "1", 0.0, 1.0, "higher", "Chattopadhay 2018", "whether the probability rises then", standing="legacy"),
    Metric("gain", legacy.gain, "1", 0.0, 1.0, "higher", "Zhang 2023", "share of the missing probability that is won then", standing="legacy"),
    Metric("adcc", legacy.adcc, "1 and 1 explanation", 0.0, 1.0, "higher", "Poppi 2021", "harmonic mean of what is kept, simplicity and coherency", standing="legacy"),
    Metric("gridpg", mosaics.gridpg, "1 explanation", 0.0, 1.0, "higher", "Böhle 2021", "mass in the class's cell of a mosaic; 0.25 is chance", standing="unit test"),
    Metric("difull", mosaics.difull, "1 explanation", 0.0, 1.0, "higher", "Rao 2022", "the same where the cells can't see each other; 1 is right", standing="unit test"),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _BUILT_IN}

USUAL = ("srg", "insertion", "deletion", "tilecorr", "sparsity")
"""Measured where nothing is asked for."""
MAIN = ("srg", "tilecorr", "energy", "enrichment", "pointing")
"""Looked at first."""
WITH_MASKS = ("energy", "enrichment", "pointing", "auprc", "iou")
"""Measured beside them where there are masks."""


def find_metric(name: str) -> Metric:
    """Return the metric of that name, also of another package under ``whycam.metrics``. Raises UsageError."""
    if name in METRICS:
        return METRICS[name]
    for point in entry_points(group="whycam.metrics", name=name):
        loaded = point.load()
        if isinstance(loaded, Metric):
            return loaded
        raise UsageError(
            f"the entry point {point.value!r} gives a {type(loaded).__name__}; expected a Metric"
        )
    near = difflib.get_close_matches(name, METRICS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METRICS)}"
    raise UsageError(f"metric {name!r} is unknown; {hint}")


def find_metrics(names: Sequence[str | Metric] | None, *, masks: bool) -> tuple[Metric, ...]:
    """Return the metrics of these names, or the usual ones; a Metric stands for itself. Raises UsageError."""
    chosen = names if names is not None else (*USUAL, *(WITH_MASKS if masks else ()))
    given = (name if isinstance(name, Metric) else find_metric(name) for name in chosen)
    found = tuple(dict.fromkeys(given))
    if not found:
        raise UsageError(f"no metrics; give at least one of {', '.join(METRICS)}")
    without = [metric.name for metric in found if "masks" in metric.needs]
    if without and not masks:
        raise UsageError(f"metric {without[0]!r} needs true masks; give masks, or leave it out")
    return found
