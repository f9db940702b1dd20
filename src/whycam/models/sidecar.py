"""What goes with a checkpoint, in a small YAML file: preprocessing, class names, which model it is of.

A user may write one and name it with ``--preprocess``. ``whycam train`` writes one beside each checkpoint,
under the checkpoint's name; it says so in its first line, and is found again without being named.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from whycam.errors import UsageError
from whycam.models.messages import one_line, or_nothing_close, some_of
from whycam.models.preprocessing import (
    CHANNEL_ORDERS,
    CROPS,
    INTERPOLATIONS,
    RESIZES,
    ROUNDINGS,
    Interpolation,
    Preprocessing,
    Resize,
    check_word,
)

MOST_BYTES = 2**20
_MOST_DEPTH = 4
_MARK = "whycam: 1"


@dataclass(frozen=True)
class Sidecar:
    """A preprocessing from a file, the names of the classes where it has them, and which file it was.

    ``model`` is the reference of the model that the checkpoint is of, ``training`` plain data on how it was
    trained; of a file that a user wrote they are mostly None and empty.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    note: str
    model: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def read_sidecar(path: str | Path) -> Sidecar:
    """Read a YAML file with the keys of `KEYS`; ``size``, ``mean`` and ``std`` must be there.

    It is plain data: no tags, no anchors and aliases, no second document, at most 1 MiB.
    Raises UsageError, with the line where the YAML is broken or a key is not known or there twice.
    """
    file = Path(path)
    label = f"preprocessing file '{one_line(file.name or file, 80)}'"
    raw = _bytes_of(file, label)
    values = _mapping(raw, label)
    try:
        preprocessing = _preprocessing(values)
        names = _class_names(values["class_names"]) if "class_names" in values else None
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
    note = f"preprocessing of {one_line(file.name, 80)} (SHA-256 {sha256(raw).hexdigest()[:12]})"
    return Sidecar(preprocessing, names, note, values.get("model"), values.get("training", {}))


def sidecar_path(weights: str | Path) -> Path:
    """Return where the file that goes with a checkpoint lies: beside it, with its name."""
    return Path(weights).with_suffix(".yaml")


def sidecar_beside(weights: str | Path) -> Sidecar | None:
    """Read the file that ``whycam train`` wrote beside a checkpoint; None where there is none of its making.

    Other tools put files of that name there too, which say nothing here. Raises UsageError where it is
    whycam's and broken.
    """
    place = sidecar_path(weights)
    try:
        with place.expanduser().open("rb") as stream:
            ours = stream.read(len(_MARK) + 1) == f"{_MARK}\n".encode()
    except (OSError, ValueError, RuntimeError):  # no such file, no name that a file can have, no home
        return None
    return read_sidecar(place) if ours else None


def sidecar_text(
    *,
    model: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    training: Mapping[str, Any],
) -> bytes:
    """Give the content of a checkpoint's own file, which ``sidecar_beside`` reads; ``training`` is flat."""
    import yaml

    document: dict[str, Any] = {"model": model, **_plain(preprocessing.to_dict())}
    if class_names is not None:
        document["class_names"] = list(class_names)
    document["training"] = _plain(training)
    # default_flow_style None keeps lists of numbers on one line
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10**6)
    return f"{_MARK}\n{text}".encode()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _bytes_of(file: Path, label: str) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise UsageError(f"{label} is no regular file; expected a YAML file")
        with file.expanduser().open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: expanduser without a home
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{label} cannot be read: {one_line(reason)}; check the path") from error
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{label} is larger than 1 MiB; expected a few keys: {some_of(KEYS, 99)}")
    return raw


