"""The watermark: a small plate with letters, half transparent, in a corner."""

import torch
from torch import Tensor

_ROWS = (
    ".............",
    ".##..##..##..",
    ".#.#.#.#.#.#.",
    ".##..##..##..",
    ".#...#.#.#...",
    ".#...#.#.#...",
    ".............",
)
OPACITY = 0.6
MARGIN = 3
"""Pixels between the plate and the picture's edges."""
LIGHT, DARK = 0.95, 0.1
CORNERS = 4


def stamp(images: Tensor, corners: Tensor, opacity: float = OPACITY) -> tuple[Tensor, Tensor]:
    """Lay the plate on images uint8 [B, 3, H, W], each at its corner int64 [B], 0 to 3 in reading order.

    Gives the stamped images and where the plate is, bool [B, H, W]; nothing else is changed.
    """
    plate = torch.tensor([[LIGHT if cell == "#" else DARK for cell in row] for row in _ROWS])
    tall, wide = plate.shape
    stamped, masks = images.clone(), torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
    for corner in range(CORNERS):
        here = corners == corner
        top = images.shape[2] - MARGIN - tall if corner >= 2 else MARGIN
        left = images.shape[3] - MARGIN - wide if corner % 2 else MARGIN
        place = (slice(top, top + tall), slice(left, left + wide))
        under = images[here][:, :, *place] / 255
        stamped[here, :, *place] = (under.lerp(plate, opacity) * 255).round().to(torch.uint8)
        masks[here, *place] = True
    return stamped, masks
