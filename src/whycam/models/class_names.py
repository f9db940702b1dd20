"""Read class names from a text or JSON file, one a class, in the order of the outputs."""

import json
from pathlib import Path
from typing import Any

from whycam.errors import ModelError
from whycam.models.messages import one_line

_MOST_BYTES = 16 * 2**20


def read_class_names(path: str | Path, expected: int | None = None) -> tuple[str, ...]:
    """Read the names of the classes 0, 1, ... from a file in UTF-8.

    The file has one name a line, or is JSON: a list of names, an object from index to name (or to a
    list whose last entry is the name, as ImageNet's index has it), or an object from name to index.

    Raises ModelError when the file cannot be read, an index is missing, a name is empty, or there are
    not ``expected`` names.
    """
    file = Path(path)
    label = f"class file '{one_line(file.name or file, 80)}'"
    text = _text(file, label)
    names = _names_in_json(text, label) if text.lstrip()[:1] in ("[", "{") else text.rstrip().splitlines()
    cleaned = tuple(one_line(name) for name in names)
    if not cleaned or not all(cleaned):
        where = f"line {cleaned.index('') + 1}" if cleaned else "the whole file"
        raise ModelError(f"{label} is empty at {where}; expected a name for each class, in order")
    if expected is not None and len(cleaned) != expected:
        raise ModelError(
            f"{label} has {len(cleaned)} names; expected {expected}, one for each output of the network"
        )
    return cleaned


def _text(file: Path, label: str) -> str:
    try:
        with file.expanduser().open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: expanduser without a home
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{label} cannot be read: {one_line(reason)}; check the path") from error
    if len(raw) > _MOST_BYTES:
        raise ModelError(f"{label} is larger than 16 MiB; expected one name a line")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{label} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _names_in_json(text: str, label: str) -> list[str]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{label} is no valid JSON: {one_line(error)}") from error
    listed = _in_order(data, label) if isinstance(data, dict) else data
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in listed]
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"{label} has entries that are no text; expected a list of names or index: name")
    return names


def _in_order(data: dict[str, Any], label: str) -> list[Any]:
    values = list(data.values())
    by_index = {value: name for name, value in data.items()} if _are_indices(values) else _indexed(data)
    if sorted(by_index) != list(range(len(data))):
        raise ModelError(f"{label} does not give each index from 0 to {len(data) - 1} once")
    return [by_index[index] for index in range(len(data))]


def _are_indices(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _indexed(data: dict[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in data.items() if key.isdecimal()}
