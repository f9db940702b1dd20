"""The images of a training: read once, kept in memory up to a bound, given in batches a little ahead."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeAlias, TypeVar

import torch
from PIL import Image
from torch import Tensor

from whycam.data import ImageItem, read_image
from whycam.errors import ImageError, MissingExtraError, UsageError
from whycam.models import Preprocessing
from whycam.training.views import ORDER, TrainingView, drawn_for

Kept = TypeVar("Kept", bound=Image.Image | Tensor)
Batch: TypeAlias = tuple[Tensor, Tensor]
"""Views [B, C, H, W] and the classes' indices [B]."""

_AHEAD = 2
"""Batches that are made ready while the network works on one."""


class Room:
    """What is left of a bound on memory, in bytes; several threads may take of it."""

    def __init__(self, bound: int) -> None:
        """Begin with the whole bound free."""
        self._left = bound
        self._guard = threading.Lock()

    def take(self, size: int) -> bool:
        """Take ``size`` bytes where there are as many, and say whether there were."""
        with self._guard:
            if size > self._left:
                return False
            self._left -= size
            return True


@dataclass(frozen=True)
class Example:
    """An image of the data set and its class's index."""

    item: ImageItem
    label: int


class Examples(Generic[Kept]):
    """The readable images of one split, as ``make`` has them: kept where there is room, else made again.

    ``broken`` are (id, error) of those that cannot be read, which are left out; ``digest`` tells other
    contents, classes or orders of the images apart.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        make: Callable[[Image.Image], Kept],
        room: Room,
        executor: Executor,
        done: Callable[[], None],
    ) -> None:
        """Read every image once, in the executor's threads; ``done`` is called for each."""
        self._make = make
        self._room = room
        self._kept: dict[str, Kept] = {}
        found = []
        for outcome in executor.map(self._first_look, examples):
            found.append(outcome)
            done()
        pairs = list(zip(examples, found, strict=True))
        self.examples = tuple(example for example, outcome in pairs if not isinstance(outcome, _Broken))
        self.broken = tuple((e.item.id, o.error) for e, o in pairs if isinstance(o, _Broken))
        lines = (f"{e.item.id}\0{e.label}\0{o}\n" for e, o in pairs if not isinstance(o, _Broken))
        self.digest = sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def __len__(self) -> int:
        """Return how many images can be read."""
        return len(self.examples)

    def get(self, index: int) -> Kept:
        """Return one image. Raises ImageError where it can no longer be read."""
        item = self.examples[index].item
        kept = self._kept.get(item.id)
        return self._make(read_image(item.path).image) if kept is None else kept

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Return the classes' indices [B] of these images."""
        return torch.tensor([self.examples[index].label for index in indices])

    def _first_look(self, example: Example) -> "str | _Broken":
        item = example.item
        if item.error is not None:
            return _Broken(item.error)
        try:
            read = read_image(item.path)
            made = self._make(read.image)
        except (ImageError, MissingExtraError) as error:
            return _Broken(str(error))
        except MemoryError:
            return _Broken(f"{item.id}: too large for the memory; resize the picture")
        if self._room.take(_bytes(made)):
            self._kept[item.id] = made
        return read.content_hash


@dataclass(frozen=True)
class _Broken:
    error: str


def _bytes(made: Image.Image | Tensor) -> int:
    if isinstance(made, Tensor):
        return made.numel() * made.element_size()
    return 4 * made.width * made.height  # Pillow keeps a pixel of RGB in four bytes


def evaluation_view(preprocessing: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """Return what makes the view [C, H, W] of a picture that a prediction is made of."""
    return lambda picture: preprocessing.apply(picture)[0]


class Batches:
    """Batches that an epoch's loop goes through, made ready in threads, in an order that is settled."""

    def __init__(
        self,
        plan: Callable[[int], Sequence[Sequence[int]]],
        view: Callable[[int, int], Tensor],
        labels: Callable[[Sequence[int]], Tensor],
        executor: Executor,
    ) -> None:
        """Give the batches of indices that ``plan`` has for an epoch; ``view`` takes epoch and index."""
        self._plan = plan
        self._view = view
        self._labels = labels
        self._executor = executor
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        """Give this epoch's batches next."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self._plan(self._epoch))

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of the epoch. Raises ImageError where an image can no longer be read."""
        ahead: deque[tuple[Sequence[int], list[Future[Tensor]]]] = deque()
        rest = iter(self._plan(self._epoch))
        try:
            ahead.extend(map(self._started, itertools.islice(rest, _AHEAD)))
            while ahead:
                indices, views = ahead.popleft()
                ahead.extend(map(self._started, itertools.islice(rest, 1)))
                yield torch.stack([view.result() for view in views]), self._labels(indices)
        finally:
            for _, views in ahead:
                for view in views:
                    view.cancel()

    def _started(self, indices: Sequence[int]) -> tuple[Sequence[int], list[Future[Tensor]]]:
        epoch = self._epoch
        return indices, [self._executor.submit(self._view, epoch, index) for index in indices]


def training_batches(
    examples: Examples[Image.Image], view: TrainingView, batch_size: int, executor: Executor
) -> Batches:
    """Give the training images in an order that the seed and the epoch settle."""

    def plan(epoch: int) -> Sequence[Sequence[int]]:
        order = drawn_for(ORDER, view.seed, epoch).permutation(len(examples))
        return _joined(_cut([int(index) for index in order], batch_size))

    def make(epoch: int, index: int) -> Tensor:
        return view.of(examples.get(index), epoch, index)

    return Batches(plan, make, examples.labels, executor)


def validation_batches(examples: Examples[Tensor], batch_size: int, executor: Executor) -> Batches:
    """Give the images as a prediction sees them, in their own order."""
    batches = _cut(range(len(examples)), batch_size)
    return Batches(lambda epoch: batches, lambda epoch, index: examples.get(index), examples.labels, executor)


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _joined(batches: list[list[int]]) -> list[list[int]]:
    """Put a lone last image into the batch before it: batch norm has no statistics of one."""
    if len(batches) > 1 and len(batches[-1]) == 1:
        return [*batches[:-2], [*batches[-2], *batches[-1]]]
    return batches


def check_some(examples: Examples[Kept], split: str, least: int) -> None:
    """Raise UsageError where a split has too few images that can be read."""
    if len(examples) < least:
        first = f"; the first error: {examples.broken[0][1]}" if examples.broken else ""
        raise UsageError(
            f"{len(examples)} of the {len(examples) + len(examples.broken)} images of {split!r} can be used; "
            f"expected at least {least}{first}; mend or add images"
        )
