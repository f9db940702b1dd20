"""An explanation as rows of a run folder, and as a run folder of its own."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whycam.errors import TargetError, UsageError
from whycam.methods import METHODS
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, RunWriter
from whycam.targets import ClassIndex, ClassPerImage, PerImage, Probability, Target, TopClass, logits_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from whycam.explanation import Explanation
    from whycam.render import Opacity

OVERLAY_SIDE = 768
"""The longest side in pixels of the pictures in a run folder; larger originals are shrunk to it."""

SHEET_NAME = "sheet.png"

_QUALITY = 92

_RECORDED = ("whycam", "torch", "torchvision", "timm", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The image a row is about: its place in the plan, its id, its file, and what is known of it."""

    index: int
    id: str
    path: str
    content_hash: str | None = None
    label: str | None = None


def rows_of(
    explanation: "Explanation",
    subjects: Sequence[Subject],
    *,
    target: str | None = None,
    overlays: Sequence[str | None] | None = None,
    pictures: Sequence[str | None] | None = None,
) -> list[Row]:
    """Turn an explanation into rows, one an image, with one transfer from the device.

    ``subjects``, ``overlays`` and ``pictures`` (file names below the run folder) are in the images' order.
    ``target`` is the text that stands for the target in every row; without it each image's class is named. A
    map that is not finite is kept, and its row has an error; so has a row whose score is not finite. Raises
    UsageError for a wrong number of subjects.
    """
    if len(subjects) != len(explanation):
        raise UsageError(
            f"{len(subjects)} subjects for {len(explanation)} explained images; give one an image"
        )
    facts = _facts(explanation)
    reasons = [None] * len(subjects) if np.isfinite(facts.maps).all() else explanation.diagnosis()
    none = [None] * len(subjects)
    rows = [
        _row(explanation, facts, position, subject, target, reason)
        for position, (subject, reason) in enumerate(zip(subjects, reasons, strict=True))
    ]
    return [
        replace(row, overlay=overlay, picture=picture)
        for row, overlay, picture in zip(rows, overlays or none, pictures or none, strict=True)
    ]


@dataclass(frozen=True)
class _Facts:
    """What rows need of a batch, on the host; a class is -1 and a probability NaN where there is none."""

    maps: "np.ndarray[Any, np.dtype[np.floating[Any]]]"
    scores: list[float]
    targets: list[int]
    predictions: list[int]
    probabilities: list[float]
    blank: list[bool]


def _facts(explanation: "Explanation") -> _Facts:
    maps = explanation.maps
    predictions, probabilities = _predictions(explanation)
    # one table, one transfer: float32 holds class numbers below 2**24 exactly
    parts = (explanation.scores, explanation.classes, predictions, probabilities, explanation.blank)
    table = torch.cat([torch.stack([p.to(maps.dtype) for p in parts], 1), maps.flatten(1)], 1)
    host = table.detach().cpu().numpy()
    scores, targets, predicted, likely, blank = (host[:, column] for column in range(len(parts)))
    return _Facts(
        maps=host[:, len(parts) :].reshape(maps.shape),
        scores=scores.tolist(),
        targets=targets.astype(int).tolist(),
        predictions=predicted.astype(int).tolist(),
        probabilities=likely.tolist(),
        blank=blank.astype(bool).tolist(),
    )


def _predictions(explanation: "Explanation") -> tuple[torch.Tensor, torch.Tensor]:
    """Return each image's top class and its probability; -1 and NaN where the outputs have no classes."""
    none = torch.full_like(explanation.scores, -1), torch.full_like(explanation.scores, torch.nan)
    if not explanation.targets.of_class_scores():  # values or embeddings, of the same shape
        return none
    try:
        logits = logits_of(explanation.outputs)
    except TargetError:
        return none
    # one output is a yes or no whose threshold is unknown here
    if len(logits) != len(explanation) or logits.shape[1] < 2:
        return none
    top = TopClass().classes(logits)
    likely = logits.sigmoid() if _is_multi_label(explanation.targets) else logits.softmax(1)
    return top, likely.gather(1, top.unsqueeze(1)).squeeze(1)


def _is_multi_label(target: Target) -> bool:
    return isinstance(target, Probability) and target.activation == "sigmoid"


