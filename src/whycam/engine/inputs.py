"""What one forward takes: the images that are explained, and what goes into the model beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whycam.engine.nested import tensors_in
from whycam.engine.session import plain, same_random_state
from whycam.errors import UsageError
from whycam.types import Images, Rows

FIRST_NAMES = ("pixel_values", "images", "image", "pixels")
"""Names under which the images are looked for first, where inputs go by name."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of a forward: ``images``, by position or by name, and ``beside`` them the others.

    ``place`` is the images' position or name; None where they are the only argument. ``shared`` are the
    keys of what goes along whole, though it may have as many rows as there are images: texts, say.
    """

    images: Images
    beside: Mapping[Any, Any] | tuple[Any, ...] = ()
    place: Any = None
    shared: frozenset[Any] = frozenset()

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

        return self._taken(self.images[start:stop], lambda value: value[start:stop])

    def select(self, rows: Rows, images: Images | None = None) -> "Inputs":
        """Return the arguments of these images of the batch, in this order; with ``images`` for theirs."""

        images = self.images[rows] if images is None else images
        return self._taken(images, lambda value: value[rows.to(value.device)])

    def of_images(self) -> frozenset[Any]:
        """Return the keys of what is taken to have a row an image."""
        items = self.beside.items() if isinstance(self.beside, Mapping) else enumerate(self.beside)
        return frozenset(
            key
            for key, value in items
            if key not in self.shared
            and isinstance(value, Tensor)
            and value.ndim > 0
            and len(value) == len(self)
        )

    def _taken(self, images: Images, take: Callable[[Tensor], Tensor]) -> "Inputs":
        """Return some of the images with their rows of what has any; the rest is not cut later either."""
        rows = self.of_images()
        if isinstance(self.beside, Mapping):
            beside: Any = {key: take(value) if key in rows else value for key, value in self.beside.items()}
            shared = frozenset(self.beside) - rows
        else:
            beside = tuple(take(value) if key in rows else value for key, value in enumerate(self.beside))
            shared = frozenset(range(len(self.beside))) - rows
        return replace(self, images=images, beside=beside, shared=shared)

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


_shared: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()
"""Of each model, by the sizes of its inputs: whether what has as many rows as there are images goes whole."""


def with_shared(module: nn.Module, inputs: Inputs) -> Inputs:
    """Return inputs that know what only happens to have as many rows as there are images, such as texts.

    It is found out by up to three forwards, once for a model and sizes: where one image with its own rows is
    said less of than in the batch, and as much with all rows, these are no rows of images. ``module`` comes
    from ``explaining``.
    """
    doubtful = inputs.of_images()
    if len(inputs) == 1 or not doubtful:
        return inputs
    whole = replace(inputs, shared=inputs.shared | doubtful)
    sizes = tuple(sorted((str(key), tuple(_value(inputs, key).shape)) for key in doubtful))
    known, key = _shared.setdefault(module, {}), (tuple(inputs.images.shape), sizes)
    if key not in known:
        with torch.no_grad(), same_random_state():
            known[key] = _goes_whole(module, inputs, whole)
    return whole if known[key] else inputs


def _value(inputs: Inputs, key: Any) -> Tensor:
    value: Tensor = inputs.beside[key]
    return value


def _goes_whole(module: nn.Module, inputs: Inputs, whole: Inputs) -> bool:
    first = torch.zeros(1, dtype=torch.long, device=inputs.images.device)

    def shapes(given: Inputs) -> list[tuple[int, ...]]:
        return [tuple(one.shape) for one in tensors_in(given.run(module, copied(given.images)))]

    try:
        every, alone = shapes(inputs), shapes(inputs.select(first))
        cut = [
            len(one) > 1 and one[0] == len(inputs) and other[1:] != one[1:]
            for one, other in zip(every, alone, strict=True)
        ]
        if not any(cut):
            return False
        along = shapes(whole.select(first))
        return any(
            less and other == (1, *one[1:]) for less, one, other in zip(cut, every, along, strict=True)
        )
    except Exception:  # a model may raise anything; its own forward comes next, and says it to the user
        return False


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
