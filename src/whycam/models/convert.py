"""Write a checkpoint's tensors as safetensors, which hold nothing else and run nothing when they are read."""

import itertools
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import UsageError, WeightsError
from whycam.models.messages import one_line
from whycam.models.weights import (
    STATE_KEYS,
    HoldsMoreError,
    StateDict,
    Unpickle,
    WeightsFile,
    is_torchscript,
    read_weights,
    unpickle_only_tensors,
    unpickle_tensors,
)
from whycam.store.files import sync_file, sync_folder

# torch.save's own format before its archives begins with this number, in any of pickle's protocols
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_HEAD_BYTES = 64

_numbers = itertools.count()


@dataclass(frozen=True)
class Converted:
    """What was read and what was written: ``shared`` keys had their values in another key's memory."""

    weights: WeightsFile
    place: Path
    shared: int

    @property
    def count(self) -> int:
        """The number of tensors."""
        return len(self.weights.tensors)


def unpickle_anything(file: Path) -> Any:
    """Read a pickle of any kind, in the working folder's company. THIS RUNS THE CODE THAT THE FILE NAMES.

    A module is replaced by its state dict, also below the top level. Raises WeightsError.
    """
    with _own_code(file), warnings.catch_warnings():
        # they are about old formats and changed source, which is why one converts
        warnings.simplefilter("ignore")
        return _states_for_modules(_loader(file)(file))


def trusting(warn: Callable[[], None]) -> Unpickle:
    """Return what reads a pickle of tensors without running anything, and any other after ``warn()``.

    The other RUNS THE CODE THAT THE FILE NAMES. Raises WeightsError.
    """

    def unpickle(file: Path) -> Any:
        try:
            return unpickle_only_tensors(file)
        except HoldsMoreError:
            warn()
        return unpickle_anything(file)

    return unpickle


def convert_weights(
    source: Path, place: Path | None = None, *, unpickle: Unpickle = unpickle_tensors, overwrite: bool = False
) -> Converted:
    """Read a checkpoint as `read_weights` does and write its tensors to ``place``, whole or not at all.

    Without a place it is the source's name with the ending ``.safetensors``. Values and keys stay bit for
    bit; tensors that share memory are written once each, since the format has no sharing.
    Raises WeightsError for the source, UsageError for a place that is taken or cannot be written.
    """
    target = _beside(source) if place is None else place
    _refuse_taken(source, target, overwrite=overwrite)
    weights = read_weights(source, unpickle)
    tensors, shared = _unshared(weights.tensors)
    metadata = {"format": "pt", "source": weights.name, "source_sha256": weights.sha256}
    if weights.notes:
        metadata["notes"] = "; ".join(weights.notes)
    _write(tensors, target, metadata)
    return Converted(weights, target, shared)


def _beside(source: Path) -> Path:
    # best.pth.tar has two endings
    stem = source.name.removesuffix(".tar") if source.name.endswith(".pth.tar") else source.name
    return source.with_name(stem).with_suffix(".safetensors")


def _refuse_taken(source: Path, place: Path, *, overwrite: bool) -> None:
    name = one_line(place, 120)
    if place.suffix != ".safetensors":
        raise UsageError(f"--out is '{name}'; expected a name that ends in .safetensors")
    if place.is_dir():
        raise UsageError(f"--out '{name}' is a folder; expected a file name that ends in .safetensors")
    if place.exists() and source.exists() and place.samefile(source):
        raise UsageError(f"'{name}' is the file to convert itself; choose another --out")
    if place.exists() and not overwrite:
        raise UsageError(f"'{name}' is there already; choose another --out, or replace it with --force")


def _loader(file: Path) -> Callable[[Path], Any]:
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if is_torchscript(file):
        return _load_script
    return _load_torch if head[:2] == b"PK" or _LEGACY_MAGIC in head else _load_plain


def _load_script(file: Path) -> Any:
    load: Any = torch.jit.load  # without types
    return load(file, map_location="cpu")


def _load_torch(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=False)


def _load_plain(file: Path) -> Any:
    with file.open("rb") as stream:
        return pickle.load(stream)


@contextmanager
def _own_code(file: Path) -> Iterator[None]:
    """Find classes in the working folder, as ``python -m`` does; what the file's code raises is one line."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    name = one_line(file.name, 80)
    try:
        yield
    except (ImportError, AttributeError) as error:
        raise WeightsError(
            f"'{name}' needs code that is not here: {one_line(error, 160)}; run this where that code lies, "
            "or put its folder on PYTHONPATH"
        ) from error
    # whatever the file's own code raises, or a script that exits
    except (Exception, SystemExit) as error:
        kind = f"{type(error).__name__}: {one_line(error, 160)}".removesuffix(": ")
        raise WeightsError(f"'{name}' cannot be loaded ({kind}); expected a checkpoint of PyTorch") from error
    finally:
        with suppress(ValueError):
            sys.path.remove(here)


def _states_for_modules(content: Any, depth: int = 2) -> Any:
    if isinstance(content, nn.Module):
        return content.state_dict()
    if isinstance(content, Mapping) and depth:
        replaced = {key: _states_for_modules(content[key], depth - 1) for key in STATE_KEYS if key in content}
        return {**content, **replaced}
    return content


def _unshared(tensors: StateDict) -> tuple[StateDict, int]:
    """Give each tensor memory of its own, and count those that had none."""
    seen: set[int] = set()
    shared = 0
    alone: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        memory = plain.untyped_storage().data_ptr()
        if memory in seen and plain.numel():
            plain = plain.clone()
            shared += 1
        seen.add(memory)
        alone[key] = plain
    return alone, shared


def _write(tensors: StateDict, place: Path, metadata: dict[str, str]) -> None:
    import safetensors
    from safetensors.torch import save_file

    temporary = place.with_name(f".{place.name}.{os.getpid()}.{next(_numbers)}.tmp")
    try:
        save_file(dict(tensors), temporary, metadata)
        sync_file(temporary)  # or a failing power supply could leave the name without the values
        os.replace(temporary, place)
        sync_folder(place.parent)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"'{one_line(place, 120)}' cannot be written: {one_line(error, 160)}; check the folder of --out "
            "and the room on its disk"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
