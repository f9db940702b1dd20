"""Model input -> picture, for when there is no original to draw on."""

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from whycam.errors import UsageError


def picture_of(image: Float[Tensor, "channels height width"]) -> Image.Image:
    """Show a model's input [C, H, W] as an RGB picture of its size.

    Values that all lie in [0, 1] are taken as they are; others, whose mean and scale are not known here,
    are stretched from the image's lowest to its highest value over all channels together. Three channels
    are taken for RGB, any other number is averaged to gray. Values that are not finite are drawn as the
    lowest. Raises UsageError for another number of axes, or no pixels.
    """
    if image.ndim != 3 or image.numel() == 0:
        raise UsageError(f"image has shape {list(image.shape)}; expected one image [C, H, W] with pixels")
    pixels = image.detach().float().cpu().numpy()
    finite = np.isfinite(pixels)
    lowest = np.min(pixels, where=finite, initial=np.inf)
    highest = np.max(pixels, where=finite, initial=-np.inf)
    if not finite.any() or (lowest >= 0 and highest <= 1):
        lowest, highest = 0.0, 1.0
    span = float(highest) - float(lowest)
    pixels = (np.where(finite, pixels, lowest) - lowest) / (span or 1.0)
    if len(pixels) != 3:
        pixels = np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0)
    return Image.fromarray(np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8))
