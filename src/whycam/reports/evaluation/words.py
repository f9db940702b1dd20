# ruff: noqa: E501 - one line a metric
"""What metrics are called in a report, which of them stand first, and what may be concluded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whycam.reports.evaluation.facts import Column, Evaluated, Figure
from whycam.reports.wording import WORDS


@dataclass(frozen=True)
class MetricWords:
    """A metric in prose: its title, what it is, its sources' keys, and the figure of a map by chance."""

    title: str
    does: str
    keys: tuple[str, ...] = ()
    chance: float | None = None


METRIC_WORDS: Mapping[str, MetricWords] = {
    "srg": MetricWords("SRG", "the area between the curves of removing the least and the most important pixels first (symmetric relevance gain)", ("blucher2024decoupling",), 0.0),
    "insertion": MetricWords("Insertion", "the mean score as the most important pixels come back first", ("petsiuk2018rise",)),
    "deletion": MetricWords("Deletion", "the mean score as the most important pixels go first", ("petsiuk2018rise",)),
    "tilecorr": MetricWords("Tile correlation", "the rank correlation of the fall of the score without each of 4 x 4 tiles with the map's sum there", (), 0.0),
    "energy": MetricWords("Energy in the mask", "the share of the map's positive mass inside the true mask", ("wang2020scorecam",)),
    "enrichment": MetricWords("Enrichment", "the energy in the true mask over the mask's share of the area", (), 1.0),
    "pointing": MetricWords("Pointing game", "whether the map's maximum is on the object or within one grid cell of it", ("zhang2018excitation",)),
    "auprc": MetricWords("AUPRC", "the average precision of the pixels ranked by the map against the true mask"),
    "iou": MetricWords("IoU", "the overlap with the true mask at the threshold that is best on other images", ("choe2020evaluating",)),
    "randomisation": MetricWords("Randomisation", "how far the map moves when the weights are made random", ("adebayo2018sanity",), 0.0),
    "contrast": MetricWords("Target contrast", "how far the map moves when the likeliest other class is explained", (), 0.0),
    "stability": MetricWords("Instability", "the largest relative change of the map under small noise", ("agarwal2022rethinking",)),
    "sparsity": MetricWords("Sparsity", "the Gini index of the map's magnitudes, which describes and does not judge", ("chalasani2020concise",)),
    "road": MetricWords("ROAD", "half the gap between removing the least and the most important pixels first, with noisy linear imputation", ("rong2022road",), 0.0),
    "averagedrop": MetricWords("Average drop", "the share of the probability lost when the image is multiplied by the map", ("chattopadhay2018gradcampp",)),
    "increase": MetricWords("Increase", "whether the probability rises then", ("chattopadhay2018gradcampp",)),
    "gain": MetricWords("Average gain", "the share of the missing probability that is won then", ("zhang2023opticam",)),
    "adcc": MetricWords("ADCC", "the harmonic mean of what is kept of the score, simplicity and coherency", ("poppi2021revisiting",)),
    "gridpg": MetricWords("GridPG", "the share of positive mass in the class's cell of a mosaic", ("bohle2021coda",), 0.25),
    "difull": MetricWords("DiFull", "the same where the cells cannot see each other", ("rao2022towards",)),
}  # fmt: skip

FILLS: Mapping[str, str] = {
    "blur": "a blurred image",
    "push-pull": "a push-pull interpolation of what is around them",
    "linear": "a noisy linear interpolation of their neighbours",
    "zero": "zeros in the model's input units",
}

_OTHER_CONTROLS = {"blurred random": "Blurred random"}

MOST_MAIN = 4
LEGACY = "legacy"
_MAIN = ("srg_blur_logit", "srg_push-pull_logit", "energy", "enrichment", "pointing")
_JUDGED = ("higher", "lower")


def main_columns(evaluated: Evaluated) -> tuple[Column, ...]:
    """Return the few columns that stand for the evaluation: SRG on logits and the masks' where measured.

    Where none of these is, the first of those that judge a map, legacy ones only where there is nothing else.
    """
    known = {column.name: column for column in evaluated.columns}
    found = [known[name] for name in _MAIN if name in known]
    judging = [column for column in evaluated.columns if column.direction in _JUDGED]
    serious = [column for column in judging if column.standing != LEGACY]
    return tuple((found or serious or judging or evaluated.columns)[:MOST_MAIN])


def title_of_column(column: Column) -> str:
    """Return a column's name in prose, such as ``SRG (blur, logit)``."""
    known = METRIC_WORDS.get(column.metric)
    variant = ", ".join(part for part in (column.fill, column.scale) if part)
    return f"{known.title if known else column.metric}{f' ({variant})' if variant else ''}"


def chance_of(column: Column) -> float | None:
    """Return what a map by chance has, where that is one number."""
    known = METRIC_WORDS.get(column.metric)
    return known.chance if known else None


def method_title(method: str) -> str:
    """Return a method's name as a label; its own name where whycam has none."""
    known = WORDS.get(method)
    return known.title if known else _OTHER_CONTROLS.get(method, method)


def figure_text(figure: Figure | None) -> str:
    """Return ``0.410 [0.352, 0.467]``; without an interval the mean alone; a dash where there is none.

    The largest has three digits, the others as many behind the point.
    """
    if figure is None or figure.mean is None:
        return "–"
    if figure.low is None or figure.high is None:
        return alike([figure.mean])[0]
    mean, low, high = alike([figure.mean, figure.low, figure.high])
    return f"{mean} [{low}, {high}]"


def alike(values: Sequence[float]) -> list[str]:
    """Return numbers with the same digits behind the point, three in the largest; minuses as in print."""
    largest = max(map(abs, values))
    if largest and not 1e-4 <= largest < 1e6:
        return [short(value) for value in values]
    digits = max(0, 2 - math.floor(math.log10(largest))) if largest else 2
    # + 0.0: what rounds to zero has no sign
    return [f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") for value in values]


def short(value: float) -> str:
    """Return a number with three digits, as short as it can be, its minus as in print."""
    return f"{float(f'{value:.3g}') + 0.0:.3g}".replace("-", "−")


def headline(evaluated: Evaluated) -> str:
    """Say in one sentence what the main figures together allow to conclude."""
    judging = [column for column in main_columns(evaluated) if column.direction in _JUDGED]
    if not any(column.best for column in judging):
        return "Nothing can be concluded about which heatmap to trust."
    single = {column.best for column in judging}
    by = {1: "the main figure", 2: "both main figures"}.get(len(judging), f"all {len(judging)} main figures")
    if len(single) == 1 and all(len(column.best) == 1 for column in judging):
        return f"{method_title(judging[0].best[0])} is best by {by}."
    return f"No single method is best by {by}."


def conclusions(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return each sentence with the columns that it is said of, so that none is said twice."""
    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(column.conclusion, []).append(title_of_column(column))
    return found