def _row(
    explanation: "Explanation",
    facts: _Facts,
    position: int,
    subject: Subject,
    target: str | None,
    reason: str | None,
) -> Row:
    geometry = explanation.geometries[position] if explanation.geometries else None
    prediction, explained = facts.predictions[position], facts.targets[position]
    probability = facts.probabilities[position]
    values = facts.maps[position]
    return Row(
        index=subject.index,
        id=subject.id,
        path=subject.path,
        content_hash=subject.content_hash,
        label=subject.label,
        prediction=None if prediction < 0 else prediction,
        prediction_name=name_of(prediction, explanation.class_names),
        probability=None if np.isnan(probability) else probability,
        target=target or _describe(explanation.targets, position, explained),
        target_class=None if explained < 0 else explained,
        score=facts.scores[position],
        method=explanation.method,
        layer=explanation.layer,
        map=values,
        original=geometry.original if geometry else None,
        box=geometry.box if geometry else None,
        blank=facts.blank[position],
        error=_error(values, facts.scores[position], reason),
    )


def _error(
    values: "np.ndarray[Any, np.dtype[np.floating[Any]]]", score: float, reason: str | None
) -> str | None:
    """Say why numbers are none; a map of zeros may stand beside a score that is NaN."""
    if not np.isfinite(values).all():
        return f"{reason}; check the weights and the preprocessing, or compute in float32"
    if not np.isfinite(score):
        return (
            "the score holds NaN or infinity: the model's output for this image is no finite number; "
            "check the weights and the preprocessing, or compute in float32"
        )
    return None


def are_finite(explanation: "Explanation") -> list[bool]:
    """Return for each image whether its map and its score are numbers; of others there is nothing to draw."""
    maps = explanation.maps.isfinite().flatten(1).all(1)
    finite: list[bool] = (maps & explanation.scores.isfinite()).tolist()
    return finite


def name_of(index: int | None, class_names: Sequence[str] | None) -> str | None:
    """Return a class's name, or None where it is not known."""
    if index is None or class_names is None or not 0 <= index < len(class_names):
        return None
    return class_names[index]


def _describe(target: Target, position: int, explained: int) -> str:
    if isinstance(target, PerImage):
        return _describe(target.targets[position], 0, explained)
    if isinstance(target, ClassIndex | ClassPerImage) and explained >= 0:
        return f"class {explained}"
    return target.describe()


def caption_of(row: Row, class_names: Sequence[str] | None) -> str:
    """Say under a picture which image it is, what the model said, and what is explained."""
    path = PurePath(row.id)
    parts = [path.name if path.is_absolute() else row.id]
    if row.prediction is not None:
        said = _class_text(row.prediction, class_names)
        sure = "" if row.probability is None else f" {row.probability:.1%}"
        parts.append(f"predicted {said}{sure}")
    if row.label is not None:
        parts.append(f"label {row.label}")
    if row.prediction is None and row.error is None and row.target:
        of_class = "" if row.target_class is None else f" ({_class_text(row.target_class, class_names)})"
        parts.append(f"explained: {row.target}{of_class}")
    elif row.target_class is not None and row.target_class != row.prediction:
        parts.append(f"explained: {_class_text(row.target_class, class_names)}")
    return " · ".join(parts)


def _class_text(index: int, class_names: Sequence[str] | None) -> str:
    name = name_of(index, class_names)
    return f"class {index}" if name is None else name


def note_of(row: Row) -> str:
    """Say in a word or two under a method's picture why nothing is seen on it; empty where something is."""
    if row.error is not None:
        return "failed"
    if row.blank:
        return "blank: all zero"
    if row.map is not None and not (row.map > 0).any():
        return "blank: nothing positive"
    return ""


def versions() -> dict[str, str]:
    """Return the versions that a run's pictures can depend on, Python's first."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in _RECORDED}}


def device_text(device: torch.device) -> str:
    """Name a device as a manifest does: ``cpu`` or ``cuda:0 (its name)``."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def png_of(picture: "Image") -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    # level 6, the default, takes twice the time of 3 for a few per cent of the size
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def jpeg_of(picture: "Image") -> bytes:
    """Encode a picture as JPEG, with all of its colours' resolution."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def shrunk(picture: "Image") -> "Image":
    """Return a picture whose longest side is at most ``OVERLAY_SIDE``; never enlarged."""
    factor = OVERLAY_SIDE / max(picture.size)
    if factor >= 1:
        return picture
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture.resize((size[0], size[1]), reducing_gap=2.0)


def overlay_name(subject: str, method: str) -> str:
    """Name an image's overlay below the run folder, one for each id and method."""
    return f"overlays/{_file_name(subject)}.{method}.png"


