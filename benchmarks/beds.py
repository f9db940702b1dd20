"""Every method on the test beds, whose networks were trained and whose truth is known: ``make verify``."""

import csv
import filecmp
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks.known_answers import LARGE_COST, VERY_LARGE_COST, Claim, Figure
from torch import Tensor, nn

import whycam
from whycam.errors import MethodError
from whycam.evaluation.localisation import energy, enrichment, pointing
from whycam.evaluation.mosaics import gridpg
from whycam.methods import METHODS, find_method
from whycam.testbeds import TESTBEDS, WrittenBed, make_bed, read_bed

SEED = 0
NAMES = ("classifier", "watermark", "partial", "gridpg", "difull", "bam", "parts")
CHANNELS, POSITIONS = 96, 144
"""Of the layer before the head, in all of the beds' networks; a mosaic has four times the positions."""
FEWEST = 8
"""Pictures from which on a mean has an interval: of fewer, drawing anew says next to nothing."""

Figures = dict[str, Figure | None]


@dataclass(frozen=True)
class Count:
    """How many of a bed's pictures are explained, and how many of its mosaics, four times each."""

    pictures: int
    mosaics: int


def count_for(method: str) -> Count:
    """Return how many pictures a method gets: fewer, where it is costly."""
    cost = forwards(method)
    return Count(200, 50) if cost < LARGE_COST else Count(20, 2) if cost < VERY_LARGE_COST else Count(2, 1)


def forwards(method: str) -> int:
    """Return what a picture costs on the beds' networks, in forwards; a backward is as much as two.

    A forward of what follows the layer counts whole, a backward to the layer nothing.
    """
    told = re.sub(r"(\d+) \(F \+ B\)", r"\1 F + \1 B", find_method(method).cost)
    sizes = {"C": CHANNELS, "Z": POSITIONS, "": 1}
    terms = (re.fullmatch(r"(?:(\d+) )?(?:([CZ]) )?([FBs])", term) for term in told.split(" + "))
    return sum(
        int(term[1] or 1) * sizes[term[2] or ""] * (2 if term[3] == "B" else 1) for term in terms if term
    )


@dataclass(frozen=True, eq=False)
class Shown:
    """A bed's network and pictures as it sees them, what is explained on each, and where the truth lies."""

    network: nn.Module
    layer: str
    images: Tensor
    targets: Sequence[int]
    masks: Tensor

    def of(self, count: int) -> "Shown":
        """Return the first few."""
        return replace(
            self, images=self.images[:count], targets=self.targets[:count], masks=self.masks[:count]
        )

    def maps(self, method: str) -> Tensor:
        """Return each picture's map. Raises MethodError where the method can't run on this network."""
        explained = whycam.explain(
            self.network, self.images, method=method, target=list(self.targets), layer=self.layer
        )
        return explained.maps


@functools.cache
def shown(folder: Path, model: str, pictures: str, label: str | None = None) -> Shown:
    """Open a bed's network with a set of its pictures; ``label`` is explained where it isn't their own."""
    bed = opened(folder)
    loaded, chosen = bed.model(model), bed.pictures(pictures)
    names = list(loaded.class_names or ())
    targets = [names.index(label or own) for own in chosen.labels]
    layer = "grid" if loaded.reference == "testbed:cells" else "features"  # the layer before the head
    return Shown(loaded.module, layer, loaded.prepare(chosen.paths).images, targets, chosen.masks())


@functools.cache
def opened(folder: Path) -> WrittenBed:
    """Read a bed once a process."""
    return read_bed(folder)


def mean(values: Tensor) -> Figure:
    """Return the mean with its interval, or without one where there are too few pictures for it."""
    return Figure.mean(values) if len(values) >= FEWEST else Figure(float(values.mean()), len(values))


def on_objects(beds: Path, method: str) -> Figures:
    """Return how well the digit is found."""
    given = shown(beds / "classifier", "classifier", "digits").of(count_for(method).pictures)
    maps = given.maps(method)
    return {
        "energy": mean(energy(maps, given.masks)),
        "enrichment": mean(enrichment(maps, given.masks)),
        "pointing": mean(pointing(maps, given.masks)),
    }


def on_plates(beds: Path, method: str) -> Figures:
    """Return the energy on the plate, and how well it tells models that follow it from one that doesn't."""
    count = count_for(method).pictures

    def on_plate(bed: str, model: str) -> Tensor:
        given = shown(beds / bed, model, "stamped", opened(beds / bed).description["target"]).of(count)
        return energy(given.maps(method), given.masks)

    cheating, control = on_plate("watermark", "cheating"), on_plate("watermark", "control")
    partly = on_plate("partial", "partial")
    beside = control if same_control(beds) else on_plate("partial", "control")
    return {
        "watermark": auroc(cheating, control),
        "partial watermark": auroc(partly, beside),
        "plate, cheating": mean(cheating),
        "plate, partial": mean(partly),
        "plate, control": mean(control),
    }


