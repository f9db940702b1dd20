"""Make the demo's weights, images and masks again from a seed.

    python scripts/make_demo.py                        all of it, about five minutes on two threads
    python scripts/make_demo.py --scene 7 --out FOLDER  one shipped scene and its mask

The seed decides the scenes to the pixel. It decides the weights too, on the same processor with the same
versions of the libraries, since training runs a fixed number of steps; elsewhere they differ a little.
"""

import argparse
import csv
import hashlib
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from whycam import explain
from whycam.demo.network import DemoNet
from whycam.testbeds.credits import credits
from whycam.testbeds.scenes import (
    CLASSES,
    PHOTOGRAPHS,
    SIDE,
    Scenes,
    Sources,
    held_out_scene,
    held_out_scenes,
    load_sources,
    photograph_digests,
    render,
    stream,
    uniform,
)
from whycam.testbeds.training import MEAN, STD, Batch, Schedule, fit, normalise

DEMO = Path(__file__).resolve().parents[1] / "src" / "whycam" / "demo"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHIPPED = 24
HELD_OUT = 4000
THREADS = 2
REQUIRED_ACCURACY = 0.97
TESTED = ("gradcam", "features")
LIBRARIES = ("torch", "numpy", "pillow", "safetensors", "scikit-image", "scikit-learn")


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    # on a full canvas from the start, the loss stays at chance for long: a small one first
    small_side: int = 56
    small_steps: int = 600
    full_steps: int = 600
    batch: int = 80
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warm_up_steps: int = 50

    @property
    def steps(self) -> int:
        """All optimiser steps."""
        return self.small_steps + self.full_steps


def train(sources: Sources, seed: int, recipe: Recipe) -> DemoNet:
    """Train on scenes made on the fly; every step's scenes are new."""
    torch.manual_seed(seed)
    network = DemoNet()
    chances = stream(seed, 1)

    def draw(step: int) -> Batch:
        side = recipe.small_side if step < recipe.small_steps else SIDE
        scenes = render(sources, uniform(chances, recipe.batch), side=side, dtype=torch.float32)
        return scenes.images, scenes.labels

    def tell(step: int, loss: Tensor) -> None:
        if step % 100 == 99:
            print(f"step {step + 1} of {recipe.steps}: loss {loss:.3f}", flush=True)

    schedule = Schedule(recipe.steps, recipe.learning_rate, recipe.weight_decay, recipe.warm_up_steps)
    fit(network, draw, schedule, tell)
    return network


def hits(network: DemoNet, lots: Iterable[Scenes]) -> Tensor:
    """Tell which scenes the network gets right, bool [N]."""
    with torch.inference_mode():
        return torch.cat([network(normalise(lot.images)).argmax(1) == lot.labels for lot in lots])


