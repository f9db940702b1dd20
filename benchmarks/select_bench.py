"""Time ``whycam select`` against what it can't do without: a pass a checkpoint, and reading the images once.

Checkpoints of a ResNet-18 and photographs in files are made for it. Each round takes the selection as a
whole, from the folder to the ranking on the disk, between the halves of the bare passes, and reads the images
once before or after these in turn: what disturbs the machine disturbs both. A bare pass runs on tensors that
are ready, in batches of the same size and with the same layout in memory as the selection's.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import cpu_count
from pathlib import Path

import numpy as np
import timm
import torch
from benchmarks import measuring
from benchmarks.measuring import Place
from PIL import Image
from torch import Tensor

from whycam.data import read_image, read_labelled
from whycam.models import LoadedModel, Preprocessing, load
from whycam.models.sidecar import sidecar_path, sidecar_text
from whycam.selection import SelectRequest, select_checkpoints

MODEL, SIZE, CLASSES, BATCH = "resnet18", 96, 10, 32
PHOTOGRAPHS = ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")
CROP = (240, 320)
PREPROCESSING = Preprocessing.for_size(
    (SIZE, SIZE), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875
)


@dataclass(frozen=True)
class Scene:
    """The files of the benchmark: the data set, the checkpoints, and room for selections."""

    data: Path
    weights: Path
    outs: Path


def make_scene(folder: Path, images: int, checkpoints: int) -> Scene:
    """Write photographs by class, and checkpoints with random weights, always the same."""
    scene = Scene(folder / "data", folder / "weights", folder / "outs")
    scene.weights.mkdir()
    _write_photographs(scene.data / "val", images)
    names = tuple(sorted(path.name for path in (scene.data / "val").iterdir()))
    for number in range(checkpoints):
        torch.manual_seed(number)
        file = scene.weights / f"model-{number}.pth"
        torch.save(timm.create_model(MODEL, num_classes=CLASSES).state_dict(), file)
        beside = sidecar_text(
            model=f"timm:{MODEL}", preprocessing=PREPROCESSING, class_names=names, training={"epoch": number}
        )
        sidecar_path(file).write_bytes(beside)
    return scene


def _write_photographs(folder: Path, images: int) -> None:
    """Crop scikit-image's own photographs at random places, and write them as JPEG files."""
    import skimage

    place = Path(skimage.__file__).parent / "data"
    photographs = [
        Image.open(place / name).convert("RGB") for name in PHOTOGRAPHS if (place / name).is_file()
    ]
    draws = np.random.default_rng(0)
    for number in range(images):
        whole = photographs[number % len(photographs)]
        top, left = (
            int(draws.integers(0, side - cut)) for side, cut in zip(whole.size[::-1], CROP, strict=True)
        )
        crop = whole.crop((left, top, left + CROP[1], top + CROP[0]))
        file = folder / f"class{number % CLASSES}" / f"{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        crop.save(file, quality=90)


def read_once(scene: Scene) -> Tensor:
    """Read and preprocess every image, on as many threads as the selection has; channels last in memory."""

    def view(path: Path) -> Tensor:
        return PREPROCESSING.apply(read_image(path).image)[0]

    paths = [item.path for item in read_labelled(scene.data).split("val")]
    with ThreadPoolExecutor(min(8, cpu_count() or 1)) as executor:
        return torch.stack(list(executor.map(view, paths))).contiguous(memory_format=torch.channels_last)


def bare_pass(model: LoadedModel, images: Tensor) -> None:
    """Predict every image's class."""
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            model.module(images[start : start + BATCH]).argmax(1)


def one_selection(scene: Scene, number: int) -> None:
    """Rank all checkpoints, into a folder of its own."""
    request = SelectRequest(
        weights=scene.weights, data=scene.data, folder=scene.outs / str(number), split="val", batch_size=BATCH
    )
    select_checkpoints(request)


def seconds(run: Callable[[], object]) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Round:
    """Seconds of one round: the selection, all bare passes, reading the images once."""

    selection: float
    passes: float
    reading: float

    @property
    def ratio(self) -> float:
        """The selection over what it cannot do without."""
        return self.selection / (self.passes + self.reading)


def rounds(scene: Scene, checkpoints: int, count: int) -> Iterator[Round]:
    """Measure round by round, after one of each to warm up."""
    images = read_once(scene)
    model = load(str(scene.weights / "model-0.pth"))
    bare_pass(model, images)
    half = checkpoints // 2
    for number in range(count):
        reading = seconds(lambda: read_once(scene)) if number % 2 else 0.0
        passes = sum(seconds(lambda: bare_pass(model, images)) for _ in range(half))
        selection = seconds(partial(one_selection, scene, number))
        passes += sum(seconds(lambda: bare_pass(model, images)) for _ in range(checkpoints - half))
        reading = reading or seconds(lambda: read_once(scene))
        yield Round(selection, passes, reading)


def lines(images: int, checkpoints: int, count: int) -> Iterator[str]:
    """Measure, and give the table's lines."""
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder), images, checkpoints)
        found = list(rounds(scene, checkpoints, count))
    low, middle, high = statistics.quantiles((one.ratio for one in found), n=4)
    yield f"ResNet-18, {SIZE} x {SIZE} pixels, {images} images, {checkpoints} checkpoints, {count} rounds"
    yield ""
    yield "| what | seconds, median |"
    yield "| --- | --- |"
    yield f"| {checkpoints} bare passes | {statistics.median(one.passes for one in found):.1f} |"
    yield f"| reading the images once | {statistics.median(one.reading for one in found):.1f} |"
    yield f"| whycam select | {statistics.median(one.selection for one in found):.1f} |"
    yield ""
    yield f"whycam select / (bare passes + reading): {middle:.3f}, quartiles {low:.3f} to {high:.3f}."


def main() -> None:
    """Measure, print, and put the table into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a Markdown file with <!-- select --> around the table")
    arguments = parser.parse_args()
    made = [Place().describe(), ""]
    print(made[0])
    for line in lines(arguments.images, arguments.checkpoints, arguments.rounds):
        print(line, flush=True)
        made.append(line)
    if arguments.out:
        measuring.put_into(arguments.out, "select", made)


if __name__ == "__main__":
    main()
