"""What a source of true masks is, and which errors it gives."""

from abc import ABC, abstractmethod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whycam.data.printable import printable
from whycam.errors import ImageError, UsageError

Mask: TypeAlias = npt.NDArray[np.bool_]
"""[height, width], true on the object."""
Extent: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

MAX_PIXELS = 100_000_000
"""Of one mask, unless its picture is larger."""


class MaskSource(ABC):
    """A place where the true masks of images are."""

    @abstractmethod
    def of(self, item_id: str, path: str, size: Extent) -> Mask | None:
        """Return the mask of one image, true on its object, or None where the source knows none.

        ``item_id`` and ``path`` name the image as an `ImageItem` does; ``size`` is the upright picture's
        height and width, and the mask's. An image that the source lists without an object has an empty
        mask. Raises ImageError where its mask can't be read, doesn't fit, or isn't the only one.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return kind and place in one line, with the SHA-256 where it is one file."""


def source_error(place: object, found: str, expected: str, mend: str) -> UsageError:
    """Return the one line for a source that is of no use as a whole."""
    return UsageError(f"'{printable(str(place))}': found {found}, expected {expected}; {mend}")


def mask_error(image: str, found: str, expected: str, mend: str) -> ImageError:
    """Return the one line for the mask of one image."""
    return ImageError(f"mask of '{printable(image)}': found {found}, expected {expected}; {mend}")


def in_pixels(size: Extent) -> str:
    """Return height and width as people read them, width first."""
    return f"{size[1]} x {size[0]} pixels"
