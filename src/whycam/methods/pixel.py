"""Methods that attribute the score to the image's own pixels, from gradients with respect to the image.

Maps are signed, [B, *size]: an image's bands are summed, as a sum of attributions is one too.
"""

import torch
from torch import Tensor

from whycam.methods.needs import SlopesOf
from whycam.types import Images, Map


def gradient(images: Images, slopes_of: SlopesOf) -> Map:
    """Sum d score / d pixel over the bands: [B, *size], signed. Source: Simonyan 2013, section 3."""
    return _gradients_at(images, slopes_of).sum(1)


def _gradients_at(images: Images, slopes_of: SlopesOf) -> Tensor:
    rows = torch.arange(len(images), device=images.device)
    return torch.cat([slope.gradients for slope in slopes_of(rows, lambda which: images[which])])