def interval(right: Tensor, digits: Tensor, seed: int) -> tuple[float, float]:
    """Give accuracy's 95 % bootstrap interval. Digits are drawn, not scenes, since scenes share digits."""
    scenes = np.bincount(digits.numpy())
    correct = np.bincount(digits.numpy(), weights=right.numpy())
    scenes, correct = scenes[scenes > 0], correct[scenes > 0]
    drawn = stream(seed, 3).randint(len(scenes), size=(2000, len(scenes)))
    low, high = np.percentile(correct[drawn].sum(1) / scenes[drawn].sum(1), (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def rounded_to_half(network: DemoNet) -> DemoNet:
    """Give the network as it will be loaded: float32, from weights kept in float16."""
    half = DemoNet()
    half.load_state_dict(half_weights(network))
    return half.eval()


def half_weights(network: DemoNet) -> dict[str, Tensor]:
    """Give the state with its real numbers in float16."""
    state = network.state_dict()
    return {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in state.items()
    }


def scene_name(index: int, label: int) -> str:
    """Give a scene's file name, which sorts and tells the class."""
    return f"{index:02d}-{WORDS[label]}.png"


def write_scene(folder: Path, name: str, image: Tensor, mask: Tensor) -> None:
    """Write an image and its one-bit mask, whose ones are the digit."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(folder / "images" / name, optimize=True)
    Image.fromarray(mask.numpy()).save(folder / "masks" / name, optimize=True)


def write_scenes(folder: Path, scenes: Scenes) -> list[str]:
    """Write the shipped scenes and their labels; gives the names in order."""
    for stale in [*folder.glob("images/*.png"), *folder.glob("masks/*.png")]:
        stale.unlink()
    labels = scenes.labels[:SHIPPED].tolist()
    names = [scene_name(index, label) for index, label in enumerate(labels)]
    for name, image, mask in zip(names, scenes.images, scenes.masks, strict=False):
        write_scene(folder, name, image, mask)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label"))
        writer.writerows((f"images/{name}", label) for name, label in zip(names, labels, strict=True))
    return names


def write_licences(folder: Path, names: list[str], photographs: list[int]) -> None:
    """Write LICENSES.md: what each image is made of, who made it and under which licence."""
    used = [
        ", ".join(
            name.removesuffix(".png") for name, one in zip(names, photographs, strict=True) if one == index
        )
        for index in range(len(PHOTOGRAPHS))
    ]
    text = credits(INTRO, "under the images", [where or "training only" for where in used])
    (folder / "LICENSES.md").write_text(TITLE + text + TERMS, encoding="utf-8")


TITLE = "# Sources of the demo's images\n\n"
INTRO = (
    "Written by `scripts/make_demo.py`. Each image is a crop of a photograph with a handwritten digit "
    "drawn over\nit; each mask is where that digit lies."
)
TERMS = """
## What that means for the files here

The images and masks may be passed on and changed with the credit above. The weights, `weights.safetensors`,
are part of whycam and come under its licence, Apache-2.0.
"""


def sha256(path: Path) -> str:
    """Give a file's SHA-256 in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_metadata(folder: Path, facts: dict[str, object]) -> None:
    """Write metadata.json: the facts, the versions and the digest of each file beside it."""
    shipped = [
        folder / "weights.safetensors",
        folder / "labels.csv",
        *sorted(folder.glob("images/*.png")),
        *sorted(folder.glob("masks/*.png")),
    ]
    whole = {
        **facts,
        "photographs": photograph_digests(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "sha256": {path.relative_to(folder).as_posix(): sha256(path) for path in shipped},
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    (folder / "metadata.json").write_text(text + "\n", encoding="utf-8")


def write_expected(folder: Path, network: DemoNet, image: Tensor, name: str) -> None:
    """Write expected.json: what `whycam doctor` must find on a shipped image [3, H, W]."""
    explanation = explain(network, normalise(image[None]), method=TESTED[0], layer=TESTED[1])
    probability, index = explanation.outputs[0].softmax(0).max(0)
    expected = {
        "image": name,
        "method": TESTED[0],
        "layer": TESTED[1],
        "class": index.item(),
        "probability": round(probability.item(), 5),
        "map": [[round(value, 5) for value in row] for row in explanation.maps[0].tolist()],
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


def measure(network: DemoNet, lots: list[Scenes], seed: int) -> dict[str, object]:
    """Measure the network as it will be loaded; raises SystemExit where it is not good enough to ship."""
    digits = torch.cat([lot.digits for lot in lots])
    right = hits(rounded_to_half(network), lots)
    accuracy = right.double().mean().item()
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(
            f"held-out accuracy {accuracy:.4f} is below {REQUIRED_ACCURACY}; train for more steps"
        )
    return {
        "accuracy": accuracy,
        "interval95": interval(right, digits, seed),
        "n": len(right),
        "distinct_digits": len(np.unique(digits.numpy())),
        "accuracy_before_rounding_to_float16": hits(network, lots).double().mean().item(),
    }


def make(folder: Path, seed: int, recipe: Recipe) -> None:
    """Train, measure, and only then write everything."""
    training, held_out = load_sources(seed)
    network = train(training, seed, recipe)
    lots = held_out_scenes(held_out, seed, HELD_OUT)
    measured = measure(network, lots, seed)
    print(f"held out: {measured}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(save(half_weights(network)))
    names = write_scenes(folder, lots[0])
    write_expected(folder, rounded_to_half(network), lots[0].images[0], names[0])
    write_licences(folder, names, lots[0].photographs[:SHIPPED].tolist())
    facts = {
        "schema": 1,
        "seed": seed,
        "recipe": {**asdict(recipe), "steps": recipe.steps, "threads": THREADS, "precision": "float32"},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "input": [3, SIDE, SIDE],
        "classes": [str(label) for label in range(CLASSES)],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "held_out": measured,
    }
    write_metadata(folder, facts)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make the demo's weights, images and masks from a seed.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write (default: the package's demo)")
    parser.add_argument("--scene", type=int, help="make only this held-out scene, from 0 on; needs --out")
    options = parser.parse_args(arguments)
    if options.scene is not None and (options.scene < 0 or options.out is None):
        parser.error("--scene needs a number from 0 on, and --out")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Make everything, or one scene."""
    options = parse(arguments)
    if options.scene is not None:
        image, mask, label = held_out_scene(load_sources(options.seed)[1], options.seed, options.scene)
        write_scene(options.out, scene_name(options.scene, label), image, mask)
        return
    began = time.monotonic()
    torch.set_num_threads(THREADS)
    folder = options.out or DEMO
    make(folder, options.seed, Recipe())
    print(f"written to {folder} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
