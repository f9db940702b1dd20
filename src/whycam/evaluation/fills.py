"""What stands where pixels are removed: a blur, the pixels around, their noisy linear imputation, or zero.

A fill is a function from a batch of images to a function that fills any number of changed copies of them;
what the copies share, such as the blurred images, is made once. Pixels that are kept stay as they are.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import UsageError
from whycam.types import Images, Rows

Kept: TypeAlias = Bool[Tensor, "rows *size"]
Filled: TypeAlias = Float[Tensor, "rows bands *size"]
Filler: TypeAlias = Callable[[Rows, Kept], Filled]
"""Takes which image of the batch each copy is of [n] and what is kept of it [n, *size]; gives the copies."""
Fill: TypeAlias = Callable[[Images], Filler]

BLUR = 0.1
"""Standard deviation of the blur, as a share of each axis: an object of a fifth of the side is gone."""
NOISE = 0.01
"""Standard deviation of the noise that hides imputed pixels' smoothness, in the model's input units."""
ITERATIONS = 24
"""Of conjugate gradients at full resolution; twice as many at each coarser one, where they cost a quarter."""


def blurred(images: Images, share: float = BLUR) -> Images:
    """Return the images under a Gaussian blur of ``share`` of each axis; the borders' pixels go on."""
    for axis in range(2, images.ndim):
        length = images.shape[axis]
        matrix = _gaussian(length, share * length, images)
        images = torch.tensordot(images, matrix, dims=([axis], [1])).movedim(-1, axis)
    return images


def _gaussian(length: int, sigma: float, images: Images) -> Float[Tensor, "length length"]:
    offsets = torch.arange(-ceil(4 * sigma), ceil(4 * sigma) + 1, device=images.device)
    shares = torch.exp(-(offsets.to(images.dtype).square()) / (2 * sigma**2))
    places = torch.arange(length, device=images.device).unsqueeze(1) + offsets
    matrix = shares.new_zeros(length, length)
    return matrix.scatter_add_(1, places.clamp(0, length - 1), (shares / shares.sum()).expand(length, -1))


def blur(images: Images) -> Filler:
    """Fill with the blurred image. Source: Petsiuk 2018 for insertion."""
    removed = blurred(images)

    def fill(rows: Rows, kept: Kept) -> Filled:
        return torch.where(kept.unsqueeze(1), images[rows], removed[rows])

    return fill


def push_pull(images: Images) -> Filler:
    """Fill with the pixels around, from the finest resolution that knows any.

    Each level halves the last: a cell is the mean of the kept pixels below it. On the way back what is not
    known is taken from the coarser level, linearly between its cells. An image of which nothing is kept
    becomes its mean. Source: Gortler 1996, with a box as the filter.
    """
    mean = _mean(images)

    def fill(rows: Rows, kept: Kept) -> Filled:
        return _pyramid(images[rows], kept.unsqueeze(1), mean[rows], _as_it_is)

    return fill


def _as_it_is(values: Tensor, known: Tensor, level: int) -> Tensor:
    return values


def _mean(images: Images) -> Tensor:
    return images.mean(tuple(range(2, images.ndim)), keepdim=True)


def _pyramid(
    images: Tensor, kept: Tensor, mean: Tensor, settle: Callable[[Tensor, Tensor, int], Tensor]
) -> Tensor:
    """Pull means of what is kept up to one cell, then push them down into what is not.

    ``settle`` improves a level's values, knowing which of its cells are known; level 0 is the image.
    """
    weights = kept.to(images.dtype)
    levels = [(images * weights, weights)]
    while max(levels[-1][0].shape[2:]) > 1:
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    total, weight = levels.pop()
    below = torch.where(weight > 0, total / weight.clamp(min=1), mean)
    while levels:
        total, weight = levels.pop()
        coarse = _doubled(below, total.shape[2:])
        below = torch.where(weight > 0, total / weight.clamp(min=1), coarse)
        below = settle(below, weight > 0, len(levels))
    return torch.where(kept, images, below)


def _halved(values: Tensor) -> Tensor:
    """Add up blocks of two cells along each axis; an odd last cell stays alone."""
    for axis in range(2, values.ndim):
        first, second = _every_second(values, axis, 0), _every_second(values, axis, 1)
        if first.shape[axis] > second.shape[axis]:
            padding = [0, 0] * (values.ndim - axis - 1) + [0, 1]
            second = torch.nn.functional.pad(second, padding)
        values = first + second
    return values


def _every_second(values: Tensor, axis: int, start: int) -> Tensor:
    return values[(slice(None),) * axis + (slice(start, None, 2),)]


