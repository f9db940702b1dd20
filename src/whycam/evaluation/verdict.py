"""What may be concluded from a metric's figures, in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.figures import Figure
from whycam.evaluation.registry import Direction

LEAST_EVIDENCE = 0.1
"""How much probability the model must lose, on the mean, when all of an image is removed. A model that loses
less doesn't depend on what is in its images, and no map of it can be right or wrong."""


@dataclass(frozen=True)
class Verdict:
    """What may be concluded: ``best`` is one method, several that can't be told apart, or none."""

    best: tuple[str, ...]
    sentence: str

    @property
    def concludes(self) -> bool:
        """Whether one method is best."""
        return len(self.best) == 1


def judge(
    name: str, figures: Mapping[str, Figure], direction: Direction, evidence: Figure | None = None
) -> Verdict:
    """Say which method is best by a metric, or why none can be named.

    ``figures`` are by method, the controls by their names among them; ``evidence`` is the probability that
    the model loses on the fully removed image. Best is withheld where intervals overlap, where a control
    wins, where the controls are missing, and where the model itself doesn't look at its images.
    """
    if direction == "neither":
        return Verdict((), f"{name} describes a map; high or low is neither good nor bad")
    if evidence is not None and not depends_on_images(evidence):
        return Verdict((), f"{NOTHING}: {no_evidence(evidence)}")
    controls = {method: figure for method, figure in figures.items() if method in CONTROLS}
    methods = {method: figure for method, figure in figures.items() if method not in CONTROLS and figure.n}
    if not methods or not any(figure.n for figure in controls.values()):
        lacking = "no method" if not methods else "no control"
        return Verdict((), f"{NOTHING} from {name}: {lacking} has a figure")
    sign = -1 if direction == "lower" else 1
    ranked = sorted(methods, key=lambda method: (-sign * methods[method].mean, method))
    leader = ranked[0]
    rival = max((c for c in controls if controls[c].n), key=lambda control: sign * controls[control].mean)
    unbeaten = [control for control, figure in controls.items() if not _beats(methods[leader], figure, sign)]
    if unbeaten:
        rival = rival if rival in unbeaten else unbeaten[0]
        return Verdict((), _not_beaten(name, leader, methods[leader], rival, controls[rival], sign))
    equals = tuple(method for method in ranked if not _beats(methods[leader], methods[method], sign))
    return Verdict(equals, _leading(name, equals, ranked, methods, rival, controls[rival]))


NOTHING = "nothing can be concluded"


def _beats(one: Figure, other: Figure, sign: int) -> bool:
    """Say whether one's interval lies wholly on the good side of the other's."""
    return one.low > other.high if sign > 0 else one.high < other.low


def depends_on_images(evidence: Figure) -> bool:
    """Say whether the model loses enough of its probability with the whole image."""
    return evidence.low > 0 and evidence.mean >= LEAST_EVIDENCE


def no_evidence(evidence: Figure) -> str:
    """Say that the model doesn't depend on its images, with the figure and what to check."""
    if not evidence.n:
        return "the model's scores are no finite numbers"
    return (
        f"the model's probability falls by only {evidence.text()} when the whole image is removed "
        f"(expected at least "
        f"{LEAST_EVIDENCE}), so there is nothing in the images for a map to find; check the weights and "
        f"the preprocessing"
    )


def _not_beaten(name: str, leader: str, figure: Figure, control: str, its: Figure, sign: int) -> str:
    wins = sign * its.mean >= sign * figure.mean
    how = "wins" if wins else "can't be told from it"
    return (
        f"{NOTHING} from {name} on {figure.n} images: no method beats the controls; the first, {leader}, "
        f"has "
        f"{figure.text()}, and the control {control}, {its.text()}, {how}"
    )


def _leading(
    name: str,
    equals: Sequence[str],
    ranked: Sequence[str],
    methods: Mapping[str, Figure],
    control: str,
    its: Figure,
) -> str:
    over = f"all controls (the first of them {control}, {its.text()})"
    first = methods[equals[0]]
    if len(equals) > 1:
        return (
            f"{', '.join(equals)} can't be told apart by {name} on {first.n} images (the first has "
            f"{first.text()}); "
            f"the best is withheld; {equals[0]} beats {over}"
        )
    if len(ranked) == 1:
        return (
            f"{equals[0]} beats {over} by {name}, {first.text()} on {first.n} images; "
            "no other method was compared"
        )
    second = methods[ranked[1]]
    return (
        f"{equals[0]} is best by {name}, {first.text()} on {first.n} images, before {ranked[1]}, "
        f"{second.text()}, "
        f"and beats {over}"
    )
