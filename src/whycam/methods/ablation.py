"""Methods that change the layer's activations and look at what becomes of the score."""

import torch
from torch import Tensor

from whycam.methods.gradient import sum_channels
from whycam.methods.needs import ScoresOf
from whycam.types import Activations, Gradients, Map, Rows, Scores


def ablationcam(activations: Activations, scores: Scores, suffix_scores_of: ScoresOf) -> Map:
    """Weight a channel by the share of the score that is lost without it: ``w_k = (y - y_without_k) / |y|``.

    The map is ``sum_k w_k A_k``. The paper divides by y. Its sign is left out, so that a channel whose
    removal lowers the score always counts for the class, also where the score is below 0; where y is 0 the
    loss itself is the weight. Channels that are 0 everywhere are skipped: their removal changes nothing.
    Returns [B, *grid], signed. Costs a forward of what follows the layer for each other channel. Source:
    Desai 2020, eq. 2-3.
    """
    rows, channels = (activations != 0).flatten(2).any(2).nonzero().unbind(1)
    left = suffix_scores_of(rows, _Without(activations, rows, channels), known_as="ablationcam")
    size = torch.where(scores == 0, 1.0, scores.abs())
    weights = torch.zeros(activations.shape[:2], dtype=activations.dtype, device=activations.device)
    weights[rows, channels] = (scores[rows] - left).to(weights.dtype) / size[rows].to(weights.dtype)
    return sum_channels(weights.view(*weights.shape, *[1] * (activations.ndim - 2)), activations)


class _Without:
    """Makes activations without one channel each. One buffer is kept, and only what differs is written."""

    def __init__(self, activations: Activations, rows: Rows, channels: Tensor) -> None:
        self.activations, self.rows, self.channels = activations, rows, channels
        self.buffer = activations[:0]
        self.holds = rows[:0]
        self.missing = channels[:0]

    def __call__(self, which: Rows) -> Tensor:
        rows, channels = self.rows[which], self.channels[which]
        count = len(which)
        slots = torch.arange(count, device=rows.device)
        if len(self.holds) < count or not torch.equal(self.holds[:count], rows):
            self.buffer, self.holds = self.activations[rows], rows
        else:
            missing = self.missing[:count]
            self.buffer[slots, missing] = self.activations[rows, missing]
        self.missing = torch.cat([channels, self.missing[count:]])
        self.buffer[slots, channels] = 0.0
        return self.buffer[:count]


def liftcam(activations: Activations, suffix_multipliers: Gradients) -> Map:
    """Weight a channel by its share of the score: ``w_k = S[m_k A_k]``.

    ``m`` are DeepLIFT's multipliers (the rescale rule) from a layer of zeros to the layer. The channels'
    weights sum to the score less the score of a layer of zeros, where that rule is exact: see
    ``engine/lift.py``. The map is ``sum_k w_k A_k``. Returns [B, *grid], signed. Costs one forward of what
    follows the layer for the image and its reference, and a backward. Source: Jung 2021, eq. 9-11.
    """
    weights = (suffix_multipliers * activations).flatten(2).sum(2)
    return sum_channels(weights.view(*weights.shape, *[1] * (activations.ndim - 2)), activations)


def reciprocam(activations: Activations, suffix_scores_of: ScoresOf) -> Map:
    """Score the layer with one position and its neighbours kept, for each position.

    The neighbours are kept in the shares of a 3 x 3 Gaussian (1, 2, 1 a side, 1/4 in the middle), all else
    is 0; tokens that are no positions stay. What is least over the positions is taken off, as the paper's
    normalisation does. Returns [B, *grid], from 0 up. Costs a forward of what follows the layer for each
    position; all classes share them. Source: Byun 2022, section 3; for tokens Byun 2023.
    """
    batch, _, *grid = activations.shape
    masks = _neighbourhoods(grid, activations)
    cells = len(masks)
    rows = torch.arange(batch, device=activations.device).repeat_interleave(cells)

    def make(which: Rows) -> Tensor:
        return activations[rows[which]] * masks[which % cells][:, None]

    found = suffix_scores_of(rows, make, known_as="reciprocam").view(batch, cells).to(activations.dtype)
    return (found - found.amin(1, keepdim=True)).view(batch, *grid)


def _neighbourhoods(grid: list[int], like: Tensor) -> Tensor:
    """Return a mask [*grid] for each position: a Gaussian of three cells an axis, in the middle of it."""
    masks = torch.ones(1, *[1] * len(grid), dtype=like.dtype, device=like.device)
    for axis, cells in enumerate(grid):
        place = torch.arange(cells, device=like.device)
        away = (place[:, None] - place).abs()
        line = 0.5 * (away == 0) + 0.25 * (away == 1)
        shape = [1] * len(grid)
        shape[axis] = cells
        line = line.to(like.dtype).view(1, cells, *shape)
        masks = (masks[:, None] * line).flatten(0, 1)
    return masks
