"""Make the test beds, measure methods on them, and write the tables: ``make testbeds``."""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks.known_answers import Figure
from benchmarks.verify import MARK, cell, put_between_marks
from torch import Tensor

import whycam
from whycam.evaluation.localisation import energy, enrichment
from whycam.models import LoadedModel
from whycam.testbeds import TESTBEDS, WrittenBed, WrittenSet, make_bed, read_bed

METHODS = (
    "gradcam",
    "layercam",
    "hirescam",
    "eigencam",
    "guidedbackprop",
    "random",
    "centre",
    "edges",
)
SEED = 0


@dataclass(frozen=True)
class Column:
    """One figure of a bed: its title, and how a method gets it."""

    title: str
    measure: Callable[[str], Figure]


def maps_of(model: LoadedModel, pictures: WrittenSet, labels: Sequence[str], method: str) -> Tensor:
    """Explain each picture's class, by its name: maps [N, *grid]."""
    names = list(model.class_names or ())
    targets = [names.index(label) for label in labels]
    images = model.prepare(pictures.paths).images
    return whycam.explain(model.module, images, method=method, target=targets, layer=layer_of(model)).maps


def layer_of(model: LoadedModel) -> str:
    """Return the layer before the head."""
    return "grid" if model.reference == "testbed:cells" else "features"


def pointing(maps: Tensor, masks: Tensor) -> Tensor:
    """Say whether the map's maximum is in the mask, or nearer to it than one grid cell [N].

    A map that shows nothing gets the mask's share of the area.
    """
    reach = masks.shape[1] // maps.shape[1]
    near = F.max_pool2d(masks[:, None].float(), 2 * reach - 1, stride=1, padding=reach - 1)[:, 0]
    large = F.interpolate(maps[:, None].relu(), size=masks.shape[1:], mode="bilinear")[:, 0].flatten(1)
    hit = near.flatten(1).gather(1, large.argmax(1, keepdim=True))[:, 0]
    return torch.where(large.amax(1) > 0, hit, masks.float().mean((1, 2)))


