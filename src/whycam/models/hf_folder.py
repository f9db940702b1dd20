"""A folder as transformers writes it: found without the network, its JSON read with suspicion."""

import json
import re
from pathlib import Path
from typing import Any

from whycam.errors import MissingExtraError, ModelError
from whycam.models.messages import one_line, some_of

_MOST_BYTES = 64 * 2**20
_DEEPEST = 32
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_TEXT_FILES = ["*.json", "*.txt", "*.model"]
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_SAFE_FILES = ["model.safetensors", "model-*-of-*.safetensors"]
_PICKLED_FILES = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]
_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")
_QUANTISED = "quantization_config"
_CHECKPOINT = "checkpoint_path"


def check_transformers() -> None:
    """Raise MissingExtraError where transformers is not installed."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "hf: references need transformers, which is not installed; pip install 'whycam[hf]'"
        ) from error


def find_folder(name: str) -> Path | None:
    """Give the local folder, or the hub's cached one, that ``name`` means; None where neither is there.

    Raises ModelError for what is neither a folder nor an id.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"there is no folder '{one_line(name)}', and that is no id of the hub; expected a folder with "
            "config.json, or an id such as google/vit-base-patch16-224"
        )
    return _snapshot(
        name, local_files_only=True, allow_patterns=[*_TEXT_FILES, *_SAFE_FILES, *_PICKLED_FILES]
    )


def downloaded_folder(name: str) -> Path:
    """Get the files of an id of the hub: texts, and weights as safetensors where there are any.

    Raises ModelError when they cannot be had.
    """
    folder = _snapshot(name, local_files_only=False, allow_patterns=[*_TEXT_FILES, *_SAFE_FILES])
    if folder is not None and not any((folder / weights).is_file() for weights in _SAFE):
        folder = _snapshot(name, local_files_only=False, allow_patterns=[*_TEXT_FILES, *_PICKLED_FILES])
    if folder is None:
        raise ModelError(f"the files of hf:{one_line(name)} could not be downloaded; check the connection")
    return folder


def _snapshot(name: str, **options: Any) -> Path | None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, **options))
    # the hub's client raises a dozen types for one cause: the files could not be had
    except Exception as error:
        if options["local_files_only"] and isinstance(error, LocalEntryNotFoundError):
            return None
        raise ModelError(
            f"the files of hf:{one_line(name)} could not be had: {type(error).__name__}: "
            f"{one_line(error, 120)}; check the id and the connection, or give a local folder"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object that names no code and no network of elsewhere. Raises ModelError."""
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(
                f"'{file.name}' is {size} bytes large; expected a configuration of a few kilobytes"
            )
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"'{file.name}' is no readable JSON: {type(error).__name__}: {one_line(error, 120)}; "
            "expected the file that save_pretrained writes"
        ) from error
    if not isinstance(data, dict):
        raise ModelError(f"'{file.name}' holds a {type(data).__name__}; expected an object of fields")
    _refuse_foreign(data, file.name)
    return data


def _refuse_foreign(data: Any, name: str, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ModelError(f"'{name}' is nested more than {_DEEPEST} deep; expected a configuration")
    if isinstance(data, dict):
        if "auto_map" in data:
            raise ModelError(
                f"'{name}' asks for code of its own (auto_map), which is never run; where you trust it, "
                "write a factory that loads the network, and give file.py:factory"
            )
        if data.get(_QUANTISED):
            raise ModelError(f"'{name}' is of a quantised network; expected the unquantised one")
        if data.get(_CHECKPOINT):  # timm would read it, and nobody would be told
            raise ModelError(
                f"'{name}' names a weights file of its own ({_CHECKPOINT}), which is not read; "
                "take it out, and give the file with --weights"
            )
    # timm takes a scheme in any case
    if isinstance(data, str) and data.strip().casefold().startswith(_ELSEWHERE):
        raise ModelError(
            f"'{name}' refers to a network elsewhere ({one_line(data, 80)}), which is not loaded"
        )
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _refuse_foreign(inner, name, depth + 1)


def own_weights(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """Give the folder's weights file or the index of several, and what is to be noted of others, not used."""
    for name in (*_SAFE, *_PICKLED):
        if (folder / name).is_file():
            return folder / name, ()
    others = sorted(
        file.name for ending in ("safetensors", "bin", "pth", "pt") for file in folder.glob(f"*.{ending}")
    )
    return None, (f"not used: {some_of(others)} (--weights takes one)",) if others else ()
