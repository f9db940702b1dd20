"""From the plan to batches of pictures that are read, a batch ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import islice

from PIL import Image
from torch import Tensor

from whycam.data import ImageItem, read_image
from whycam.errors import ImageError, MissingExtraError
from whycam.models import Preprocessing
from whycam.rows import Subject, shrunk
from whycam.types import CropGeometry


@dataclass(frozen=True)
class Planned:
    """An image of the plan and its place in it."""

    index: int
    item: ImageItem

    @property
    def subject(self) -> Subject:
        """What rows say of the image before it is read."""
        return Subject(index=self.index, id=self.item.id, path=str(self.item.path), label=self.item.label)


@dataclass(frozen=True)
class Seen:
    """An image as the model sees it [C, H, W], with its picture shrunk to a run folder's size.

    ``notes`` say what of its file is not seen, such as further pages.
    """

    subject: Subject
    view: Tensor
    picture: Image.Image
    geometry: CropGeometry
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why in one line."""

    subject: Subject
    error: str


Read = Seen | Unreadable
Reader = Callable[[Planned], Read]


def reader(preprocessing: Preprocessing, max_pixels: int) -> Reader:
    """Return what reads and preprocesses one planned image; safe to call from several threads."""

    def read(planned: Planned) -> Read:
        subject = planned.subject
        if planned.item.error is not None:
            return Unreadable(subject, planned.item.error)
        try:
            picture = read_image(planned.item.path, max_pixels=max_pixels)
            view, geometry = preprocessing.apply(picture.image)
            small = shrunk(picture.image)
        except (ImageError, MissingExtraError) as error:
            return Unreadable(subject, str(error))
        except MemoryError:
            return Unreadable(subject, f"{planned.item.id}: too large for the memory; resize the picture")
        seen = replace(subject, content_hash=picture.content_hash)
        return Seen(seen, view, small, geometry, picture.notes)

    return read


def chunks(planned: Iterable[Planned], size: int) -> Iterator[list[Planned]]:
    """Cut the plan into batches by place, so that a resumed run has the batches of an unbroken one."""
    rest = iter(planned)
    while batch := list(islice(rest, size)):
        yield batch


def read_ahead(
    batches: Iterable[Sequence[Planned]], read: Reader, executor: Executor
) -> Iterator[list[Read]]:
    """Read batch by batch, in order; while one is worked on, the next is being read."""
    waiting: deque[list[Future[Read]]] = deque()
    for batch in batches:
        waiting.append([executor.submit(read, planned) for planned in batch])
        if len(waiting) > 1:
            yield [future.result() for future in waiting.popleft()]
    while waiting:
        yield [future.result() for future in waiting.popleft()]
