"""Targets of detectors: the score or an edge of one of the boxes that they find."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import AbsentError, TargetError
from whycam.targets.base import Target, Undo, miscount
from whycam.targets.outputs import (
    Activation,
    Outputs,
    check_activation,
    described,
    entry,
    is_an_image_each,
    wide,
)
from whycam.types import Classes, Rows, Scores

Side: TypeAlias = Literal["left", "top", "right", "bottom"]
Boxes = Float[Tensor, "boxes 4"]
Mirror: TypeAlias = tuple[float | None, float | None]

# Model outputs of transformers whose last class means "no object"; the other families use sigmoids.
_SOFTMAX = (
    "DetrObjectDetectionOutput",
    "YolosObjectDetectionOutput",
    "TableTransformerObjectDetectionOutput",
)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image.

    ``boxes`` are left, top, right, bottom: in pixels, or as shares of the image's sides where the boxes are
    a transformer's queries, which then have ``probabilities`` [N, C] of every class too.
    """

    boxes: Boxes
    labels: Int[Tensor, "boxes"]
    scores: Float[Tensor, "boxes"]
    probabilities: Float[Tensor, "boxes classes"] | None = None

    def scores_for(self, label: Tensor) -> Tensor:
        """Return every box's score [N] for a class; NaN for other classes where only one is known."""
        if self.probabilities is not None:
            return self.probabilities[:, label]
        return self.scores.where(self.labels == label, torch.nan)


def detections_of(outputs: Outputs, activation: Activation | None = None) -> list[Detections]:
    """Return each image's detections, in float32 or wider.

    Takes a list with a dict of boxes, labels and scores an image (torchvision), or ``logits`` [B, Q, C] with
    ``pred_boxes`` [B, Q, 4] as centre, width and height in shares of the image (DETR and its kin). Raises
    TargetError for anything else.
    """
    if is_an_image_each(outputs) and all({"boxes", "labels", "scores"} <= one.keys() for one in outputs):
        return [Detections(wide(one["boxes"]), one["labels"], wide(one["scores"])) for one in outputs]
    logits, boxes = entry(outputs, "logits", "pred_logits"), entry(outputs, "pred_boxes")
    if logits is None or boxes is None or logits.ndim != 3:
        raise TargetError(
            f"the model returned {described(outputs)}; box targets need a list with a dict of boxes, labels "
            "and scores an image, or logits and pred_boxes"
        )
    probabilities = _probabilities(wide(logits), activation or _activation_of(outputs))
    scores, labels = probabilities.max(2)
    centre, half = wide(boxes)[..., :2], wide(boxes)[..., 2:] / 2
    edges = torch.cat([centre - half, centre + half], 2)
    return [Detections(*one) for one in zip(edges, labels, scores, probabilities, strict=True)]


def _activation_of(outputs: Outputs) -> Activation:
    if type(outputs) is dict or type(outputs).__name__ in _SOFTMAX:
        return "softmax"
    raise TargetError(
        f"a {type(outputs).__name__} does not say how its logits become scores; give activation='sigmoid', "
        "or 'softmax' where the last class means no object"
    )


def _probabilities(logits: Tensor, activation: Activation) -> Tensor:
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(2)[..., :-1]


class _Detection(Target):
    """A detection by its rank: what the two targets of boxes share."""

    rank: int
    label: int | None
    threshold: float
    activation: Activation | None
    side: Side | None = None

    def __post_init__(self) -> None:
        """Refuse what selects nothing."""
        if self.rank < 1:
            raise TargetError(f"rank {self.rank} does not exist; 1 is the detection with the highest score")
        if self.side is not None and self.side not in get_args(Side):
            raise TargetError(f"side {self.side!r} is none of {', '.join(get_args(Side))}")
        if self.activation is not None:
            check_activation(self.activation)

    def __call__(self, outputs: Outputs) -> Scores:
        """Return what is explained of each image's detection [B]."""
        return self.pin(outputs)(outputs)

    def classes(self, outputs: Outputs) -> Classes:
        """Return the detections' labels [B]."""
        return self.pin(outputs).labels

    def pin(self, outputs: Outputs) -> "FoundBox":
        """Fix each image's detection: its label and its box."""
        images = detections_of(outputs, self.activation)
        chosen = torch.stack([self._choose(found, position) for position, found in enumerate(images)])
        pairs = list(zip(images, chosen, strict=True))
        return FoundBox(
            boxes=torch.stack([found.boxes.detach()[at] for found, at in pairs]),
            labels=torch.stack([found.labels[at] for found, at in pairs]),
            queries=None if images[0].probabilities is None else chosen,
            side=self.side,
            activation=self.activation,
            words=self.describe(),
        )

    def _choose(self, found: Detections, position: int) -> Tensor:
        """Return the place of the detection of this rank among an image's boxes."""
        scores = found.scores.detach()
        right = torch.ones_like(found.labels, dtype=torch.bool)
        right = right if self.label is None else found.labels == self.label
        fit = right & (scores >= self.threshold)
        count = int(fit.sum())
        if count < self.rank:
            what = "" if self.label is None else f" of label {self.label}"
            best = f" (best score {float(scores[right].max()):.2g})" if bool(right.any()) else ""
            raise AbsentError(
                f"image {position} of the batch has {count} detections{what} with a score of "
                f"{self.threshold:g} or more{best}, and rank {self.rank} was asked for; lower threshold= or "
                "the detector's own, or leave the image out"
            )
        order = scores.masked_fill(~fit, -torch.inf).sort(descending=True, stable=True).indices
        return order[self.rank - 1]

    def describe(self) -> str:
        """Name the detection, and its edge if that is explained."""
        what = "score" if self.side is None else f"{self.side} edge"
        of = "" if self.label is None else f" of class {self.label}"
        return f"{what} of box {self.rank}{of}"