def _doubled(values: Tensor, size: torch.Size) -> Tensor:
    """Put two cells in the place of one along each axis, linearly between the centres, cut to ``size``."""
    for axis in range(2, values.ndim):
        before, after = _neighbours(values, axis)
        pair = torch.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        values = pair.flatten(axis, axis + 1).narrow(axis, 0, size[axis - 2])
    return values


def _neighbours(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the cells before and after each along an axis; the border is its own neighbour."""
    length = values.shape[axis]
    first, last = values.narrow(axis, 0, 1), values.narrow(axis, length - 1, 1)
    before = torch.cat([first, values.narrow(axis, 0, length - 1)], axis)
    return before, torch.cat([values.narrow(axis, 1, length - 1), last], axis)


def linear(images: Images, *, seed: int = 0) -> Filler:
    """Fill with the mean of the eight pixels around, solved for all removed pixels at once, plus noise.

    A direct neighbour weighs twice a diagonal one; those outside of the image don't count. The system is
    symmetric: conjugate gradients on the device, for all copies at once, from the coarsest resolution to the
    finest. The noise is the same for all images, so that no result depends on an image's neighbours.
    Source: Rong 2022 (ROAD), noisy linear imputation.
    """
    mean = _mean(images)
    generator = torch.Generator().manual_seed(seed)
    noise = NOISE * torch.randn(images.shape[1:], generator=generator, dtype=torch.float64).to(images)

    def fill(rows: Rows, kept: Kept) -> Filled:
        known = kept.unsqueeze(1)
        imputed = _pyramid(images[rows], known, mean[rows], _imputed)
        return torch.where(known, imputed, imputed + noise)

    return fill


def _imputed(values: Tensor, known: Tensor, level: int) -> Tensor:
    """Bring the unknown values [n, C, *size] nearer to the mean of their neighbours."""
    degree = _around(torch.ones_like(values[:1, :1]))
    removed = (~known).to(values.dtype)
    inverse = removed / degree.clamp(min=1)  # Jacobi; an image of one pixel has no neighbour
    axes = tuple(range(2, values.ndim))
    rest = removed * (_around(values) - degree * values)
    step = inverse * rest
    power = (rest * step).sum(axes, keepdim=True)
    size = (removed * degree * values.square()).sum(axes, keepdim=True)
    solved = (8 * torch.finfo(values.dtype).eps) ** 2 * (size + power)
    for _ in range(min(ITERATIONS * 2**level, values[0, 0].numel())):
        power = power.where(power > solved, 0)  # a step from nothing but rounding could be of any length
        changed = removed * (degree * step - _around(step))
        length = _ratio(power, (step * changed).sum(axes, keepdim=True))
        values = values + length * step
        rest = rest - length * changed
        scaled = inverse * rest
        before, power = power, (rest * scaled).sum(axes, keepdim=True)
        step = scaled + _ratio(power, before) * step
    return values


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """Divide; 0 where there is nothing left to solve."""
    return torch.where(bottom > 0, top / bottom.where(bottom > 0, 1), 0)


def _around(values: Tensor) -> Tensor:
    """Add up the neighbours: 2 times the direct ones and 1 time the diagonal ones; none outside."""
    total = values
    for axis in range(2, values.ndim):
        length = total.shape[axis]
        wider = 2 * total
        if length > 1:
            padding = [0, 0] * (values.ndim - axis - 1)
            after = torch.nn.functional.pad(total.narrow(axis, 1, length - 1), [*padding, 0, 1])
            before = torch.nn.functional.pad(total.narrow(axis, 0, length - 1), [*padding, 1, 0])
            wider = wider + after + before
        total = wider
    own: int = 2 ** (values.ndim - 2)
    return total - own * values


def zero(images: Images) -> Filler:
    """Fill with 0 in the model's input units: the mean colour, where a model's preprocessing takes it off.

    Holes with sharp edges, which no photograph has. Source: Petsiuk 2018 for deletion.
    """

    def fill(rows: Rows, kept: Kept) -> Filled:
        return torch.where(kept.unsqueeze(1), images[rows], 0)

    return fill


FILLS: Mapping[str, Fill] = {"blur": blur, "push-pull": push_pull, "linear": linear, "zero": zero}


def fill_named(name: str) -> Fill:
    """Return a fill by its name. Raises UsageError."""
    if name not in FILLS:
        raise UsageError(f"fill {name!r} is unknown; expected one of {', '.join(FILLS)}")
    return FILLS[name]
