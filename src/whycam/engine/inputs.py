"""What one forward takes: the images that are explained, and what goes into the model beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from whycam.engine.session import plain
from whycam.errors import UsageError
from whycam.types import Images, Rows

FIRST_NAMES = ("pixel_values", "images", "image", "pixels")
"""Names under which the images are looked for first, where inputs go by name."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of a forward: ``images``, by position or by name, and ``beside`` them the others.

    ``place`` is the images' position or name; None where they are the only argument.
    """

    images: Images
    beside: Mapping[Any, Any] | tuple[Any, ...] = ()
    place: Any = None

    @classmethod
    def of(cls, given: Any) -> "Inputs":
        """Read what a caller gives: a batch of images, a tuple of arguments, or a mapping of names to them.

        The images are the first float tensor with 3 to 5 axes; by name ``FIRST_NAMES`` go first. Raises
        UsageError with the mend where there are none, or none that is a batch.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Tensor):
            return cls(_checked(given))
        if isinstance(given, Mapping):
            names = [*(name for name in FIRST_NAMES if name in given), *given]
            return _found(given, names)
        if isinstance(given, tuple):
            return _found(given, list(range(len(given))))
        raise UsageError(
            f"images are a {type(given).__name__}; a plain nn.Module takes a float tensor "
            "[batch, channels, *size] that is already preprocessed, a tuple of arguments, or a dict of them "
            "by name. For files use whycam.load(...)"
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def with_images(self, images: Images) -> "Inputs":
        """Return the same arguments with other images."""
        return replace(self, images=images)

    def part(self, start: int, stop: int) -> "Inputs":
        """Return the arguments of images ``start`` to ``stop``.

        What has as many rows as there are images is cut with them; the rest goes along whole.
        """

        def cut(value: Any) -> Any:
            rows = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(self)
            return value[start:stop] if rows else value

        return replace(self, images=self.images[start:stop], beside=self._each(cut))

    def select(self, rows: Rows, images: Images | None = None) -> "Inputs":
        """Return the arguments of these images of the batch, in this order; or with other ``images``."""

        def taken(value: Any) -> Any:
            of_images = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(self)
            return value[rows.to(value.device)] if of_images else value

        found = self.images[rows] if images is None else images
        return replace(self, images=found, beside=self._each(taken))

    def run(self, module: nn.Module, images: Images | None = None) -> Any:
        """Run the module on these arguments, with ``images`` in the place of the own ones where given.

        What goes beside the images is copied: a model that writes into it must not change the caller's.
        """
        images = self.images if images is None else images
        if self.place is None:
            return module(images)
        beside = self._each(lambda value: plain(value).clone() if isinstance(value, Tensor) else value)
        if isinstance(beside, Mapping):
            return module(**{**beside, self.place: images})
        return module(*beside[: self.place], images, *beside[self.place :])

    def _each(self, change: Callable[[Any], Any]) -> Mapping[Any, Any] | tuple[Any, ...]:
        if isinstance(self.beside, Mapping):
            return {name: change(value) for name, value in self.beside.items()}
        return tuple(change(value) for value in self.beside)


def _found(given: Any, places: list[Any]) -> Inputs:
    place = next((place for place in places if _is_batch(given[place])), None)
    if place is None:
        kinds = ", ".join(f"{name}: {_kind(given[name])}" for name in dict.fromkeys(places)) or "nothing"
        raise UsageError(
            f"the inputs hold no images ({kinds}); expected a float batch [batch, channels, *size]"
        )
    if isinstance(given, tuple):
        beside: Any = (*given[:place], *given[place + 1 :])
    else:
        beside = {name: value for name, value in given.items() if name != place}
    return Inputs(_checked(given[place]), beside, place)


def _is_batch(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and 3 <= value.ndim <= 5


def _kind(value: Any) -> str:
    return f"{list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _checked(images: Tensor) -> Images:
    if images.ndim not in (3, 4, 5) or not len(images):
        raise UsageError(
            f"images are {list(images.shape)}; expected [batch, channels, *size] with at least one image"
        )
    if not images.is_floating_point():
        raise UsageError(f"images are {images.dtype}; expected floats preprocessed as in training")
    return images


def copied(images: Images, memory_format: torch.memory_format = torch.preserve_format) -> Images:
    """Return a copy that autograd can work with and that a model may write into."""
    return plain(images).clone(memory_format=memory_format)