def in_cell(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of positive mass in the cell [N], at the map's own resolution.

    A resize would carry mass over the cells' borders.
    """
    return energy(maps, F.interpolate(masks[:, None].float(), size=maps.shape[1:], mode="area")[:, 0])


def on_one_model(bed: WrittenBed, model: str, pictures: str) -> Callable[[str], tuple[Tensor, Tensor]]:
    """Return what gives a method's maps and masks for each picture's own label."""
    loaded, shown = bed.model(model), bed.pictures(pictures)
    masks = shown.masks()
    return lambda method: (maps_of(loaded, shown, shown.labels, method), masks)


def classifier(bed: WrittenBed) -> list[Column]:
    """Return energy, enrichment and pointing on the digit."""
    given = on_one_model(bed, "classifier", "digits")
    return [
        Column(title, lambda method, measure=measure: Figure.mean(measure(*given(method))))  # type: ignore[misc]
        for title, measure in (("energy", energy), ("enrichment", enrichment), ("pointing", pointing))
    ]


def cells(model: str) -> Callable[[WrittenBed], list[Column]]:
    """Return what gives the share in the right cell."""

    def columns(bed: WrittenBed) -> list[Column]:
        given = on_one_model(bed, model, "mosaics")

        def measure(method: str) -> Figure:
            # a mosaic's four cells share their pixels: the mosaic is what is drawn anew for the interval
            return Figure.mean(in_cell(*given(method)).reshape(-1, 4).mean(1))

        return [Column("mass in its cell", measure)]

    return columns


def plates(relying: str) -> Callable[[WrittenBed], list[Column]]:
    """Return what gives the energy on the plate for both models, and how well it tells them apart."""

    def columns(bed: WrittenBed) -> list[Column]:
        shown, target = bed.pictures("stamped"), bed.description["target"]
        masks, models = shown.masks(), [bed.model(name) for name in (relying, "control")]

        def on_plate(model: LoadedModel, method: str) -> Tensor:
            return energy(maps_of(model, shown, [target] * len(masks), method), masks)

        return [
            Column(
                f"energy on the plate, {relying}", lambda method: Figure.mean(on_plate(models[0], method))
            ),
            Column("energy on the plate, control", lambda method: Figure.mean(on_plate(models[1], method))),
            # every plate has the same area: enrichment ranks as energy does
            Column("AUROC", lambda method: auroc(*(on_plate(model, method) for model in models))),
        ]

    return columns


def auroc(positive: Tensor, negative: Tensor) -> Figure:
    """Return how often a positive is above a negative, ties as half, with its bootstrap interval.

    The two are of the same pictures, which are drawn anew together.
    """
    above = (positive[:, None] > negative).double() + (positive[:, None] == negative).double() / 2
    drawn = torch.randint(len(above), (500, len(above)), generator=torch.Generator().manual_seed(0))
    again = torch.stack([above[index][:, index].mean() for index in drawn])
    low, high = again.quantile(torch.tensor([0.025, 0.975], dtype=again.dtype)).tolist()
    return Figure(float(above.mean()), len(positive), low, high)


def bam(bed: WrittenBed) -> list[Column]:
    """Return the energy on the digit for the model of digits less that for the model of photographs."""
    pairs = [on_one_model(bed, name, name) for name in ("object", "background")]
    return [
        Column("contrast", lambda method: Figure.mean(energy(*pairs[0](method)) - energy(*pairs[1](method))))
    ]


def parts(bed: WrittenBed) -> list[Column]:
    """Return how often the part with the largest sum of the map is the one that matters most."""
    whole, removed = bed.pictures("whole"), bed.pictures("removed")
    model, masks = bed.model("classifier"), removed.masks()
    with (bed.folder / "parts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    place = {path.relative_to(bed.folder).as_posix(): index for index, path in enumerate(whole.paths)}
    image = torch.tensor([place[row["path"]] for row in rows])
    drops = torch.tensor([float(row["drop"]) for row in rows])

    def measure(method: str) -> Figure:
        maps = maps_of(model, whole, whole.labels, method)
        sums = energy(maps[image], masks)
        return Figure.mean(
            torch.tensor(
                [float(sums[image == i].argmax() == drops[image == i].argmax()) for i in range(len(maps))]
            )
        )

    return [Column("same part first", measure)]


BEDS: dict[str, Callable[[WrittenBed], list[Column]]] = {
    "classifier": classifier,
    "watermark": plates("cheating"),
    "partial": plates("partial"),
    "gridpg": cells("classifier"),
    "difull": cells("cells"),
    "bam": bam,
    "parts": parts,
}


def lines(folder: Path) -> Iterator[str]:
    """Give each bed's checks and figures, after making the beds that are not there."""
    for name, measured in BEDS.items():
        if not (folder / name).exists():
            made = make_bed(name, folder / name, seed=SEED)
            print(f"{name} made in {made.seconds:.0f} s of processor time", flush=True)
        bed = read_bed(folder / name)
        columns = measured(bed)
        yield from (f"## {name}", "", f"{TESTBEDS[name].summary.capitalize()}.", "")
        yield from (
            f"- {check['what']}: {check['value']:.3g} ({check['bounds']})"
            for check in bed.description["checks"]
        )
        yield from ("", "| method | " + " | ".join(column.title for column in columns) + " |")
        yield "| --- |" + " --- |" * len(columns)
        for method in METHODS:
            row = f"| `{method}` | " + " | ".join(cell(column.measure(method)) for column in columns) + " |"
            print(row, flush=True)
            yield row
        yield ""


def main() -> None:
    """Make what is missing, measure, and put the tables into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beds", type=Path, required=True, help="the folder of the test beds")
    parser.add_argument("--out", type=Path, help=f"a Markdown file with {MARK} around the tables")
    arguments = parser.parse_args()
    made = list(lines(arguments.beds))
    if arguments.out:
        put_between_marks(arguments.out, made)


if __name__ == "__main__":
    main()
