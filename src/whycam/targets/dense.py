"""Targets of segmentation models: a class's score over some of the image's pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import AbsentError, TargetError
from whycam.targets.base import Target, Undo, miscount
from whycam.targets.outputs import Outputs, described, entry, main_tensor, wide
from whycam.types import Classes, Rows, Scores

Dense = Float[Tensor, "batch classes *grid"]
Masks = Bool[Tensor, "batch *grid"]


def dense_scores_of(outputs: Outputs) -> Dense:
    """Return the scores of every class at every place [B, C, *grid], in float32 or wider.

    Takes a tensor, ``logits`` or ``out`` of a dict or model output, or the first entry of a tuple. From
    queries with a class and a mask each (MaskFormer, Mask2Former) the usual semantic map is made: the sum
    over queries of softmax(class) * sigmoid(mask). Raises TargetError for anything else.
    """
    queries = _queries(outputs)
    if queries is not None:
        classes, masks = queries
        likely = wide(classes).softmax(2)[:, :, :-1]  # the last one is "no object"
        return torch.einsum("bqc,bq...->bc...", likely, wide(masks).sigmoid())
    found = main_tensor(outputs, ("logits", "out"))
    if found is None or found.ndim < 4 or not found.is_floating_point():
        raise TargetError(
            f"the model returned {described(outputs)}; SegmentationClass needs scores "
            "[batch, classes, height, width]: a tensor, logits, out, or MaskFormer's queries"
        )
    return wide(found)


def _queries(outputs: Outputs) -> tuple[Tensor, Tensor] | None:
    classes, masks = entry(outputs, "class_queries_logits"), entry(outputs, "masks_queries_logits")
    return None if classes is None or masks is None else (classes, masks)


@dataclass(frozen=True, eq=False)
class SegmentationClass(Target):
    """The mean score of class ``index`` over a mask.

    ``mask`` is bool, [H, W] for all images or [B, *size] for one an image, at any size: it is brought to
    the scores' grid by its nearest cells. None takes the pixels that the model itself gives to that class
    in the clean forward; an image without any is an AbsentError.
    """

    index: int
    mask: Tensor | npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Refuse a mask that is not made of yes and no."""
        if self.mask is None:
            return
        given: Any = torch.as_tensor(self.mask) if isinstance(self.mask, np.ndarray) else self.mask
        if not isinstance(given, Tensor) or given.dtype != torch.bool or given.ndim not in (2, 3, 4):
            raise TargetError(
                f"the mask is {described(given)}; expected bool [height, width], or [batch, height, width]"
            )
        object.__setattr__(self, "mask", given)

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the mean scores [B]."""
        return self.pin(outputs)(outputs)

    def pin(self, outputs: Outputs) -> "PixelsOfClass":
        """Fix the pixels, at the scores' grid."""
        scores = dense_scores_of(outputs)
        _check_class(self.index, scores)
        if self.mask is None:
            mask = _own_pixels(scores, self.index, 0.0 if _queries(outputs) is None else 0.5)
            mend = (
                f"the model gives no pixel to class {self.index}; explain a class that it finds, or give "
                "mask=torch.ones(1, 1, dtype=torch.bool) to score all pixels"
            )
        else:
            mask = _at_grid(torch.as_tensor(self.mask), scores)
            grid = " x ".join(map(str, scores.shape[2:]))
            mend = f"the mask has no pixel on the scores' grid of {grid}; give a larger one"
        empty = ~mask.flatten(1).any(1)
        if bool(empty.any()):
            raise AbsentError(f"image {int(empty.nonzero()[0])} of the batch: {mend}")
        return PixelsOfClass(self.index, mask, self.describe())

    def classes(self, outputs: Outputs) -> Classes:
        """Return ``index`` for every image [B]."""
        scores = dense_scores_of(outputs)
        return torch.full((len(scores),), self.index, device=scores.device)

    def select(self, rows: Rows) -> "SegmentationClass":
        """Return the same with the masks of these images."""
        if self.mask is None or self.count() is None:
            return self
        return replace(self, mask=self.mask[rows.to(self.mask.device)])

    def count(self) -> int | None:
        """Return the number of masks, or None where one is for all."""
        one_for_all = self.mask is None or self.mask.ndim == 2 or len(self.mask) == 1
        return None if one_for_all or self.mask is None else len(self.mask)

    def describe(self) -> str:
        """Name the class, and whose pixels they are."""
        return f"class {self.index} over {'its own pixels' if self.mask is None else 'a given mask'}"


@dataclass(frozen=True, eq=False)
class PixelsOfClass(Target):
    """A pinned SegmentationClass: the class's mean score over each image's own mask [B, *grid]."""

    index: int
    mask: Masks
    words: str

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the mean scores [B]."""
        scores = dense_scores_of(outputs)
        _check_class(self.index, scores)
        mask = _at_grid(self.mask, scores)
        inside = torch.where(mask, scores[:, self.index], 0.0)
        return inside.flatten(1).sum(1) / mask.flatten(1).sum(1)

    def classes(self, outputs: Outputs) -> Classes:
        """Return ``index`` for every image [B]."""
        return torch.full((len(self.mask),), self.index, device=self.mask.device)

    def select(self, rows: Rows) -> "PixelsOfClass":
        """Return the same with the masks of these images."""
        return replace(self, mask=self.mask[rows.to(self.mask.device)])

    def join(self, others: Sequence["PixelsOfClass"], counts: Sequence[int]) -> "PixelsOfClass | None":
        """Return the masks of all batches."""
        if any((one.index, one.words) != (self.index, self.words) for one in others):
            return None
        return replace(self, mask=torch.cat([self.mask, *(one.mask for one in others)]))

    def count(self) -> int:
        """Return the number of masks."""
        return len(self.mask)

    def in_view(self, undo: Undo, size: tuple[int, ...]) -> "PixelsOfClass":
        """Move the masks along with the images."""
        return replace(self, mask=undo(self.mask.float()) > 0.5)

    def describe(self) -> str:
        """Name the class, and whose pixels they were."""
        return self.words


def _check_class(index: int, scores: Dense) -> None:
    if not 0 <= index < scores.shape[1]:
        raise TargetError(
            f"class {index} does not exist; the model has {scores.shape[1]} classes, "
            f"0 to {scores.shape[1] - 1}"
        )


def _own_pixels(scores: Dense, index: int, threshold: float) -> Masks:
    """Return where the class is the strongest; with one class, where it is above the threshold."""
    if scores.shape[1] == 1:
        return scores.detach()[:, 0] > threshold
    return scores.detach().argmax(1) == index


def _at_grid(mask: Tensor, scores: Dense) -> Masks:
    """Bring a mask, [H, W] or [1 or B, *size], to the scores' batch and grid."""
    masks = mask.unsqueeze(0) if mask.ndim == 2 else mask
    if masks.ndim != scores.ndim - 1:
        raise TargetError(
            f"the mask is {list(mask.shape)} for scores {list(scores.shape)}; expected [height, width], or "
            "[batch, *size] with as many axes as the scores have without their classes"
        )
    if len(masks) not in (1, len(scores)):
        raise TargetError(miscount(len(masks), len(scores)))
    resized = F.interpolate(masks[:, None].float(), size=scores.shape[2:], mode="nearest-exact")[:, 0] > 0.5
    return resized.to(scores.device).expand(len(scores), *scores.shape[2:])
