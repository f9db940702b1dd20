"""An evaluation in prose, from its record alone: how it was measured, and what its figure shows."""

from collections.abc import Sequence

from whycam.reports.evaluation.facts import Column, Evaluated
from whycam.reports.evaluation.plot import CURVES_SHOWN
from whycam.reports.evaluation.words import (
    FILLS,
    LEGACY,
    METRIC_WORDS,
    conclusions,
    headline,
    main_columns,
    method_title,
    title_of_column,
)
from whycam.reports.sentences import cited, counted, joined, listed, titles


def evaluation_keys(found: Sequence[Evaluated | None]) -> list[str]:
    """Return the keys of all that these evaluations should cite."""
    metrics = [metric for one in found if one is not None for metric in _metrics(one)]
    keys = [key for metric in metrics if metric in METRIC_WORDS for key in METRIC_WORDS[metric].keys]
    return list(dict.fromkeys(keys))


def evaluation_methods(evaluated: Evaluated) -> str:
    """Say how a run's maps were evaluated, as a paragraph without an end of line."""
    return joined(
        (
            _measured(evaluated),
            _metrics_text(evaluated),
            _removal(evaluated),
            _controls(evaluated),
            _means(evaluated),
        )
    )


def evaluation_caption(evaluated: Evaluated, drawn: Sequence[Column]) -> str:
    """Return the caption of the evaluation's figure, as a paragraph without an end of line.

    ``drawn`` are the main figures that are on it.
    """
    main = main_columns(evaluated)
    return joined(
        (
            "The evaluation's figure.",
            _curves_shown(evaluated),
            _dots_shown(evaluated, drawn),
            headline(evaluated),
            *(f"{', '.join(of)}: {sentence}." for sentence, of in conclusions(main).items()),
        )
    )


def _metrics(evaluated: Evaluated) -> list[str]:
    return list(dict.fromkeys(column.metric for column in evaluated.columns))


def _measured(evaluated: Evaluated) -> str:
    images = f"{counted(evaluated.images, 'image')}"
    own = titles(evaluated.methods) if evaluated.methods else "no method"
    said = f"The maps of {own} were evaluated on {images}"
    if evaluated.skipped:
        verb = "was" if evaluated.skipped == 1 else "were"
        said += f"; {counted(evaluated.skipped, 'image')} {verb} left out"
    return f"{said}."


def _metrics_text(evaluated: Evaluated) -> str:
    by_metric: dict[str, Column] = {}
    for column in evaluated.columns:
        by_metric.setdefault(column.metric, column)
    said = [_metric(metric, column.standing) for metric, column in by_metric.items()]
    return f"Measured {'was' if len(said) == 1 else 'were'} {'; '.join(said)}." if said else ""


def _metric(metric: str, standing: str) -> str:
    words = METRIC_WORDS.get(metric)
    legacy = ", a legacy metric" if standing == LEGACY else ""
    if words is None:
        return f"{metric!r}, which another package defines{legacy}"
    return f"{words.title}{cited(words.keys)}{legacy}: {words.does}"


def _removal(evaluated: Evaluated) -> str:
    fills = list(dict.fromkeys(column.fill for column in evaluated.columns if column.fill))
    if not fills:
        return ""
    by = listed(FILLS.get(fill, repr(fill)) for fill in fills)
    scales = list(dict.fromkeys(column.scale for column in evaluated.columns if column.fill and column.scale))
    on = f", and the score is taken as {listed(scales)}" if scales else ""
    return f"Pixels are removed in {evaluated.steps} steps, ranked by the map, and replaced by {by}{on}."


def _controls(evaluated: Evaluated) -> str:
    if not evaluated.controls:
        return ""
    return (
        f"The controls {listed(evaluated.controls)}, which know nothing of the network, were measured alike."
    )


def _means(evaluated: Evaluated) -> str:
    said = [
        f"Figures are means over the images with 95 % bootstrap intervals (seed {evaluated.seed}); a method "
        "is called best only where its interval lies apart from those of all others and of all controls."
    ]
    if evaluated.forwards is not None:
        device = "the CPU" if evaluated.device == "cpu" else evaluated.device or "a device not recorded"
        said.append(f"This took {evaluated.forwards:,} forward passes on {device}.")
    if evaluated.masks:
        lacking = f"; {counted(evaluated.without_mask, 'image')} had none" if evaluated.without_mask else ""
        said.append(f"The true masks are those of {evaluated.masks!r}{lacking}.")
    blank = {name: note.blank for name, note in evaluated.maps.items() if note.blank}
    if blank:
        which = listed(f"{number} of {method_title(name)}" for name, number in blank.items())
        said.append(f"Constant maps score as chance: {which}.")
    return joined(said)


def _curves_shown(evaluated: Evaluated) -> str:
    if evaluated.curves is None:
        return ""
    left = len(evaluated.methods) - CURVES_SHOWN
    some = f", of the first {CURVES_SHOWN} of {len(evaluated.methods)} methods" if left > 0 else ""
    return (
        f"Above: the mean {evaluated.curves.scale} as pixels are removed (deletion) or come back "
        f"(insertion), the most important first, by fill ({listed(evaluated.curves.fills)}){some}; "
        "bands are 95 % bootstrap intervals, controls are gray."
    )


def _dots_shown(evaluated: Evaluated, drawn: Sequence[Column]) -> str:
    where = "Below" if evaluated.curves else "Shown"
    circles = f", open circles the controls {listed(evaluated.controls)}" if evaluated.controls else ""
    return (
        f"{where}: {listed(map(title_of_column, drawn))} over {counted(evaluated.images, 'image')}; "
        f"dots are means, bars 95 % bootstrap intervals{circles}."
    )
