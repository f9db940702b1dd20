"""The images of a split, decoded and preprocessed once for all checkpoints: in memory, or in one file."""

import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from os import cpu_count
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from whycam.data import ImageItem, read_image
from whycam.errors import ImageError, MissingExtraError, UsageError
from whycam.models import Preprocessing
from whycam.store.files import run_errors

Advance: TypeAlias = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

_BYTES = 4
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Views:
    """What a network sees of a split's images: ``images`` [N, C, H, W], their channels last in memory.

    ``places`` are the N images' places in the split, from 0. ``unreadable`` are the others, as (place,
    reason); ``notes`` count what of files is not seen. ``digest`` is of all files' contents, in order.
    """

    images: Float32[Tensor, "images channels height width"]
    places: tuple[int, ...]
    unreadable: tuple[tuple[int, str], ...]
    notes: tuple[tuple[str, int], ...]
    digest: str
    kept_in: Literal["memory", "disk"]


@dataclass(frozen=True)
class _View:
    pixels: NDArray[np.float32]
    content_hash: str
    notes: tuple[str, ...]


_Read: TypeAlias = _View | str


class _Memory:
    """Takes views [H, W, C] one after the other, and gives them back as one array."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        try:
            self._values = np.empty(shape, np.float32)
        except MemoryError as error:
            raise UsageError(
                "the decoded images do not fit into the memory; give a smaller --memory, and they are kept "
                "on the disk"
            ) from error
        self._taken = 0

    def take(self, pixels: NDArray[np.float32]) -> None:
        self._values[self._taken] = pixels
        self._taken += 1

    def all(self, count: int) -> NDArray[np.float32]:
        return self._values[:count]


class _Disk:
    """Does the same in a file."""

    def __init__(self, file: Any, shape: tuple[int, ...]) -> None:
        self._file = file
        self._shape = shape

    def take(self, pixels: NDArray[np.float32]) -> None:
        # written, not mapped yet: a full disk is then an error and no signal that ends the process
        with run_errors("keep the decoded images on the disk"):
            self._file.write(pixels.data)

    def all(self, count: int) -> NDArray[np.float32]:
        with run_errors("keep the decoded images on the disk"):
            self._file.flush()
            return np.memmap(self._file, np.float32, "r+", shape=(count, *self._shape[1:]))


_Keeper: TypeAlias = _Memory | _Disk


@contextmanager
def views_of(
    items: Sequence[ImageItem],
    preprocessing: Preprocessing,
    *,
    memory: int,
    scratch: Path,
    max_pixels: int,
    progress: Advance,
) -> Iterator[Views]:
    """Read all images, on several threads, and keep what the network sees of them until the end.

    Up to ``memory`` bytes they are kept there, above it in a file without a name in ``scratch``, which is
    gone with the context, and with the process too. Raises UsageError where views would differ in size or no
    image can be read, RunError where the disk is full.
    """
    if preprocessing.resize == "bounded":
        raise UsageError(
            "this preprocessing (resize='bounded') gives each image another size, which cannot be kept in "
            "one batch; load with --resize squash or shorter"
        )
    height, width = preprocessing.size
    shape = (len(items), height, width, preprocessing.channels)
    on_disk = int(np.prod(shape, dtype=object)) * _BYTES > memory
    with _on_disk(scratch, shape) if on_disk else _in_memory(shape) as keeper:
        yield _filled(items, keeper, "disk" if on_disk else "memory", preprocessing, max_pixels, progress)


def _filled(
    items: Sequence[ImageItem],
    keeper: _Keeper,
    kept_in: Literal["memory", "disk"],
    preprocessing: Preprocessing,
    max_pixels: int,
    progress: Advance,
) -> Views:
    places: list[int] = []
    unreadable: list[tuple[int, str]] = []
    notes: Counter[str] = Counter()
    digest = sha256()
    for place, read in enumerate(_read_ahead(items, preprocessing, max_pixels)):
        if isinstance(read, str):
            unreadable.append((place, read))
            digest.update(b"unreadable\n")
        else:
            keeper.take(read.pixels)
            places.append(place)
            notes.update(read.notes)
            digest.update(f"{read.content_hash}\n".encode())
        progress(place + 1, len(items))
    if not places:
        raise UsageError(
            f"none of the split's {len(items)} images can be read; the first: {unreadable[0][1]}"
        )
    images = torch.from_numpy(keeper.all(len(places))).permute(0, 3, 1, 2)
    return Views(images, tuple(places), tuple(unreadable), tuple(notes.items()), digest.hexdigest(), kept_in)


def _read_ahead(items: Sequence[ImageItem], preprocessing: Preprocessing, max_pixels: int) -> Iterator[_Read]:
    """Give each image in order; a few more than there are threads are read ahead."""
    workers = min(_MOST_WORKERS, cpu_count() or 1)
    waiting: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(workers) as executor:
        try:
            for item in items:
                waiting.append(executor.submit(_read, item, preprocessing, max_pixels))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _read(item: ImageItem, preprocessing: Preprocessing, max_pixels: int) -> _Read:
    if item.error is not None:
        return item.error
    try:
        picture = read_image(item.path, max_pixels=max_pixels)
        view, _ = preprocessing.apply(picture.image)
    except (ImageError, MissingExtraError) as error:
        return str(error)
    except MemoryError:
        return f"{item.id}: too large for the memory; resize the picture"
    # channels last, as the evaluation wants them: turned here, once, and on a thread of its own
    pixels = np.ascontiguousarray(view.numpy().transpose(1, 2, 0))
    return _View(pixels, picture.content_hash, picture.notes)


@contextmanager
def _in_memory(shape: tuple[int, ...]) -> Iterator[_Memory]:
    yield _Memory(shape)


@contextmanager
def _on_disk(scratch: Path, shape: tuple[int, ...]) -> Iterator[_Disk]:
    with run_errors(f"keep the decoded images in {str(scratch)!r}"):
        file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  # closed below, whatever a full disk says
    try:
        yield _Disk(file, shape)
    finally:
        with suppress(OSError):  # what a full disk did not take is tried again here, in vain
            file.close()
