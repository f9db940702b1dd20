"""A written test bed, read again: its models, its pictures with their truth, and whether it is valid."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whycam.errors import UsageError
from whycam.models import LoadedModel, load
from whycam.testbeds.writing import DESCRIPTION, SCHEMA


@dataclass(frozen=True)
class WrittenSet:
    """One set of a bed's pictures: files, labels and masks, in one order."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    mask_paths: tuple[Path, ...]

    def masks(self) -> Tensor:
        """Read the masks, bool [N, H, W]."""
        return torch.stack([_mask(path) for path in self.mask_paths])


@dataclass(frozen=True)
class WrittenBed:
    """A valid test bed in a folder; ``description`` is what bed.json holds."""

    folder: Path
    description: Mapping[str, Any]

    def model(self, name: str, device: str = "cpu") -> LoadedModel:
        """Load one of its models. Raises UsageError for an unknown name, WeightsError for a broken file."""
        self._one("models", name)
        return load(str(self.folder / f"{name}.pth"), device=device)

    def pictures(self, name: str) -> WrittenSet:
        """Read one of its sets. Raises UsageError for an unknown name."""
        table = self.folder / self._one("pictures", name)["table"]
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return WrittenSet(
            tuple(self.folder / row["path"] for row in rows),
            tuple(row["label"] for row in rows),
            tuple(self.folder / "masks" / Path(row["path"]).relative_to("images") for row in rows),
        )

    def _one(self, kind: str, name: str) -> Mapping[str, Any]:
        known = {one["name"]: one for one in self.description[kind]}
        if name not in known:
            raise UsageError(
                f"{str(self.folder)!r} has no {name!r} among its {kind}; expected one of {', '.join(known)}"
            )
        found: Mapping[str, Any] = known[name]
        return found


def read_bed(folder: str | Path) -> WrittenBed:
    """Read a test bed. Raises UsageError where there is none, or one that is not valid."""
    place = Path(folder)
    try:
        description = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{str(place)!r} holds no test bed that can be read; make one with: whycam testbed NAME --out DIR"
        ) from error
    if description.get("schema") != SCHEMA:
        raise UsageError(
            f"the test bed {str(place)!r} has schema {description.get('schema')}, expected {SCHEMA}; "
            "make it anew"
        )
    if not description["valid"]:
        failed = "; ".join(check["what"] for check in description["checks"] if not check["holds"])
        raise UsageError(
            f"the test bed {str(place)!r} is not valid ({failed}), and nothing measured on it would mean "
            "anything; make it anew with another --seed"
        )
    return WrittenBed(place, description)


def _mask(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("1")))
