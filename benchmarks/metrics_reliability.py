"""How far each metric can be relied on: does it prefer methods to controls, does its order of methods hold?

A metric that can't tell a method of the literature from a map that never saw the model says nothing of
either; one that orders methods otherwise under another fill says more of the fill. Part of ``make verify``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from benchmarks.beds import Shown, cell, shown
from benchmarks.known_answers import Figure
from numpy.typing import NDArray

from whycam.evaluation import CONTROLS, METRICS, evaluate
from whycam.evaluation.ranking import rank_correlation
from whycam.evaluation.registry import Metric

SENSIBLE = (
    "gradcam",
    "gradcam++",
    "layercam",
    "ablationcam",
    "scorecam",
    "occlusion",
    "integrated",
    "guidedbackprop",
)
"""Chosen before anything was measured: the methods that evaluations in the literature compare most, one of
each idea. `cam`, `hirescam` and `xgradcam` have `gradcam`'s map here, which would count several times."""
IMAGES, STABILITY_IMAGES = 24, 8
FILLS = ("blur", "push-pull", "linear", "zero")
CURVES = ("insertion", "deletion", "srg")
SCALES = ("logit", "probability")
NOT_JUDGED = {"gridpg": "unit test", "difull": "unit test", "sparsity": "descriptor"}
"""Metrics that don't judge a map on a picture."""
BY_CONSTRUCTION = ("randomisation", "contrast", "stability")
"""Metrics that the controls lose or win whatever the network: they never ask it."""
RESAMPLES = 1000

Values = NDArray[np.float64]


def fills_of(metric: Metric) -> tuple[str, ...]:
    """Return the fills that a metric is measured under here: all of them for the curves."""
    return FILLS if metric.name in CURVES else metric.fills


def measured_metrics() -> list[Metric]:
    """Return the metrics under all the fills that are compared."""
    return [replace(one, fills=fills_of(one)) for one in METRICS.values() if one.name not in NOT_JUDGED]


@dataclass(frozen=True)
class Task:
    """Some of the metrics on the first pictures of a bed's network: ``network`` names it in the tables."""

    network: str
    metrics: tuple[Metric, ...]
    images: int
    bed: str
    pictures: str


NETWORKS = {"classifier": ("classifier", "digits"), "object": ("bam", "object")}
"""The networks by their name in their bed: one trained from nothing, and the demo's. Their pictures."""


def tasks() -> list[Task]:
    """Split the work so that processors share it; what takes longest first."""
    every = measured_metrics()
    linear = [replace(one, fills=("linear",)) for one in every if "linear" in one.fills]
    others = [replace(one, fills=tuple(fill for fill in one.fills if fill != "linear")) for one in every]
    others = [one for one in others if one.name not in ("road", "stability")]
    split = ((linear, IMAGES), (others, IMAGES), ([METRICS["stability"]], STABILITY_IMAGES))
    return [
        Task(network, tuple(metrics), images, *place)
        for metrics, images in split
        for network, place in NETWORKS.items()
    ]


@dataclass(frozen=True, eq=False)
class Measured:
    """A column of a metric on a network: figures [methods, images], methods first and then the controls."""

    metric: str
    direction: str
    methods: tuple[str, ...]
    values: Values


Columns = Mapping[str, Measured]
"""By column, such as ``srg_blur_logit``."""


def measure(beds: Path, task: Task) -> dict[str, Measured]:
    """Evaluate the methods and controls on a task's network and pictures."""
    given = shown(beds / task.bed, task.network, task.pictures).of(task.images)
    return evaluated(given, SENSIBLE, task.metrics)


def evaluated(
    given: Shown, methods: Sequence[str], metrics: Sequence[Metric], *, steps: int = 20
) -> dict[str, Measured]:
    """Return every column of the metrics, in the order of the evaluation's methods."""
    found = evaluate(
        given.network,
        given.images,
        methods,
        target=list(given.targets),
        layer=given.layer,
        metrics=metrics,
        masks=given.masks,
        steps=steps,
    )
    return {
        column: Measured(
            metric.name,
            metric.direction,
            found.methods,
            np.array([found.values(method, column) for method in found.methods]),
        )
        for column, metric in found.columns.items()
    }


