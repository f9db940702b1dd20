"""True masks in: where the object of an image really is, and how the model sees that."""

from whycam.data.masks.reading import read_masks
from whycam.data.masks.source import MaskSource
from whycam.data.masks.view import mask_view

__all__ = ["MaskSource", "mask_view", "read_masks"]
