"""A test bed as a folder: written whole or not at all."""

import csv
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image

from whycam.errors import UsageError
from whycam.models import Preprocessing
from whycam.models.sidecar import sidecar_path, sidecar_text
from whycam.testbeds.bed import Bed, PictureSet, Trained
from whycam.testbeds.credits import credits
from whycam.testbeds.scenes import PHOTOGRAPHS
from whycam.testbeds.training import MEAN, STD

SCHEMA = 1
DESCRIPTION = "bed.json"
_CREDITS = "# Sources of the images\n\n"
_INTRO = (
    "Written by `whycam testbed`. Each image is made of crops of photographs with handwritten digits\n"
    "drawn over them."
)
_LIBRARIES = ("whycam", "torch", "numpy", "pillow", "scikit-image", "scikit-learn")


def refuse_filled(folder: Path) -> None:
    """Refuse a folder with anything in it, before any work is done. Raises UsageError."""
    with writing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{str(folder)!r} is there already and not an empty folder; choose another one with --out"
            )


def write_bed(bed: Bed, folder: Path, *, facts: Mapping[str, object]) -> None:
    """Write a bed beside its place, and move it there once it is whole. Raises UsageError.

    What an interrupted call left beside the place is removed first.
    """
    refuse_filled(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    with writing(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            _write_parts(bed, unfinished, facts)
            if folder.exists():  # an empty one, which not every system renames over
                folder.rmdir()
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError into a UsageError of one line that names the folder and the mend."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise UsageError(
            f"the test bed cannot be written to {str(folder)!r}: {reason}; choose another folder with --out"
        ) from error


def _write_parts(bed: Bed, folder: Path, facts: Mapping[str, object]) -> None:
    for trained in bed.networks:
        _write_network(trained, folder, facts)
    for pictures in bed.pictures:
        _write_pictures(pictures, folder)
    # the first set, under the name that every bed has
    shutil.copy(folder / f"{bed.pictures[0].name}.csv", folder / "labels.csv")
    for name, rows in bed.tables.items():
        _write_table(folder / name, rows)
    names = [f"`{photograph.name}`" for photograph in PHOTOGRAPHS]
    (folder / "CREDITS.md").write_text(
        _CREDITS + credits(_INTRO, "named in the tables", names), encoding="utf-8"
    )
    text = json.dumps(_description(bed, facts), indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _write_network(trained: Trained, folder: Path, facts: Mapping[str, object]) -> None:
    place = folder / f"{trained.name}.pth"
    state = {name: value.detach().cpu().contiguous() for name, value in trained.network.state_dict().items()}
    torch.save(state, place)
    text = sidecar_text(
        model=trained.reference,
        preprocessing=Preprocessing.for_size(trained.size, [MEAN] * 3, [STD] * 3),
        class_names=trained.class_names,
        training={"testbed": facts["testbed"], "seed": facts["seed"]},
    )
    sidecar_path(place).write_bytes(text)


def _write_pictures(pictures: PictureSet, folder: Path) -> None:
    images, masks = (folder / kind / pictures.name for kind in ("images", "masks"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for inner in {Path(stem).parent for stem in pictures.stems}:
        (images / inner).mkdir(exist_ok=True)
        (masks / inner).mkdir(exist_ok=True)
    for stem, image, mask in zip(pictures.stems, pictures.images, pictures.masks, strict=True):
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(images / f"{stem}.png")
        Image.fromarray(mask.numpy()).save(masks / f"{stem}.png")
    rows = [
        (
            f"images/{pictures.name}/{stem}.png",
            label,
            " ".join(PHOTOGRAPHS[index].name for index in sorted(used)),
        )
        for stem, label, used in zip(pictures.stems, pictures.labels, pictures.photographs, strict=True)
    ]
    _write_table(folder / f"{pictures.name}.csv", [("path", "label", "photographs"), *rows])


def _write_table(place: Path, rows: Sequence[Sequence[object]]) -> None:
    with place.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _description(bed: Bed, facts: Mapping[str, object]) -> dict[str, object]:
    """Give bed.json's content; a bound that is not there is null, since JSON has no infinity."""
    return {
        "schema": SCHEMA,
        **facts,
        "what": bed.what,
        "valid": bed.valid,
        "checks": [check.to_dict() for check in bed.checks],
        "models": [
            {"name": one.name, "weights": f"{one.name}.pth", "reference": one.reference}
            for one in bed.networks
        ],
        "pictures": [
            {"name": one.name, "table": f"{one.name}.csv", "count": len(one.images)} for one in bed.pictures
        ],
        **bed.facts,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    }
