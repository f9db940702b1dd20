"""Images in: which files a run is about, and how each becomes an upright RGB picture, safely."""

from whycam.data.labelled import LabelledImages, read_labelled
from whycam.data.reading import Picture, read_image
from whycam.data.sources import ImageItem, find_images
from whycam.data.volumes import Volume, read_volume

__all__ = [
    "ImageItem",
    "LabelledImages",
    "Picture",
    "Volume",
    "find_images",
    "read_image",
    "read_labelled",
    "read_volume",
]