@dataclass(frozen=True)
class BoxScore(_Detection):
    """The score of each image's detection with the ``rank``-th highest score, of class ``label`` if given.

    Detections count from a score of ``threshold`` on. On a changed copy of the image the detection is the
    one of the same label that overlaps most with it (a transformer's: the same query); where none does, the
    score is 0. ``activation`` is for transformers whose outputs don't tell it.
    """

    rank: int = 1
    label: int | None = None
    threshold: float = 0.05
    activation: Activation | None = None


@dataclass(frozen=True)
class BoxCoordinate(_Detection):
    """Where an edge of a detection lies: left and right from the image's left, top and bottom from its top.

    In pixels, or as a share of the image's side for a transformer's boxes. The map shows what moves the
    edge to the right or down. The detection is chosen as for ``BoxScore``; one that is gone is a TargetError.
    """

    side: Side
    rank: int = 1
    label: int | None = None
    threshold: float = 0.05
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class FoundBox(Target):
    """A pinned detection an image: ``boxes`` [B, 4] and ``labels`` [B] of the clean forward.

    ``queries`` [B] are a transformer's; ``side`` is the explained edge, None for the score; ``mirror`` has
    the width and the height where the images are seen mirrored left to right, or top to bottom.
    """

    boxes: Boxes
    labels: Classes
    queries: Classes | None
    side: Side | None
    activation: Activation | None
    words: str
    mirror: Mirror = (None, None)

    def __call__(self, outputs: Outputs) -> Scores:
        """Return what is explained of each image's detection [B]."""
        images = detections_of(outputs, self.activation)
        if len(images) != len(self.boxes):
            raise TargetError(miscount(len(self.boxes), len(images)))
        return torch.stack([self._of_image(found, position) for position, found in enumerate(images)])

    def _of_image(self, found: Detections, position: int) -> Tensor:
        found = replace(found, boxes=_mirrored(found.boxes, self.mirror))
        place = self._place(found, position)
        if self.side is None:
            # a sum of nothing is 0, and part of the graph
            return found.scores[:0].sum() if place is None else found.scores_for(self.labels[position])[place]
        if place is None:
            raise AbsentError(
                f"the box of image {position} is gone in a changed copy of it, so its {self.side} edge is "
                "nowhere; change the image less, or explain BoxScore()"
            )
        return found.boxes[place, get_args(Side).index(self.side)]

    def _place(self, found: Detections, position: int) -> Tensor | None:
        """Return where the pinned detection is among an image's boxes, or None where it is gone."""
        if self.queries is not None and self.mirror == (None, None):
            return self.queries[position]
        overlap = _overlaps(self.boxes[position], found.boxes.detach())
        overlap = overlap * (found.labels == self.labels[position])
        if not len(overlap) or not bool((overlap > 0).any()):
            return None
        return overlap.argmax()

    def classes(self, outputs: Outputs) -> Classes:
        """Return the detections' labels [B]."""
        return self.labels

    def select(self, rows: Rows) -> "FoundBox":
        """Return the detections of these images."""
        at = rows.to(self.boxes.device)
        queries = None if self.queries is None else self.queries[at]
        return replace(self, boxes=self.boxes[at], labels=self.labels[at], queries=queries)

    def join(self, others: Sequence["FoundBox"], counts: Sequence[int]) -> "FoundBox | None":
        """Return the detections of all batches."""
        every = (self, *others)
        if any((one.words, one.mirror) != (self.words, self.mirror) for one in others):
            return None
        queries = [one.queries for one in every if one.queries is not None]
        return replace(
            self,
            boxes=torch.cat([one.boxes for one in every]),
            labels=torch.cat([one.labels for one in every]),
            queries=torch.cat(queries) if len(queries) == len(every) else None,
        )

    def count(self) -> int:
        """Return the number of detections, one an image."""
        return len(self.boxes)

    def in_view(self, undo: Undo, size: tuple[int, ...]) -> "FoundBox":
        """Look for the boxes at their mirrored places where the view is a mirror image."""
        height, width = size if self.queries is None else (1.0, 1.0)
        corner = torch.zeros(1, 2, 2)
        corner[0, 0, 0] = 1.0
        row, column = divmod(int(undo(corner).flatten().argmax()), 2)  # where the top left cell went
        return replace(self, mirror=(float(width) if column else None, float(height) if row else None))

    def describe(self) -> str:
        """Name the detection."""
        return self.words


def _mirrored(boxes: Boxes, mirror: Mirror) -> Boxes:
    """Return the boxes as they are in the images that were mirrored."""
    left, top, right, bottom = boxes.unbind(1)
    width, height = mirror
    if width is not None:
        left, right = width - right, width - left
    if height is not None:
        top, bottom = height - bottom, height - top
    return torch.stack([left, top, right, bottom], 1)


def _overlaps(box: Tensor, boxes: Boxes) -> Float[Tensor, "boxes"]:
    """Return each box's overlap with one box: intersection over union, [0, 1]."""
    first, last = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    shared = (last - first).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    own = (box[2:] - box[:2]).clamp(min=0).prod()
    return shared / (areas + own - shared).clamp(min=torch.finfo(boxes.dtype).tiny)
