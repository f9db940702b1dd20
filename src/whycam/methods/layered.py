"""Methods that read several layers at once, or what every layer adds to the score."""

import torch
from torch import Tensor

from whycam.methods.fusion import to_grid
from whycam.methods.needs import SumOfParts
from whycam.types import Activations, Images, Map


def fullgrad(images: Images, sum_of_parts: SumOfParts) -> Map:
    """Add up the magnitudes of all parts of the score: input times gradient and bias times gradient.

    A part [C, *grid] is taken by its magnitude, rescaled to [0, 1] over all its channels and positions,
    summed over the channels and resized to the image. Batch norms count as the bias that they are in eval
    mode. Returns [B, *size] >= 0: it says where, and not in which direction. The parts themselves are
    signed and add up to the score in piecewise linear networks, which ``whycam.completeness`` measures.
    Costs F + B. Source: Srinivas 2019, eq. 4 and 6; the rescaling over a whole layer is the authors' own.
    """
    return sum_of_parts(lambda part: to_grid(_rescaled(part.abs()).sum(1), images.shape[2:]))


def _rescaled(part: Activations) -> Tensor:
    """Bring each image's values to [0, 1]; zeros where they are all the same."""
    inner = tuple(range(1, part.ndim))
    least = part.amin(inner, keepdim=True)
    spread = part.amax(inner, keepdim=True) - least
    return (part - least) / torch.where(spread > 0, spread, 1)
