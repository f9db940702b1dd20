"""Weights in several files: which ones an index names, and which keys each of them holds."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from whycam.errors import WeightsError
from whycam.models.messages import one_line, some_of

INDEX_ENDING = ".index.json"

_MOST_BYTES = 64 * 2**20
_MOST_FILES = 10_000


def shards_of(index: Path) -> dict[Path, frozenset[str]]:
    """Read an index as ``save_pretrained`` writes it: the files beside it, in order, with their keys.

    A file must be named plainly and lie in the index's own folder, or in the store of the hub's cache that
    the folder's links lead to. Raises WeightsError for an index that is broken or names anything else, and
    for a file that is not there.
    """
    name = one_line(index.name, 80)
    keys: dict[str, set[str]] = {}
    for key, file in _weight_map(index, name).items():
        keys.setdefault(file, set()).add(key)
    if len(keys) > _MOST_FILES:
        raise WeightsError(f"'{name}' names {len(keys)} files; expected at most {_MOST_FILES}")
    return {_beside(index, file, name): frozenset(keys[file]) for file in sorted(keys)}


def check_keys(found: Mapping[str, object], expected: frozenset[str], shard: str, index: str) -> None:
    """Raise WeightsError where a file does not hold just the keys that the index says it holds."""
    missing, extra = sorted(expected - found.keys()), sorted(found.keys() - expected)
    if missing or extra:
        said = [
            f"{len(missing)} of its keys are missing ({some_of(missing, 3)})" if missing else "",
            f"{len(extra)} are not in the index ({some_of(extra, 3)})" if extra else "",
        ]
        raise WeightsError(
            f"'{shard}' is not the file that '{index}' tells of: {' and '.join(filter(None, said))}; "
            "copy or download all files of the weights again, from one place"
        )


def _weight_map(index: Path, name: str) -> Mapping[str, str]:
    try:
        size = index.stat().st_size
        if size > _MOST_BYTES:
            raise WeightsError(f"'{name}' is {size} bytes large; expected an index of a few kilobytes")
        content = json.loads(index.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"'{name}' is no readable index: {type(error).__name__}: {one_line(error, 120)}; "
            "copy or download it again"
        ) from error
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise WeightsError(
            f"'{name}' has no weight_map from keys to files; expected the index that save_pretrained writes"
        )
    return files


def _beside(index: Path, file: str, name: str) -> Path:
    is_plain = PurePosixPath(file).name == PureWindowsPath(file).name == file and file.isprintable()
    if not is_plain or Path(file).suffix not in (".safetensors", ".bin"):
        raise WeightsError(
            f"'{name}' names '{one_line(file, 80)}'; expected the plain name of a .safetensors or .bin file "
            "beside it, as save_pretrained writes"
        )
    path = index.parent / file
    if not path.is_file():
        raise WeightsError(
            f"'{one_line(file, 80)}', which '{name}' names, is not in its folder; copy or download it too"
        )
    if path.resolve().parent not in _own_places(index.parent):
        raise WeightsError(
            f"'{one_line(file, 80)}' is a link that leads out of its folder; expected the file itself; "
            "copy it there"
        )
    return path


def _own_places(folder: Path) -> tuple[Path, ...]:
    """Give the folder, and where it is a snapshot of the hub's cache, the store its links lead to."""
    real = folder.resolve()
    is_snapshot = real.parent.name == "snapshots"
    return (real, real.parent.parent / "blobs") if is_snapshot else (real,)