def beaten(measured: Measured) -> Values:
    """Return by image the share of pairs in which a method is better than a control, ties as half [images].

    Pairs without a figure are left out; NaN for an image that has no pair.
    """
    sign = -1.0 if measured.direction == "lower" else 1.0
    control = np.array([name in CONTROLS for name in measured.methods])
    values = sign * measured.values
    ours, theirs = values[~control][:, None], values[control][None]
    won = np.where(np.isnan(ours) | np.isnan(theirs), math.nan, (ours > theirs) + (ours == theirs) / 2)
    known = np.isfinite(won)
    pairs = known.sum((0, 1))
    return np.where(pairs > 0, np.where(known, won, 0).sum((0, 1)) / np.maximum(pairs, 1), math.nan)


def image_by_image(measured: Measured) -> Figure:
    """Return how often a method beats a control on an image, with the interval over the images."""
    shares = beaten(measured)
    return Figure.mean(torch.from_numpy(shares[np.isfinite(shares)]))


def on_the_means(measured: Measured) -> float:
    """Return the share of pairs in which a method's mean over the images is better than a control's."""
    return float(beaten(replace(measured, values=_means(measured.values)[:, None]))[0])


def agreement(one: Measured, other: Measured, drawn: Values | None = None) -> float:
    """Return Spearman's correlation of two columns' means over the images, or over those ``drawn``."""
    of = slice(None) if drawn is None else drawn.astype(int)
    means = [torch.from_numpy(_means(each.values[:, of]))[None] for each in (one, other)]
    return float(rank_correlation(*means)[0])


def _means(values: Values) -> Values:
    """Return each method's mean over the images that have a figure; NaN where none has."""
    known = np.isfinite(values)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, values, 0).sum(1) / np.maximum(count, 1), math.nan)


@dataclass(frozen=True)
class Agreement:
    """How alike the orders of methods are under pairs of fills; the mean with its interval over the images.

    ``alone`` is the mean without the controls, which are easier to keep in their places.
    """

    pairs: Mapping[tuple[str, str], float]
    mean: Figure
    alone: float


def agreements(columns: Columns, metric: str, scale: str) -> Agreement:
    """Compare a metric's order of methods under each pair of fills."""
    by_fill = {fill: columns[f"{metric}_{fill}_{scale}"] for fill in FILLS}
    pairs = list(combinations(FILLS, 2))
    whole = {pair: agreement(by_fill[pair[0]], by_fill[pair[1]]) for pair in pairs}
    count = next(iter(by_fill.values())).values.shape[1]
    generator = np.random.default_rng(0)
    again = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(count, size=count).astype(float)
        again.append(np.mean([agreement(by_fill[one], by_fill[other], drawn) for one, other in pairs]))
    low, high = np.quantile(again, [0.025, 0.975])
    bare = {fill: _without_controls(column) for fill, column in by_fill.items()}
    alone = [agreement(bare[one], bare[other]) for one, other in pairs]
    figure = Figure(float(np.mean(list(whole.values()))), count, float(low), float(high))
    return Agreement(whole, figure, float(np.mean(alone)))


def _without_controls(measured: Measured) -> Measured:
    kept = [at for at, name in enumerate(measured.methods) if name not in CONTROLS]
    return replace(measured, methods=tuple(measured.methods[at] for at in kept), values=measured.values[kept])


ELSEWHERE: Mapping[str, str] = {
    "increase": "0.50",
    "averagedrop": "0.69",
    "deletion_zero_logit": "0.70",
    "deletion_zero_probability": "0.70",
    "energy": "0.92",
    **{f"srg_{fill}_logit": "0.83 to 0.95" for fill in FILLS},
}
"""How often methods beat controls in an earlier test: 13 methods, five controls, Eigen-CAM among them."""
ELSEWHERE_AGREED: Mapping[tuple[str, str], str] = {
    ("deletion", "logit"): "0.70",
    ("deletion", "probability"): "0.70",
    ("insertion", "logit"): "0.58",
    ("insertion", "probability"): "0.58",
    ("srg", "logit"): "0.89",
    ("srg", "probability"): "0.84",
}

Found = Mapping[str, Columns]
"""By network."""


def expected_columns() -> list[str]:
    """Return every column that the tables have, in the order of the registry."""
    names = []
    for metric in measured_metrics():
        stems = [f"{metric.name}_{fill}" for fill in metric.fills] or [metric.name]
        names += [f"{stem}_{scale}" for stem in stems for scale in SCALES] if metric.by_scale else stems
    return names