def picture_name(subject: str) -> str:
    """Name the picture of an image below the run folder."""
    return f"pictures/{_file_name(subject)}.jpg"


def _file_name(subject: str) -> str:
    path = PurePath(subject)
    if not path.is_absolute() and ".." not in path.parts:
        return subject
    # the image lies elsewhere: its folders are not mirrored, a hash keeps it apart from its namesakes
    mark = sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{path.stem}-{mark}{path.suffix}"


def save_explanation(explanation: "Explanation", folder: str | os.PathLike[str]) -> None:
    """Write an explanation into a new run folder: manifest, rows, and for images the overlays and a sheet.

    Raises RunError where the folder holds anything already or cannot be written.
    """
    subjects = _subjects(explanation)
    small = _with_small_pictures(explanation)
    overlays = small.overlays(opacity=_opacity()) if small.pictures else []
    with RunWriter.create(folder, _manifest(explanation)) as writer:
        pictures = [
            writer.save_picture(picture_name(subject.id), jpeg_of(picture))
            for subject, picture in zip(subjects, small.pictures or (), strict=bool(small.pictures))
        ]
        saved = [
            writer.save_picture(overlay_name(subject.id, explanation.method), png_of(picture))
            if finite
            else None
            for subject, picture, finite in zip(subjects, overlays, are_finite(small), strict=bool(overlays))
        ]
        rows = rows_of(explanation, subjects, overlays=saved or None, pictures=pictures or None)
        writer.write(rows)
        if small.pictures:
            writer.save_picture(SHEET_NAME, png_of(_sheet(small, rows, overlays)))
        writer.finish()


def _with_small_pictures(explanation: "Explanation") -> "Explanation":
    """Give images' pictures in the size of a run folder; signals and volumes have none."""
    if len(explanation.size) != 2:
        return explanation
    from whycam.render import picture_of

    pictures = explanation.pictures or [picture_of(image) for image in explanation.images.detach()]
    return replace(explanation, pictures=tuple(shrunk(picture) for picture in pictures))


def _opacity() -> "Opacity":
    from whycam.render import MagnitudeOpacity

    return MagnitudeOpacity()


def _sheet(explanation: "Explanation", rows: Sequence[Row], overlays: Sequence["Image"]) -> "Image":
    from whycam.render import SheetRow, sheet

    lines = [
        SheetRow(
            picture,
            [drawn.crop((0, 0, *picture.size))],
            caption_of(row, explanation.class_names),
            [note_of(row)],
        )
        for picture, drawn, row in zip(explanation.pictures or (), overlays, rows, strict=True)
    ]
    caution = explanation.origin.caution
    return sheet(
        lines,
        columns=[explanation.method],
        title=f"{explanation.origin.reference} with {caution}" if caution else "",
        opacity=_opacity(),
        layer=explanation.layer,
        caution=caution,
    )


def _subjects(explanation: "Explanation") -> list[Subject]:
    """Number the images, and tell those of the same name apart."""
    names = explanation.names or [f"image {position}" for position in range(len(explanation))]
    taken: dict[str, str] = {}
    for name in names:
        unique, copies = name, 1
        while unique in taken:
            copies += 1
            unique = f"{name} ({copies})"
        taken[unique] = name if explanation.names else ""
    return [Subject(index=at, id=unique, path=path) for at, (unique, path) in enumerate(taken.items())]


def _parameters(explanation: "Explanation") -> dict[str, object]:
    known = METHODS.get(explanation.method)
    parameters = dict(known.parameters) if known else {}
    if explanation.smoothing is not None:
        parameters["smoothing"] = repr(explanation.smoothing)
    return parameters


def _manifest(explanation: "Explanation") -> Manifest:
    target, origin = explanation.targets, explanation.origin
    return Manifest(
        command=("Explanation.save",),
        versions=versions(),
        device=device_text(explanation.maps.device),
        seed=None,
        model=ModelRecord(
            reference=origin.reference, provenance=origin.provenance, weights_sha256=origin.weights_sha256
        ),
        preprocessing=origin.preprocessing,
        class_names=explanation.class_names,
        methods=(MethodRecord(name=explanation.method, parameters=_parameters(explanation)),),
        target="a target an image" if isinstance(target, PerImage) else target.describe(),
        layer=LayerRecord(paths=tuple(explanation.layer.split(" + ")), reason=explanation.reason),
        sources=explanation.names or (),
        image_count=len(explanation),
        style={"colormap": "inferno", "opacity": _opacity().describe()},
    )
