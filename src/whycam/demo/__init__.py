"""A small model, images and true masks inside the package, so that everything can be tried offline.

The images are real handwritten digits laid on crops of real photographs, neither seen in training;
`LICENSES.md` beside this file names every source, and `scripts/make_demo.py` makes all of it again.
"""

import csv
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.errors import ModelError

if TYPE_CHECKING:
    from whycam.demo.network import DemoNet

__all__ = ["demo_expectation", "demo_images", "demo_labels", "demo_masks", "demo_metadata", "demo_network"]


def demo_images() -> list[Path]:
    """Give the paths of the demo's RGB images, 96 x 96, sorted by name.

    Raises ModelError where the package is not installed as plain files.
    """
    return sorted((_folder() / "images").glob("*.png"))


def demo_masks() -> list[Path]:
    """Give the paths of the images' true masks, in the order of `demo_images`.

    A mask is a one-bit PNG of its image's size and name: 1 on the digit, 0 elsewhere.
    Raises ModelError where the package is not installed as plain files.
    """
    return sorted((_folder() / "masks").glob("*.png"))


def demo_labels() -> list[str]:
    """Give the images' true class names, in the order of `demo_images`.

    Raises ModelError where the package is not installed as plain files.
    """
    with (_folder() / "labels.csv").open(encoding="utf-8", newline="") as file:
        label_of = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    return [label_of[path.name] for path in demo_images()]


def demo_metadata() -> dict[str, Any]:
    """Give how the demo was made: seed, recipe, held-out accuracy, classes, mean, std, versions, SHA-256.

    Images are scaled to [0, 1], then normalised by ``mean`` and ``std``, before the network sees them.
    Raises ModelError where the package is not installed as plain files.
    """
    metadata: dict[str, Any] = json.loads((_folder() / "metadata.json").read_text(encoding="utf-8"))
    return metadata


def demo_expectation() -> dict[str, Any]:
    """Give what explaining one of the demo's images must come to: class, probability and map [12][12].

    Raises ModelError where the package is not installed as plain files.
    """
    expected: dict[str, Any] = json.loads((_folder() / "expected.json").read_text(encoding="utf-8"))
    return expected


def demo_network() -> "DemoNet":
    """Give the trained network on the CPU, in eval mode and float32; a new one at each call.

    Raises ModelError where the package is not installed as plain files.
    """
    from safetensors.torch import load_file

    from whycam.demo.network import DemoNet

    network = DemoNet()
    # strict; the file's float16 is widened into the network's own float32
    network.load_state_dict(load_file(_folder() / "weights.safetensors"))
    return network.eval()


def _folder() -> Path:
    """Find the demo's files."""
    folder = files(__name__)
    if not isinstance(folder, Path):
        raise ModelError(
            f"the demo's files are inside {folder}; expected plain files on disk; install whycam with pip"
        )
    return folder