@functools.cache
def same_control(beds: Path) -> bool:
    """Say whether both beds have one control to the bit, on the same pictures: it is then explained once."""
    one, other = beds / "watermark", beds / "partial"
    files = [
        "control.pth",
        *(f"images/stamped/{path.name}" for path in opened(one).pictures("stamped").paths),
    ]
    return filecmp.cmpfiles(one, other, files, shallow=False)[0] == files


def auroc(positive: Tensor, negative: Tensor) -> Figure:
    """Return how often a positive is above a negative, ties as half, with its bootstrap interval.

    The two are of the same pictures, which are drawn anew together.
    """
    above = (positive[:, None] > negative).double() + (positive[:, None] == negative).double() / 2
    if len(above) < FEWEST:
        return Figure(float(above.mean()), len(positive))
    drawn = torch.randint(len(above), (500, len(above)), generator=torch.Generator().manual_seed(0))
    again = torch.stack([above[index][:, index].mean() for index in drawn])
    low, high = again.quantile(torch.tensor([0.025, 0.975], dtype=again.dtype)).tolist()
    return Figure(float(above.mean()), len(positive), low, high)


def in_cells(bed: str, model: str, title: str, beds: Path, method: str) -> Figures:
    """Return the share of mass in the right cell of a mosaic, at the map's own resolution."""
    given = shown(beds / bed, model, "mosaics").of(4 * count_for(method).mosaics)
    targets = [list(given.targets[cell::4]) for cell in range(4)]
    explained = whycam.explain_targets(
        given.network, given.images[::4], targets, method=method, layer=given.layer
    )
    shares = [gridpg(one.maps, torch.full((len(one.maps),), cell)) for cell, one in enumerate(explained)]
    # a mosaic's four cells share their pixels: the mosaic is what is drawn anew for the interval
    return {title: mean(torch.stack(shares).double().mean(0))}


def on_two_labels(beds: Path, method: str) -> Figures:
    """Return the energy on the digit for the model of digits less that for the model of photographs."""
    pair = [
        shown(beds / "bam", name, name).of(count_for(method).pictures) for name in ("object", "background")
    ]
    one, other = (energy(given.maps(method), given.masks) for given in pair)
    return {"BAM": mean(one - other)}


