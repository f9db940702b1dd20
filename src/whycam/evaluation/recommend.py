"""Which method to use on this model: from an evaluation to one name with its reason, or to none."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whycam.errors import UsageError
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.figures import Figure, summarise
from whycam.evaluation.registry import METRICS
from whycam.evaluation.summary import Evaluation
from whycam.evaluation.verdict import NOTHING, depends_on_images, no_evidence
from whycam.methods import find_method
from whycam.methods.costs import forwards_of

FILLS = METRICS["srg"].fills
COLUMNS: Mapping[str, str] = {fill: f"srg_{fill}_logit" for fill in FILLS}
"""The deciding figure under each fill."""
LEAST_CONTRAST = 1e-3
"""A map that moves less than this when another class is explained is the same map, but for rounding."""
LITTLE_MOVE = 0.25
"""A map that moves less than this, on the mean, when the weights are random earns a caution."""
FEW_IMAGES = 10
"""Below this, intervals drawn from the images at hand are too narrow, which is said."""


@dataclass(frozen=True)
class Standing:
    """Where a method stands: ``srg`` is the mean of the fills on the logit, ``same`` give the same maps.

    ``forwards`` is its cost; ``objection`` says why it is no candidate, and is empty where it is one.
    """

    method: str
    same: tuple[str, ...]
    srg: Figure
    forwards: float
    objection: str


@dataclass(frozen=True)
class Recommendation:
    """One method, or None; ``leaders`` can't be told apart, ``reason`` says it all in words.

    ``standings`` have all methods but the controls, those that are another's ``same`` left out; the highest
    SRG first.
    """

    method: str | None
    leaders: tuple[str, ...]
    reason: str
    standings: tuple[Standing, ...]


def recommend(
    evaluation: Evaluation,
    *,
    same: Sequence[Sequence[str]] = (),
    channels: float = math.inf,
    positions: float = math.inf,
) -> Recommendation:
    """Recommend a method for the model and images of an evaluation, or say why none is.

    SRG on the logit decides, an image's mean of both fills. A candidate beats every control under each fill,
    interval apart from interval, and its map moves with the class where ``contrast`` was measured. Candidates
    whose interval touches the first one's are leaders; the cheapest of them is recommended, and of equally
    cheap ones that of the highest mean. Masks never decide: they say where the object is, not where the model
    looks. ``same`` are groups of methods that give the same maps here, which count as one; ``channels`` and
    ``positions`` are the layer's, for the costs. Raises UsageError where SRG was not measured.
    """
    lacking = [column for column in COLUMNS.values() if column not in evaluation.columns]
    if lacking:
        raise UsageError(f"a recommendation needs {lacking[0]!r}, which was not measured; measure 'srg'")
    asked = [name for name in evaluation.methods if name not in CONTROLS]
    costs = {name: forwards_of(find_method(name), channels=channels, positions=positions) for name in asked}
    groups = _groups(asked, same, costs)
    standings = tuple(
        sorted(
            (_standing(evaluation, name, others, costs[name]) for name, others in groups.items()),
            key=lambda standing: -standing.srg.mean if standing.srg.n else math.inf,
        )
    )
    evidence = evaluation.evidence
    if evidence is not None and not depends_on_images(evidence):
        return Recommendation(None, (), f"{NOTHING}: {no_evidence(evidence)}", standings)
    candidates = [standing for standing in standings if not standing.objection]
    if not candidates:
        return Recommendation(None, (), _none(standings), standings)
    leaders = [each for each in candidates if each.srg.overlaps(candidates[0].srg)]
    chosen = min(leaders, key=lambda each: (each.forwards, -each.srg.mean))
    reason = _reason(evaluation, chosen, leaders, standings)
    return Recommendation(chosen.method, tuple(each.method for each in leaders), reason, standings)


def srg_of(evaluation: Evaluation, method: str) -> Figure:
    """Return the deciding figure: SRG on the logit, of each image the mean of the fills."""
    by_fill = [evaluation.values(method, column) for column in COLUMNS.values()]
    values = [math.fsum(of_image) / len(of_image) for of_image in zip(*by_fill, strict=True)]
    return summarise(values, seed=evaluation.seed)


def _groups(
    methods: Sequence[str], same: Sequence[Sequence[str]], costs: Mapping[str, float]
) -> dict[str, tuple[str, ...]]:
    """Return the cheapest method of each group with the others; a method of no group is alone."""
    found: dict[str, tuple[str, ...]] = {}
    for method in methods:
        group = next((some for some in same if method in some), [method])
        known = [name for name in methods if name in group]
        first = min(known, key=costs.__getitem__)
        found[first] = tuple(name for name in known if name != first)
    return found


def _standing(evaluation: Evaluation, method: str, same: tuple[str, ...], forwards: float) -> Standing:
    srg = srg_of(evaluation, method)
    return Standing(method, same, srg, forwards, _objection(evaluation, method, srg))


def _objection(evaluation: Evaluation, method: str, srg: Figure) -> str:
    """Say why a method is no candidate; nothing where it is one."""
    if srg.n < 2:
        return f"{srg.n} of its images have a figure, and an interval needs two"
    for fill, column in COLUMNS.items():
        figures = evaluation.figures[column]
        controls = sorted(
            (name for name in figures if name in CONTROLS), key=lambda name: -figures[name].high
        )
        for control in controls:
            if not figures[method].low > figures[control].high:
                return (
                    f"doesn't beat the control {control} under the fill {fill}: "
                    f"{figures[method].text()} against {figures[control].text()}"
                )
    if "contrast" in evaluation.columns:
        contrast = evaluation.figure(method, "contrast")
        if not contrast.low > LEAST_CONTRAST:
            return f"is blind to the class: its map stays when another one is explained ({contrast.text()})"
    return ""


def _none(standings: Sequence[Standing]) -> str:
    """Say that no method is recommended, and why the first one is not."""
    if not standings:
        return f"{NOTHING}: no method was measured beside the controls"
    first = standings[0]
    if first.srg.n < 2:
        return f"{NOTHING}: no method has a figure of two images or more; give more images"
    blind = [each for each in standings if each.objection.startswith("is blind")]
    if blind:
        others = ", ".join(each.method for each in blind)
        return (
            f"no method is recommended: what beats the controls by SRG on the logit ({others}) shows what "
            f"stands out to the model, and not why this class: {blind[0].method} {blind[0].objection}"
        )
    return (
        f"no method beats the controls on this model: the first of {len(standings)}, {first.method}, with "
        f"SRG {first.srg.text()} on {first.srg.n} images, {first.objection}; more images may help, or "
        f"another layer"
    )


def _reason(
    evaluation: Evaluation, chosen: Standing, leaders: Sequence[Standing], standings: Sequence[Standing]
) -> str:
    controls = {name: srg_of(evaluation, name) for name in evaluation.methods if name in CONTROLS}
    control = max(controls, key=lambda name: controls[name].mean)
    parts = [
        _place(chosen, leaders, standings),
        f"Its SRG on the logit is {chosen.srg.text()} on {chosen.srg.n} images, the mean of the fills "
        f"{' and '.join(FILLS)}; under each of them it beats every control (the first, {control}, has "
        f"{controls[control].text()})",
        *_beside(evaluation, chosen),
    ]
    if chosen.srg.n < FEW_IMAGES:
        parts.append(f"With only {chosen.srg.n} images all intervals are too narrow; take this as a hint")
    return ". ".join(parts)


def _place(chosen: Standing, leaders: Sequence[Standing], standings: Sequence[Standing]) -> str:
    """Say why this one of the leaders."""
    same = f", whose maps here are those of {', '.join(chosen.same)}," if chosen.same else ""
    price = f"{find_method(chosen.method).cost}{_about(chosen.forwards)}"
    if len(leaders) > 1:
        names = ", ".join(each.method for each in leaders)
        alike = [each for each in leaders if each.forwards == chosen.forwards]
        more = " and of those of its cost it has the highest mean" if len(alike) > 1 else ""
        return (
            f"{names} can't be told apart; of them {chosen.method}{same} is recommended, since none costs "
            f"less ({price}){more}"
        )
    if len(standings) == 1:
        return f"{chosen.method}{same} is recommended; no other was compared ({price})"
    second = next(each for each in standings if each is not chosen)
    rest = f"{second.method}, {second.srg.text()}"
    if second.srg.mean > chosen.srg.mean:
        rest += f", {second.objection}"
    return f"{chosen.method}{same} is recommended ({price}): no other candidate comes near ({rest})"


def _about(forwards: float) -> str:
    return f", about {forwards:.3g} forwards" if math.isfinite(forwards) else ""


def _beside(evaluation: Evaluation, chosen: Standing) -> list[str]:
    """Give the figures that don't decide."""
    found = {
        name: evaluation.figure(chosen.method, name)
        for name in ("energy", "contrast", "randomisation")
        if name in evaluation.columns
    }
    parts = []
    if "energy" in found:
        parts.append(
            f"{found['energy'].text()} of its positive mass is inside the masks, which didn't decide"
        )
    if "contrast" in found:
        parts.append(f"It moves by {found['contrast'].text()} when the likeliest other class is explained")
    if "randomisation" in found:
        moved = found["randomisation"]
        caution = ", which is little: much of this map is the image's and not the weights'"
        little = caution if moved.mean < LITTLE_MOVE else ""
        parts.append(f"It moves by {moved.text()} when the weights are random{little}")
    return parts
