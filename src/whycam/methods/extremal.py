"""The mask of a given area that keeps the score highest."""

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.fusion import to_grid
from whycam.methods.needs import SlopesOf
from whycam.types import Images, Map, Rows, Scores

Points = Float[Tensor, "n *grid"]
Pyramid = Float[Tensor, "pictures levels bands *size"]

COLDNESS = 20.0
"""How sharp the smooth maximum is (the paper's 1 / T)."""
LEVELS = 8
MOST_BLUR = 20 / 224
"""Standard deviation of the strongest blur, as a share of the axis."""
FIRST_WEIGHT, LAST_WEIGHT = 300.0, 4800.0
"""The area's weight against the score: doubled four times on the way."""
CELLS_OF_THE_PAPER, STEPS_OF_THE_PAPER = 32 * 32, 800


def extremal(
    images: Images,
    slopes_of: SlopesOf,
    *,
    areas: Sequence[float] = (0.1,),
    steps: int = 800,
    rate: float = 0.01,
    cells: int = 32,
    sigma: float = 3.0,
) -> Map:
    """Find the masks of ``areas``, shares of the image, under which the score is highest; give their mean.

    Points on a grid of ``cells`` cells an axis (at most the axis) become a mask by a smooth max-convolution
    with a kernel of ``sigma`` cells, resized linearly to the image; a pixel is taken from a pyramid of blurs
    by its mask, unblurred at 1. ``steps`` gradient steps of the size ``rate``, with momentum 0.9, raise
    ``y - w |sort(m) - r_a|^2``, r_a the sorted perfect mask of the area and w growing from 300 to 4800. All
    images and areas at once. One area of 0.1 is the usual choice, and gives nearly 0 or 1; several give a
    ranking. Returns [B, *cells] in [0, 1], at the points' resolution. Costs ``steps`` (F + B) an area.
    Source: Fong 2019. Ours: the area is counted on the grid, and the step is scaled by its cells and by 800 /
    ``steps``, so that both may be chosen.
    """
    _check(areas, steps, cells, sigma)
    size = images.shape[2:]
    grid = [min(cells, length) for length in size]
    pyramid = _blurred(images)
    kernel = _kernel(sigma, grid, images)
    rows = torch.arange(len(images), device=images.device).repeat_interleave(len(areas))
    wanted = torch.stack([_sorted_mask(area, grid, kernel) for area in areas]).repeat(len(images), 1)

    def into(points: Points, which: Rows) -> Images:
        return _taken(pyramid, rows[which], to_grid(_smooth_masks(points, kernel), size))

    points = kernel.new_full((len(rows), *grid), 0.5)
    rate = rate * points[0].numel() / CELLS_OF_THE_PAPER * STEPS_OF_THE_PAPER / steps
    velocity: Tensor | None = None
    for step in range(steps):
        # First the score alone: the order of points that are still alike says nothing.
        weight = 0.0 if step == 0 else FIRST_WEIGHT * (LAST_WEIGHT / FIRST_WEIGHT) ** (step / steps)

        def penalty(points: Points, which: Rows, weight: float = weight) -> Scores:
            found = _smooth_masks(points, kernel).flatten(1).sort(dim=1, stable=True).values
            return weight * (found - wanted[which]).square().mean(1)

        slopes = slopes_of(rows, points.__getitem__, into=into, penalty=penalty)
        gradient = torch.cat([slope.gradients for slope in slopes])
        velocity = gradient if velocity is None else 0.9 * velocity + 0.1 * gradient
        points = (points + rate * velocity).clamp(0, 1)
    return _smooth_masks(points, kernel).view(len(images), len(areas), *grid).mean(1)


def _smooth_masks(points: Points, kernel: Tensor) -> Points:
    """Return at each cell the smooth maximum, ``sum w exp(w / T) / sum exp(w / T)``, of kernel x points."""
    axes = range(1, points.ndim)
    margins = [side // 2 for side in reversed(kernel.shape) for _ in range(2)]
    # What lies beyond the border is as the border: zeros would lower the mask along it.
    padded = torch.nn.functional.pad(points.unsqueeze(1), margins, mode="replicate").squeeze(1)
    for axis, side in zip(axes, kernel.shape, strict=True):
        padded = padded.unfold(axis, side, 1)
    values = (padded * kernel).flatten(points.ndim)
    return (values * (COLDNESS * values).softmax(-1)).sum(-1)


def _kernel(sigma: float, grid: Sequence[int], images: Images) -> Tensor:
    """Return ``exp(-2 relu(r / sigma - 1/2)^2)`` over the offsets to neighbours, in float32 or wider."""
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    reach = 1 + ceil(sigma)
    squared = torch.zeros((), dtype=dtype, device=images.device)
    for length in grid:
        half = min(reach, length - 1)  # further, there is no cell
        steps = torch.arange(-half, half + 1, dtype=dtype, device=images.device)
        squared = squared.unsqueeze(-1) + steps.square()
    return torch.exp(-2 * (squared.sqrt() / sigma - 0.5).relu().square())


def _sorted_mask(area: float, grid: Sequence[int], like: Tensor) -> Float[Tensor, "cells"]:
    """Return the values of a perfect mask of the area in rising order: zeros, then ones."""
    cells = torch.Size(grid).numel()
    values = like.new_ones(cells)
    values[: int(cells * (1 - area))] = 0
    return values


def _blurred(images: Images) -> Pyramid:
    """Return the images from the strongest blur to none; beyond the border the border's pixel goes on."""
    levels = []
    for level in range(LEVELS):
        blurred = images
        for axis in range(2, images.ndim):
            length = images.shape[axis]
            matrix = _blur(length, MOST_BLUR * length * (1 - level / (LEVELS - 1)), images)
            blurred = torch.tensordot(blurred, matrix, dims=([axis], [1])).movedim(-1, axis)
        levels.append(blurred)
    return torch.stack(levels, 1)


def _blur(length: int, sigma: float, images: Images) -> Float[Tensor, "length length"]:
    """Return the matrix of a Gaussian blur along an axis."""
    reach = ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=images.device)
    shares = torch.exp(-(offsets.square()) / (2 * max(sigma, 1e-9) ** 2))
    places = torch.arange(length, device=images.device).unsqueeze(1) + offsets.long()
    matrix = shares.new_zeros(length, length)
    matrix.scatter_add_(1, places.clamp(0, length - 1), (shares / shares.sum()).expand(length, -1))
    return matrix.to(images.dtype)


def _taken(pyramid: Pyramid, rows: Rows, masks: Float[Tensor, "n *size"]) -> Images:
    """Take each pixel from between the two levels that its mask value points at."""
    at = masks * (LEVELS - 1)
    lower = at.detach().floor().clamp(max=LEVELS - 2)
    share = (at - lower).unsqueeze(1).to(pyramid.dtype)
    index = lower.long()[:, None, None].expand(-1, 1, pyramid.shape[2], *masks.shape[1:])
    levels = pyramid[rows]
    below, above = levels.gather(1, index).squeeze(1), levels.gather(1, index + 1).squeeze(1)
    return below + share * (above - below)


def _check(areas: Sequence[float], steps: int, cells: int, sigma: float) -> None:
    if not areas or not all(0 < area < 1 for area in areas):
        raise MethodError(f"areas are {tuple(areas)}; expected shares of the image between 0 and 1")
    if steps < 1 or cells < 1 or sigma <= 0:
        raise MethodError(
            f"steps={steps}, cells={cells}, sigma={sigma}; expected steps, cells >= 1 and sigma > 0"
        )