def _mapping(raw: bytes, label: str) -> Mapping[str, Any]:
    import yaml

    try:
        text = raw.decode("utf-8-sig")
        _refuse_more_than_data(text, label)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{label} holds no keys; expected lines such as 'size: [224, 224]'")
        _refuse_odd_keys(node, label)
        return cast(Mapping[str, Any], yaml.safe_load(text))
    except UnicodeDecodeError as error:
        raise UsageError(f"{label} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UsageError(f"{label} is broken{where}: {one_line(problem, 120)}; mend the YAML") from error
    # dates and numbers that cannot be are no YAML errors
    except (ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{label} holds a value that cannot be read: {one_line(error, 120)}") from error


def _refuse_more_than_data(text: str, label: str) -> None:
    """Refuse what a few plain keys never need, before anything is built of it."""
    import yaml

    depth, documents = 0, 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        opens = isinstance(event, yaml.CollectionStartEvent)
        depth += opens - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        found = {
            "an anchor or an alias (& or *)": getattr(event, "anchor", None) is not None,
            "a tag (!)": getattr(event, "tag", None) is not None,
            "a second document (---)": documents > 1,
            "lists in lists": depth > _MOST_DEPTH,
        }
        if faults := [name for name, holds in found.items() if holds]:
            raise UsageError(f"{label} has {faults[0]} at line {line}; write the values out as plain keys")


def _refuse_odd_keys(node: Any, label: str) -> None:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key not in KEYS:
            raise UsageError(
                f"{label} has an unknown key '{one_line(key, 80)}' at line {line}"
                f"{or_nothing_close(key, list(KEYS))}; expected {some_of(KEYS, 99)}"
            )
        if key in seen:
            raise UsageError(f"{label} has '{key}' twice, at lines {seen[key]} and {line}; keep one of them")
        seen[key] = line


def _preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    if lacking := [key for key in ("size", "mean", "std") if key not in values]:
        raise UsageError(
            f"it lacks {some_of(lacking)}; expected the values of training, such as 'size: [224, 224]'"
        )
    if {"resize_to", "crop_pct"} <= values.keys():
        raise UsageError("it has both 'resize_to' and 'crop_pct'; keep one of them")
    read = {key: KEYS[key](key, value) for key, value in values.items()}
    _check_channels(read)
    laid_out = Preprocessing.for_size(
        read["size"],
        read["mean"],
        read["std"],
        resize=cast(Resize, read.get("resize", "shorter")),
        crop_pct=read.get("crop_pct", 1.0),
        interpolation=cast(Interpolation, read.get("interpolation", "bilinear")),
    )
    own = ("resize_to", "fill", "antialias", "crop", "channel_order", "side_multiple", "side_rounding")
    return Preprocessing.from_dict(laid_out.to_dict() | {key: read[key] for key in own if key in read})


def _check_channels(read: Mapping[str, Any]) -> None:
    channels = read.get("channels", len(read["mean"]))
    for key in ("mean", "std", "fill"):
        if key in read and len(read[key]) != channels:
            raise UsageError(
                f"'{key}' has {len(read[key])} value(s); expected {channels}, one for each of the channels"
            )


def _extent(key: str, value: Any) -> tuple[int, int]:
    both = [value, value] if type(value) is int else value
    if isinstance(both, list) and len(both) == 2 and all(type(one) is int and one > 0 for one in both):
        return both[0], both[1]
    raise UsageError(f"'{key}' is {_shown(value)}; expected [height, width] in pixels, such as [224, 224]")


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(_is_number(one) for one in values):
        raise UsageError(
            f"'{key}' is {_shown(value)}; expected numbers, one a channel, such as [0.485, 0.456, 0.406]"
        )
    return tuple(float(one) for one in values)


def _colour(key: str, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(type(one) is int for one in values):
        raise UsageError(f"'{key}' is {_shown(value)}; expected whole numbers of 0 to 255, one a channel")
    return tuple(values)


def _number(key: str, value: Any) -> float:
    if not _is_number(value):
        raise UsageError(f"'{key}' is {_shown(value)}; expected a number, such as 0.875")
    return float(value)


def _one_of(words: Sequence[str]) -> Callable[[str, Any], str]:
    def word(key: str, value: Any) -> str:
        check_word(key, value, words)
        return cast(str, value)

    return word


def _whole(key: str, value: Any) -> int:
    if type(value) is not int:
        raise UsageError(f"'{key}' is {_shown(value)}; expected a whole number, such as 3")
    return value


def _flag(key: str, value: Any) -> bool:
    if type(value) is not bool:
        raise UsageError(f"'{key}' is {_shown(value)}; expected true or false")
    return value


def _names(key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"'{key}' is {_shown(value)}; expected a list of names, one a class, in order")
    return value


def _class_names(values: Sequence[Any]) -> tuple[str, ...]:
    for index, name in enumerate(values):
        # YAML reads no, yes, null and 7 as other things than the words they are written with
        if not isinstance(name, str) or not one_line(name):
            raise UsageError(
                f"'class_names' has {_shown(name)} for class {index}; expected text; put it in quotes"
            )
    return tuple(one_line(name) for name in values)


def _reference(key: str, value: Any) -> str:
    if not isinstance(value, str) or not one_line(value):
        raise UsageError(f"'{key}' is {_shown(value)}; expected a model reference, such as 'timm:resnet18'")
    return value


def _version(key: str, value: Any) -> int:
    if value != 1:
        raise UsageError(f"'{key}' is {_shown(value)}; this whycam reads 1; install a newer one")
    return 1


def _facts(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"'{key}' is {_shown(value)}; expected names with a value each")
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _shown(value: Any) -> str:
    return f"'{one_line(value, 60)}'" if isinstance(value, str) else one_line(value, 60)


KEYS: Mapping[str, Callable[[str, Any], Any]] = {
    "size": _extent,
    "mean": _numbers,
    "std": _numbers,
    "resize": _one_of(RESIZES),
    "resize_to": _extent,
    "crop_pct": _number,
    "interpolation": _one_of(INTERPOLATIONS),
    "channels": _whole,
    "fill": _colour,
    "antialias": _flag,
    "crop": _one_of(CROPS),
    "channel_order": _one_of(CHANNEL_ORDERS),
    "side_multiple": _whole,
    "side_rounding": _one_of(ROUNDINGS),
    "class_names": _names,
    "whycam": _version,
    "model": _reference,
    "training": _facts,
}
"""Which keys there may be, and how each one's value is read."""
