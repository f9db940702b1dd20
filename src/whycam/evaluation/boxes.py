"""Weak localisation: masks and boxes from maps, and their scores over a data set.

A threshold is chosen on one part of the images and used on another; ``tuned_accuracy`` takes both parts, so
that the two can't be mixed up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whycam.errors import UsageError
from whycam.evaluation.localisation import Masks
from whycam.evaluation.ranking import importance
from whycam.types import Heatmaps, Map

Marked: TypeAlias = Bool[Tensor, "batch height width"]
Labels: TypeAlias = Int[Tensor, "batch height width"]
Boxes: TypeAlias = Float[Tensor, "batch boxes 4"]
"""(top, left, bottom, right) in pixels, bottom and right exclusive; NaN in the rows of an absent box."""

THRESHOLDS = tuple(step / 50 for step in range(50))
OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps with a true box from which on a box counts as found, in the second version of MaxBoxAcc."""


def marked(maps: Map, size: Sequence[int], threshold: float) -> Marked:
    """Return where the rectified map reaches ``threshold`` of its maximum: [B, H, W], none of a blank one."""
    heat = _shares(maps, size)
    return (heat >= threshold) & (heat > 0)


def _shares(maps: Map, size: Sequence[int]) -> Heatmaps:
    heat = importance(maps.clamp(min=0), size)
    peak = heat.amax((1, 2), keepdim=True)
    return heat / peak.where(peak > 0, 1)


def components(masks: Marked) -> Labels:
    """Number the connected parts of each mask [B, H, W]; 0 where there is none, corners connect.

    A part's number is its last pixel's, from 1. Labels spread along whole runs of a row or a column at once.
    """
    height, width = masks.shape[1:]
    labels = torch.arange(1, height * width + 1, device=masks.device).view(1, height, width) * masks
    while True:
        spread = F.max_pool2d(labels.double().unsqueeze(1), 3, stride=1, padding=1).squeeze(1).long() * masks
        spread = _along_runs(spread, masks)
        spread = _along_runs(spread.transpose(1, 2), masks.transpose(1, 2)).transpose(1, 2)
        if torch.equal(spread, labels):
            return labels
        labels = spread


def _along_runs(labels: Tensor, masks: Tensor) -> Tensor:
    """Give every run of a row, along the last axis, its largest label."""
    runs = (~masks).long().cumsum(-1)
    highest = labels.new_zeros(*masks.shape[:-1], masks.shape[-1] + 1)
    highest = highest.scatter_reduce(-1, runs, labels, "amax")
    return highest.gather(-1, runs) * masks


def boxes_of(masks: Marked) -> Boxes:
    """Return the box around each connected part [B, K, 4], the largest part first; NaN where there are fewer.

    K is the most parts that any of the masks has, at least 1. Of parts of one size that with the lower last
    pixel comes first.
    """
    labels = components(masks)
    height, width = masks.shape[1:]
    flat = labels.flatten(1)
    sizes = flat.new_zeros(len(flat), height * width + 1).scatter_add_(1, flat, torch.ones_like(flat))
    sizes[:, 0] = 0
    ordered, parts = sizes.sort(dim=1, descending=True, stable=True)
    most = max(1, int((ordered > 0).sum(1).max()))
    rows = torch.arange(height, device=masks.device).view(1, -1, 1).expand_as(labels).flatten(1)
    columns = torch.arange(width, device=masks.device).view(1, 1, -1).expand_as(labels).flatten(1)
    ends = [(rows, "amin", 0), (columns, "amin", 0), (rows, "amax", 1), (columns, "amax", 1)]
    sides = []
    for places, extreme, beyond in ends:
        start = flat.new_full(sizes.shape, max(height, width) if extreme == "amin" else -1)
        found = start.scatter_reduce(1, flat, places, extreme)
        sides.append(found.gather(1, parts[:, :most]) + beyond)
    boxes = torch.stack(sides, 2).float()
    return torch.where((ordered[:, :most] > 0).unsqueeze(2), boxes, torch.nan)