def on_parts(beds: Path, method: str) -> Figures:
    """Return how often the part with the largest sum of the map is the one that matters most."""
    bed, count = opened(beds / "parts"), count_for(method).pictures
    given, masks = shown(bed.folder, "classifier", "whole").of(count), bed.pictures("removed").masks()
    with (bed.folder / "parts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = bed.pictures("whole").paths
    place = {path.relative_to(bed.folder).as_posix(): index for index, path in enumerate(paths)}
    image = torch.tensor([place[row["path"]] for row in rows])
    drops = torch.tensor([float(row["drop"]) for row in rows])
    among = image < count
    sums = torch.zeros(len(rows))
    sums[among] = energy(given.maps(method)[image[among]], masks[among])
    same = [
        float(sums[image == at].argmax() == drops[image == at].argmax()) for at in range(len(given.images))
    ]
    return {"same part first": mean(torch.tensor(same))}


MEASURED: Mapping[str, tuple[tuple[str, ...], Callable[[Path, str], Figures]]] = {
    "gridpg": (("GridPG bed",), functools.partial(in_cells, "gridpg", "classifier", "GridPG bed")),
    "difull": (("DiFull bed",), functools.partial(in_cells, "difull", "cells", "DiFull bed")),
    "watermark and partial": (
        ("watermark", "partial watermark", "plate, cheating", "plate, partial", "plate, control"),
        on_plates,
    ),
    "bam": (("BAM",), on_two_labels),
    "classifier": (("energy", "enrichment", "pointing"), on_objects),
    "parts": (("same part first",), on_parts),
}
"""What is measured together: the columns it gives, and how."""

FIRST = ("GridPG bed", "DiFull bed", "watermark", "partial watermark", "BAM")
SECOND = (
    "energy",
    "enrichment",
    "pointing",
    "plate, cheating",
    "plate, partial",
    "plate, control",
    "same part first",
)
FINE = ("plate, cheating", "plate, partial", "plate, control")
"""Columns of small figures, shown with a third digit."""


def measure(beds: Path, what: str, method: str) -> Figures:
    """Return one method's figures; None where it can't run there."""
    columns, of = MEASURED[what]
    try:
        return of(beds, method)
    except MethodError:
        return dict.fromkeys(columns)


def make_one(beds: Path, name: str) -> str:
    """Make a bed, and say how long it took."""
    made = make_bed(name, beds / name, seed=SEED)
    return f"{name} made in {made.seconds:.0f} s of processor time"


def claims() -> Iterator[Claim]:
    """Give what must hold on these beds, whatever network the training came to."""
    for method in ("hirescam", "layercam"):
        yield Claim("DiFull bed", method, 1, 1e-6)
    for case in ("DiFull bed", "GridPG bed"):
        yield Claim(case, "eigencam", 0.25, 0.01)
    yield Claim("watermark", "gradcam", 1, 0.05)
    for method in ("random", "centre", "edges"):
        yield Claim("watermark", method, 0.5, 1e-9)
        yield Claim("partial watermark", method, 0.5, 1e-9)
        yield Claim("BAM", method, 0, 1e-9)


CLAIMS = tuple(claims())

WITHIN, WITHIN_OF_ENRICHMENT = 0.05, 0.1
"""How near a figure from elsewhere is taken to hold: absolute; of enrichment, a share of it."""
SMALLER = "digits cover {area:.1f} % of a picture here, 7.5 % there"
NOT_KNOWN = "another network, smaller digits; which of them matters was not measured"
TOLERANCE = "here the maximum of a map of pixels may be one pixel off; how far there is not known"
TRAINED = "another network of the same kind"


@dataclass(frozen=True)
class Elsewhere:
    """A figure that was found before on a bed of this kind, with another network, other digits, another seed.

    ``why`` says what is known to differ, for where it does not hold here.
    """

    case: str
    method: str
    value: float
    why: str

    @property
    def within(self) -> float:
        """How far off it may be."""
        return WITHIN_OF_ENRICHMENT * self.value if self.case == "enrichment" else WITHIN

    def holds(self, figure: Figure | None) -> bool:
        """Say whether a measured figure is that near."""
        return figure is not None and abs(figure.value - self.value) <= self.within


def elsewhere() -> Iterator[Elsewhere]:
    """Give the figures as they were found, before these beds were made."""
    found = {
        "gradcam": (0.49, 6.8, 1.00),
        "layercam": (0.46, 6.5, 1.00),
        "eigencam": (0.52, 7.3, 1.00),
        "guidedbackprop": (0.78, 11, 1.00),
        "random": (0.08, 1.0, 0.16),
        "centre": (0.16, 2.0, 0.62),
        "edges": (0.28, 4.0, 0.64),
    }
    differs = {"energy": SMALLER, "enrichment": NOT_KNOWN, "pointing": SMALLER}
    for method, figures in found.items():
        for (case, why), value in zip(differs.items(), figures, strict=True):
            of_pixels = case == "pointing" and method in ("guidedbackprop", "edges")
            yield Elsewhere(case, method, value, TOLERANCE if of_pixels else why)
    # of two earlier tests: Grad-CAM and LayerCAM have two figures
    cells = [("gradcam", 0.83), ("gradcam", 0.8), ("layercam", 0.45), ("layercam", 0.5)]
    cells += [("guidedbackprop", 0.38), ("integrated", 0.33), ("eigencam", 0.25), ("random", 0.25)]
    for method, value in cells:
        yield Elsewhere("GridPG bed", method, value, TRAINED)
    inside = {"hirescam": 1.00, "layercam": 1.00, "gradcam": 0.85, "gradcam++": 0.52, "eigencam": 0.25}
    for method, value in inside.items():
        yield Elsewhere("DiFull bed", method, value, TRAINED)
    yield Elsewhere("plate, cheating", "gradcam", 0.165, TRAINED)
    yield Elsewhere("plate, control", "gradcam", 0.010, TRAINED)
    yield Elsewhere("watermark", "gradcam", 0.995, TRAINED)


ELSEWHERE = tuple(elsewhere())

Found = Mapping[tuple[str, str], Figure | None]
"""Figures by column and method."""


def cell(figure: Figure | None, digits: int = 2) -> str:
    """Return a figure as a table shows it, with its interval where it has one."""
    if figure is None:
        return "-"
    value, *interval = (
        f"{one + 0.0:.{digits}f}" for one in (figure.value, figure.low, figure.high) if one is not None
    )
    return f"{value} ({' to '.join(interval)})" if interval else value


def table(found: Found, columns: Sequence[str], counts: Sequence[str]) -> Iterator[str]:
    """Give a table of every method; ``counts`` are those of `Count` that its figures are of."""
    yield f"| method | {' | '.join((*columns, *counts))} |"
    yield "| --- |" + " --- |" * (len(columns) + len(counts))
    for method in METHODS:
        figures = [found[column, method] for column in columns]
        digits = [3 if column in FINE else 2 for column in columns]
        cells = [cell(*each) for each in zip(figures, digits, strict=True)]
        count = count_for(method)
        cells += [str(getattr(count, name)) if any(figures) else "-" for name in counts]
        yield f"| `{method}` | {' | '.join(cells)} |"


def claim_lines(found: Found) -> Iterator[str]:
    """Give the table of what must hold."""
    yield "| case | method | expected | measured | holds |"
    yield "| --- | --- | --- | --- | --- |"
    for claim in CLAIMS:
        figure = found[claim.case, claim.method]
        measured = "-" if figure is None else f"{figure.value + 0.0:.3g}"
        expected = f"{claim.value:g} within {claim.within:g}"
        holds = "yes" if claim.holds(figure) else "**no**"
        yield f"| {claim.case} | `{claim.method}` | {expected} | {measured} | {holds} |"


def elsewhere_lines(found: Found, area: float) -> Iterator[str]:
    """Give the table of figures from elsewhere; ``area`` is the mean share of a picture under a digit."""
    yield "| figure | map | elsewhere | measured here | holds within | why not |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in ELSEWHERE:
        figure = found[one.case, one.method]
        holds = one.holds(figure)
        said, why = ("yes", "") if holds else ("**no**", one.why.format(area=100 * area))
        measured = cell(figure, 3 if one.case in FINE else 2)
        holds_within = f"{one.within:.2g}: {said}"
        yield f"| {one.case} | `{one.method}` | {one.value:.3g} | {measured} | {holds_within} | {why} |"


def not_above(found: Found, column: str, chance: float) -> list[str]:
    """Return the methods whose figure is not above chance: whose interval, or else value, reaches it."""
    reached = []
    for method in METHODS:
        figure = found[column, method]
        if figure is not None and (figure.value if figure.low is None else figure.low) <= chance + 1e-6:
            reached.append(f"`{method}`")
    return reached


def lines(found: Found, descriptions: Mapping[str, Mapping[str, object]], area: float) -> Iterator[str]:
    """Give all tables: what is asked of each method first, then more of it, then what was expected."""
    yield from ("### The right cell, the plate, the right label", "")
    yield from table(found, FIRST, ("pictures", "mosaics"))
    yield ""
    for column, chance in (("GridPG bed", 0.25), ("DiFull bed", 0.25), ("watermark", 0.5), ("BAM", 0.0)):
        reached = ", ".join(not_above(found, column, chance)) or "none"
        yield f"- Not above chance ({chance:g}) on {column}: {reached}."
    yield from ("", "### The object, the plate, the part", "")
    yield from table(found, SECOND, ("pictures",))
    yield from ("", "What must hold on any such bed:", "")
    yield from claim_lines(found)
    yield from ("", "### Figures from elsewhere", "", *ABOUT_ELSEWHERE, "")
    yield from elsewhere_lines(found, area)
    yield from ("", "### What makes the beds valid", "")
    yield "| bed | intervention | measured | asked |"
    yield "| --- | --- | --- | --- |"
    for name, description in descriptions.items():
        for check in description["checks"]:  # type: ignore[attr-defined]
            yield f"| {name} | {check['what']} | {check['value']:.3g} | {check['bounds']} |"


ABOUT_ELSEWHERE = (
    "Found before these beds were made, on others of the same kind: other networks, another seed, larger",
    f"digits. They stand as they were found. One holds where it is within {WITHIN} of what is measured here",
    "(of enrichment, within a tenth of it). Where one doesn't, the last column says what is known to differ.",
)


def digit_area(beds: Path) -> float:
    """Return the mean share of a picture that its digit covers."""
    return float(opened(beds / "classifier").pictures("digits").masks().double().mean())


def broken(found: Found) -> list[Claim]:
    """Return the claims that don't hold."""
    return [claim for claim in CLAIMS if not claim.holds(found[claim.case, claim.method])]


def tasks() -> list[tuple[str, str]]:
    """Return what to measure by which method, what takes longest first."""
    pairs = [(what, method) for what in MEASURED for method in METHODS]
    weight = {"watermark and partial": 3, "gridpg": 4, "difull": 4, "bam": 2}

    def cost(pair: tuple[str, str]) -> float:
        what, method = pair
        count = count_for(method)
        explained = 4 * count.mosaics if what in ("gridpg", "difull") else count.pictures
        return -forwards(method) * explained * weight.get(what, 1)

    return sorted(pairs, key=cost)


def check_finite(found: Found) -> None:
    """Refuse a figure that is no number."""
    wrong = [key for key, figure in found.items() if figure is not None and not math.isfinite(figure.value)]
    assert not wrong, wrong


def missing(beds: Path) -> list[str]:
    """Return the beds that are not there yet."""
    return [name for name in NAMES if name in TESTBEDS and not (beds / name).exists()]
