"""Read a weights file without running what it holds."""

import argparse
import hashlib
import os
import re
import shlex
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.errors import WeightsError
from whycam.models.messages import one_line, some_of
from whycam.models.shards import INDEX_ENDING, check_keys, shards_of

StateDict: TypeAlias = Mapping[str, Tensor]

Unpickle: TypeAlias = Callable[[Path], Any]
"""Reads a pickle. Raises WeightsError."""

STATE_KEYS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "net")
MEND = "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"

_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin")
_NOT_WEIGHTS = (
    (b"<!doctype", "an HTML page, as servers send instead of a file"),
    (b"<html", "an HTML page, as servers send instead of a file"),
    (b"<?xml", "an XML document"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to; run git lfs pull"),
    (b"\x89hdf", "an HDF5 file, as Keras writes"),
    (b"\x93numpy", "a NumPy array"),
    (b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (b"{", "a JSON document"),
)


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of one weights file by their keys, the file's SHA-256, and what was chosen in it."""

    name: str
    sha256: str
    tensors: StateDict
    notes: tuple[str, ...] = ()


class HoldsMoreError(Exception):
    """The file holds more than tensors; the text is the whole line for the user. It never leaves the room."""


def is_weights_file(path: str | Path) -> bool:
    """Say whether a path is that of a file which is named as weights are."""
    place = Path(path)
    return place.suffix in _SUFFIXES and os.path.isfile(place.expanduser() if "~" in str(path) else place)


def unpickle_tensors(file: Path) -> Any:
    """Read a pickle that holds nothing but tensors and plain values, and run nothing.

    Of other types only ``argparse.Namespace`` is let in, which timm's training script writes and which
    holds no code. Raises WeightsError that names what else is in the file.
    """
    try:
        return unpickle_only_tensors(file)
    except HoldsMoreError as error:
        raise WeightsError(str(error)) from error


def unpickle_only_tensors(file: Path) -> Any:
    """Do as ``unpickle_tensors``, but tell more than tensors (HoldsMoreError) from a file that is broken."""
    name = one_line(file.name, 80)
    if is_torchscript(file):
        raise HoldsMoreError(
            f"'{name}' is a TorchScript archive, which holds code; expected tensors only; {_convert(file)}"
        )
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # they advise on switches that are deliberately not offered
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        # a broken or hostile file can fail in the unpickler with nearly any type; all are re-raised
        except Exception as error:
            raise _refusal(file, name, error) from error


def state_sha256(state: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 (hex) of a state dict's names, number types, shapes and bytes, in its order.

    What is no tensor is left out. None where a tensor has no plain values, being sparse, quantised or
    without data. Unlike a file's digest it does not depend on how the tensors are stored.
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            return None
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: str | Path, unpickle: Unpickle = unpickle_tensors) -> WeightsFile:
    """Read the state dict in a ``.safetensors`` file or a checkpoint of ``torch.save``, on the CPU.

    The content, not the name's ending, decides the format. Pickles go through ``unpickle``, which by
    default runs nothing that they hold. The state dict may lie at the top level or under `STATE_KEYS`, the
    first of them in that order. Of an index (``.index.json``) the files that it names are read, all of them;
    the SHA-256 is then that of their contents one after the other, in the order of their names.

    Raises WeightsError when the file is missing, is no weights file, is cut off, would run code, holds
    no state dict, or holds a tensor that is sparse, quantised, without data or larger than the file.
    """
    file = _existing_file(Path(path))
    name = one_line(file.name, 80)
    shards = shards_of(file) if file.name.endswith(INDEX_ENDING) else {}
    tensors, notes = _joined(shards, name, unpickle) if shards else _tensors_in(file, unpickle)
    return WeightsFile(name=name, sha256=_sha256(shards or [file], name), tensors=tensors, notes=notes)


def _joined(
    shards: Mapping[Path, frozenset[str]], index: str, unpickle: Unpickle
) -> tuple[StateDict, tuple[str, ...]]:
    tensors: dict[str, Tensor] = {}
    notes = [f"weights in {len(shards)} files"]
    for file, keys in shards.items():
        inside, chosen = _tensors_in(file, unpickle)
        check_keys(inside, keys, one_line(file.name, 80), index)
        tensors |= inside
        notes += [note for note in chosen if note not in notes]
    return tensors, tuple(notes)


def _sha256(files: Iterable[Path], name: str) -> str:
    """Give the SHA-256 of the files' contents, one after the other."""
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
    except OSError as error:
        raise _unreadable(name, error) from error
    return digest.hexdigest()


def _unreadable(name: str, error: OSError) -> WeightsError:
    return WeightsError(f"'{name}' cannot be read: {one_line(_reason(error))}; check it and its disk")


def _tensors_in(file: Path, unpickle: Unpickle) -> tuple[StateDict, tuple[str, ...]]:
    name = one_line(file.name, 80)
    try:
        content = _read_content(file, name, unpickle)
        size = file.stat().st_size
    except OSError as error:
        raise _unreadable(name, error) from error
    tensors, notes = _state_dict_in(content, name)
    for key, tensor in tensors.items():
        _refuse_absurd(key, tensor, name, size)
    return tensors, notes


def _existing_file(path: Path) -> Path:
    name = one_line(path.name or path, 80)
    try:
        file = path.expanduser()
        if file.is_dir():
            inside = sorted(child.name for child in file.iterdir() if child.suffix in _SUFFIXES)
            hint = f"give the file in it: {some_of(inside)}" if inside else "it holds no weights file"
            raise WeightsError(f"'{name}' is a folder; expected a weights file; {hint}")
        if not file.exists():
            raise WeightsError(f"weights file '{one_line(path)}' does not exist; check the path")
        if not file.is_file():
            raise WeightsError(f"'{name}' is no regular file; expected a weights file")
        if file.stat().st_size == 0:
            raise WeightsError(f"'{name}' is empty; expected a weights file; copy or download it again")
    except (OSError, RuntimeError) as error:  # RuntimeError: expanduser without a home
        raise WeightsError(
            f"weights file '{name}' cannot be opened: {one_line(_reason(error))}; check the path"
        ) from error
    return file


def _reason(error: Exception) -> object:
    return error.strerror or error if isinstance(error, OSError) else error


def _read_content(file: Path, name: str, unpickle: Unpickle) -> Any:
    with file.open("rb") as stream:
        head = stream.read(64)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return _read_safetensors(file, name)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, description in _NOT_WEIGHTS:
        if start.startswith(magic):
            raise WeightsError(f"'{name}' is {description}; expected safetensors or a file of torch.save")
    if file.suffix == ".safetensors" and head[:2] != b"PK":
        raise WeightsError(f"'{name}' is no safetensors file or is cut off; copy or download it again")
    if head[:2] == b"PK":
        _refuse_odd_archive(file, name)
    return unpickle(file)


def _read_safetensors(file: Path, name: str) -> dict[str, Tensor]:
    import safetensors
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(file, device="cpu")
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"'{name}' is a broken safetensors file ({one_line(error, 120)}); copy or download it again"
        ) from error
    return tensors


def _refuse_odd_archive(file: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(f"'{name}' is broken or cut off; copy or download it again") from error
    unpacked = sum(entry.file_size for entry in entries)
    # torch.save stores without compression, so an archive that grows was made to fill the memory
    if unpacked > file.stat().st_size:
        raise WeightsError(
            f"'{name}' would unpack to {unpacked} bytes from {file.stat().st_size}; torch.save never "
            "compresses, so the file is refused; save the state dict again with torch.save or safetensors"
        )


def is_torchscript(file: Path) -> bool:
    """Say whether a file is an archive of TorchScript, which holds code beside its tensors."""
    with file.open("rb") as stream:
        if stream.read(2) != b"PK":
            return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _convert(file: Path) -> str:
    path = one_line(shlex.quote(str(file)), 200)
    return f"where you trust the file, take the tensors out of it: whycam convert {path} --trust-pickle"


def _refusal(file: Path, name: str, error: Exception) -> HoldsMoreError | WeightsError:
    if refused := _refused_globals(file, error):
        return HoldsMoreError(
            f"'{name}' is refused: besides tensors it holds {some_of(refused, 6)}, and rebuilding those "
            f"could run code; {_convert(file)}"
        )
    if "weights_only" in str(error):
        return HoldsMoreError(
            f"'{name}' is refused: it is no checkpoint of torch.save, or a pickle that holds more than "
            f"tensors; {_convert(file)}"
        )
    kind = f"{type(error).__name__}: {one_line(error, 100)}".removesuffix(": ")
    return WeightsError(f"'{name}' is broken or cut off ({kind}); copy or download it again")


def _refused_globals(file: Path, error: Exception) -> list[str]:
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    # it reads zip archives only, and what it raises on others is not documented; the message remains
    except Exception:
        named = []
    return sorted(named) or re.findall(r"GLOBAL (\S+)", str(error))[:1]


def _state_dict_in(content: Any, name: str) -> tuple[StateDict, tuple[str, ...]]:
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"'{name}' holds a {type(content).__name__}; expected a state dict; save one: {MEND}"
        )
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return _named(content, name), ()
    for path, found in _nested(content):
        also = [key for key in STATE_KEYS if key in content and key != path[0]]
        beside = f" (the file also holds {some_of(also)})" if also else ""
        return _named(found, name), (f"state dict found under '{'.'.join(path)}'{beside}",)
    if tensors := _tensors_of(content):
        others = [key for key in content if key not in tensors]
        return _named(tensors, name), (f"entries that are no tensors not used: {some_of(others)}",)
    raise WeightsError(
        f"'{name}' holds no state dict: its entries are {some_of(content, 8) or 'none'}; expected tensors "
        f"there or under one of {some_of(STATE_KEYS, 9)}; save one: {MEND}"
    )


def _nested(
    content: Mapping[Any, Any], depth: int = 2
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Tensor]]]:
    for key in STATE_KEYS:
        inner = content.get(key)
        if not isinstance(inner, Mapping):
            continue
        if tensors := _tensors_of(inner):
            yield (key,), tensors
        elif depth > 1:
            yield from (((key, *path), found) for path, found in _nested(inner, depth - 1))


def _tensors_of(content: Mapping[Any, Any]) -> Mapping[Any, Tensor]:
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _named(tensors: Mapping[Any, Tensor], name: str) -> StateDict:
    odd = [key for key in tensors if not isinstance(key, str)]
    if odd:
        raise WeightsError(
            f"'{name}' holds tensors under keys that are no text ({some_of(odd)}); expected a state dict; "
            f"save one: {MEND}"
        )
    return dict(tensors)


def _refuse_absurd(key: str, tensor: Tensor, name: str, file_size: int) -> None:
    claimed = 0 if tensor.is_sparse or tensor.is_meta else tensor.numel() * tensor.element_size()
    if tensor.layout != torch.strided:
        fault = f"is stored as {tensor.layout}"
    elif tensor.is_meta:
        fault = "is on the meta device and has no data"
    elif tensor.is_quantized:
        fault = f"is quantised ({tensor.dtype})"
    elif claimed > file_size:
        fault = f"claims {claimed} bytes, more than the whole file"
    else:
        return
    raise WeightsError(
        f"'{one_line(key, 80)}' in '{name}' {fault}; expected a plain dense tensor; "
        "save the state dict of the unquantised network"
    )