def beaten_lines(found: Found, names: Sequence[str]) -> Iterator[str]:
    """Give the table of how often methods beat controls by these columns."""
    heads = [f"{network}: {what}" for network in found for what in ("on a picture", "on the means")]
    yield f"| figure | {' | '.join(heads)} | elsewhere |"
    yield "| --- |" + " --- |" * (len(heads) + 1)
    for name in names:
        cells = [text for columns in found.values() for text in _beaten_cells(columns[name])]
        yield f"| `{name}` | {' | '.join(cells)} | {ELSEWHERE.get(name, '')} |"


def _beaten_cells(measured: Measured) -> list[str]:
    return [cell(image_by_image(measured)), f"{on_the_means(measured):.2f}"]


def agreement_lines(found: Found) -> Iterator[str]:
    """Give the table of how well the order of methods holds across fills."""
    pairs = [" and ".join(pair) for pair in combinations(FILLS, 2)]
    yield f"| network | figure | {' | '.join(pairs)} | mean | methods alone | elsewhere |"
    yield "| --- | --- |" + " --- |" * (len(pairs) + 3)
    for network, columns in found.items():
        for metric in CURVES:
            for scale in SCALES:
                one = agreements(columns, metric, scale)
                cells = [f"{value:.2f}" for value in one.pairs.values()]
                cells += [cell(one.mean), f"{one.alone:.2f}", ELSEWHERE_AGREED[metric, scale]]
                yield f"| {network} | `{metric}`, {scale} | {' | '.join(cells)} |"


OFTEN, RARELY = 0.9, 0.7
"""From where on a figure is called reliable, and below which it is called unreliable; set beforehand."""


def sentences(found: Found, names: Sequence[str]) -> Iterator[str]:
    """Say in words which columns tell methods from controls on every network, and which don't on some."""
    shares = {name: [image_by_image(columns[name]) for columns in found.values()] for name in names}
    least = {name: min(one.value for one in figures) for name, figures in shares.items()}
    chance = [
        name
        for name, figures in shares.items()
        if any(one.low is not None and one.low <= 0.5 for one in figures)
    ]
    yield _listed(
        f"A method beats a control in {100 * OFTEN:.0f} % of the comparisons or more, on both networks",
        [name for name in names if least[name] >= OFTEN],
    )
    yield _listed(
        f"In less than {100 * RARELY:.0f} %, on one of the networks at least",
        [name for name in names if least[name] < RARELY],
    )
    yield _listed("No more often than chance there (the interval reaches 50 % or lies below)", chance)


def _listed(words: str, names: Sequence[str]) -> str:
    return f"- {words}: {', '.join(f'`{name}`' for name in names) or 'none'}."


def lines(found: Found) -> Iterator[str]:
    """Give the tables, with what they come to in words."""
    names = expected_columns()
    judged = [name for name in names if name.partition("_")[0] not in BY_CONSTRUCTION]
    yield from ("### Does it prefer a method to a map that knows nothing?", "")
    yield from sentences(found, judged)
    yield ""
    yield from beaten_lines(found, judged)
    yield from ("", *ABOUT_CONSTRUCTION, "")
    yield from beaten_lines(found, [name for name in names if name not in judged])
    yield from ("", "### Does its order of methods hold under another fill?", "", *ABOUT_AGREEMENT, "")
    yield from agreement_lines(found)


ABOUT_CONSTRUCTION = (
    "Controls never ask the network: they don't move with its weights or with the class, and hardly with",
    "noise. By these three they lose or win whatever the network, so that nothing follows for the metric:",
)
ABOUT_AGREEMENT = (
    "Spearman's correlation of two orders of methods and controls, by their means over the pictures: 1 is",
    "the same order, 0 is no relation. The mean is over the pairs of fills, its interval over the pictures.",
)


def joined(parts: Sequence[tuple[Task, Mapping[str, Measured]]]) -> dict[str, dict[str, Measured]]:
    """Put the tasks' columns together by network."""
    found: dict[str, dict[str, Measured]] = {network: {} for network in NETWORKS}
    for task, columns in parts:
        found[task.network].update(columns)
    return found
