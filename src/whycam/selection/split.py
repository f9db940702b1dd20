"""The images that checkpoints are ranked on: a split of a data set, drawn as training drew it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from whycam.data import ImageItem, read_labelled
from whycam.data.labelled import SHARES
from whycam.errors import UsageError
from whycam.models.sidecar import sidecar_beside
from whycam.selection.checkpoints import Checkpoint


@dataclass(frozen=True)
class Split:
    """One split: its name, its images in their order, each one's class folder; ``doubt`` is for the user."""

    name: str
    items: tuple[ImageItem, ...]
    folders: tuple[str, ...]
    classes: tuple[int, ...]
    drawn_from: Mapping[str, Any] | None
    doubt: str | None

    def describe(self) -> dict[str, Any]:
        """Say as plain data which images these are."""
        listed = "".join(f"{item.id}\n{item.label}\n" for item in self.items)
        return {
            "name": self.name,
            "images": len(self.items),
            "list": sha256(listed.encode()).hexdigest(),
            "drawn_from": self.drawn_from,
        }


def read_split(folder: Path, name: str, checkpoints: Sequence[Checkpoint]) -> Split:
    """List a split of the data set in ``folder``.

    Where the folder is not split itself, the split is drawn with the seed and the shares in the first file
    that training wrote beside a checkpoint. Raises UsageError.
    """
    facts = _training_facts(checkpoints)
    seed, shares = facts.get("split_seed", 0), facts.get("shares", SHARES)
    if type(seed) is not int or not _are_numbers(shares):
        raise UsageError(
            f"the file beside the checkpoints says split_seed {seed!r} and shares {shares!r}; expected a "
            "whole number and three numbers, as whycam train writes them"
        )
    data = read_labelled(folder, shares=shares, seed=seed)
    drawn_from = {"seed": data.seed, "shares": list(data.shares)} if data.drawn else None
    doubt = (
        f"the split was drawn with seed {seed}, as nothing beside the checkpoints says how training drew it: "
        "they may have been trained on these images; give a data set with a folder for each split"
    )
    return Split(
        name=name,
        items=data.split(name),
        folders=data.class_names,
        classes=data.class_indices(name),
        drawn_from=drawn_from,
        doubt=doubt if data.drawn and "split_seed" not in facts else None,
    )


def _training_facts(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Any]:
    for checkpoint in checkpoints:
        try:
            beside = sidecar_beside(checkpoint.path)
        except UsageError:  # its checkpoint will be skipped for it
            continue
        if beside is not None:
            return beside.training
    return {}


def _are_numbers(shares: Any) -> bool:
    return isinstance(shares, list | tuple) and all(type(share) in (int, float) for share in shares)