def overlap(boxes: Boxes, others: Float[Tensor, "batch others 4"]) -> Float[Tensor, "batch boxes others"]:
    """Return the intersection over union of every box with every other of the image; 0 for absent ones."""
    one, other = boxes.unsqueeze(2), others.to(boxes).unsqueeze(1)
    sides = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    common = sides.clamp(min=0).prod(-1)
    either = _size(one) + _size(other) - common
    return torch.nan_to_num(common / either.clamp(min=1e-30), nan=0.0)


def _size(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


Version = Literal[1, 2]


def box_hits(
    maps: Map, boxes: Boxes, size: Sequence[int], *, version: Version = 2
) -> Float[Tensor, "batch thresholds"]:
    """Return, at each of ``THRESHOLDS``, how far a map's box finds a true one [B, T] in [0, 1].

    Version 1: 1 where the largest part's box overlaps a true box by half, else 0. Version 2: the box of any
    part, and the share of ``OVERLAPS`` that are reached. A map that shows nothing finds nothing.
    Source: Choe 2020 (MaxBoxAcc).
    """
    needed = (0.5,) if version == 1 else OVERLAPS
    found = []
    for threshold in THRESHOLDS:
        parts = boxes_of(marked(maps, size, threshold))
        best = overlap(parts[:, :1] if version == 1 else parts, boxes).flatten(1).amax(1)
        found.append(torch.stack([best >= least for least in needed]).float().mean(0))
    return torch.stack(found, 1)


@dataclass(frozen=True)
class Tuned:
    """A threshold that was chosen on some images, and what it gives on others."""

    threshold: float
    accuracy: float
    n: int


def tuned_accuracy(
    tuning: Float[Tensor, "tuned thresholds"], test: Float[Tensor, "tested thresholds"]
) -> Tuned:
    """Choose the threshold on ``tuning`` and use it on ``test``, each from ``box_hits`` of its own images.

    The lowest of equally good ones. Raises UsageError where a part is empty, or both are the same.
    """
    if not len(tuning) or not len(test):
        raise UsageError(
            f"{len(tuning)} images to tune the threshold on and {len(test)} to test it; give at least one "
            f"of each"
        )
    if tuning.data_ptr() == test.data_ptr():
        raise UsageError("the threshold would be tuned on the images it is tested on; give two parts")
    best = int(tuning.double().mean(0).argmax())
    return Tuned(THRESHOLDS[best], float(test[:, best].double().mean()), len(test))


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Pixels of all images so far by the map's value: on the object and off it, [bins], the highest first."""

    on: Int[Tensor, "bins"]
    off: Int[Tensor, "bins"]

    @classmethod
    def of(cls, maps: Map, masks: Masks, bins: int = 1000) -> "PixelCounts":
        """Count the pixels of maps [B, *grid], each scaled to its own maximum, against masks [B, H, W]."""
        heat = _shares(maps, masks.shape[1:])
        place = ((1 - heat) * bins).long().clamp(0, bins - 1).flatten()
        here = (masks.to(maps.device) != 0).flatten()
        empty = torch.zeros(bins, dtype=torch.long, device=maps.device)
        return cls(empty.scatter_add(0, place, here.long()), empty.scatter_add(0, place, (~here).long()))

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        """Return the counts of both; whole numbers, so that the order of the images doesn't matter."""
        return PixelCounts(self.on + other.on, self.off + other.off)

    def average_precision(self) -> float:
        """Return PxAP: the area under precision over recall, of all images' pixels together, in [0, 1].

        NaN where no pixel is on an object. Source: Choe 2020.
        """
        found, wrong = self.on.cumsum(0).double(), self.off.cumsum(0).double()
        precision = found / (found + wrong).clamp(min=1)
        total = float(found[-1])
        return float((precision * self.on).sum()) / total if total else float("nan")
