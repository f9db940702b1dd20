"""Methods that change the image and see what becomes of the score: no layer and no gradient.

The changes are the same for every image of a batch. Images are faded to a ``fill``, a pixel value after
preprocessing: 0 is the mean colour where images are standardised.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.fusion import to_grid
from whycam.methods.needs import ScoresOf
from whycam.types import Images, Map, Rows, Scores

Masks = Float[Tensor, "n *size"]
Change = Callable[[Rows, Rows], Images]
"""Makes changes of these numbers [n] of these images [n]."""

VALUES_AT_ONCE = 2**22
"""Mask values that are held at once where masks are summed."""
MOST_SOBOL_AXES = 21201


def occlusion(
    images: Images,
    scores: Scores,
    scores_of: ScoresOf,
    *,
    patch: int | None = None,
    stride: int | None = None,
    fill: float = 0.0,
) -> Map:
    """Show by how much the score drops when a pixel is covered: the mean drop over the patches that cover it.

    A patch is ``patch`` pixels wide on every axis (a seventh of the axis by default, at most the axis) and
    moves by ``stride`` (half of the patch by default); the last one ends at the border. It covers with
    ``fill``, a pixel value after preprocessing. Returns [B, *size], signed, at the image's resolution. Costs
    a forward a patch: 169 on two axes by default. Source: Zeiler 2014, section 4.2; the mean over overlapping
    patches is from practice.
    """
    axes = [_patches(cells, patch, stride) for cells in images.shape[2:]]
    covers = [_covers(axis, cells, images) for axis, cells in zip(axes, images.shape[2:], strict=True)]
    places = _grid_of([len(cover) for cover in covers], images.device)

    def change(which: Rows, row: Rows) -> Images:
        covered = _outer([cover[places[which, axis]] for axis, cover in enumerate(covers)])
        return torch.where(covered.unsqueeze(1) > 0, fill, images[row])

    found = _scores_of_each(images, len(places), change, scores_of, f"occlusion {axes} {fill}")
    drops = (scores.unsqueeze(1).to(found.dtype) - found).view(-1, *[len(cover) for cover in covers])
    return _spread(drops, covers) / _spread(torch.ones_like(drops[:1]), covers)


def rise(
    images: Images,
    scores_of: ScoresOf,
    *,
    masks: int = 4000,
    cells: int = 7,
    keep: float = 0.5,
    fill: float = 0.0,
    seed: int = 0,
) -> Map:
    """Show how much better than average the score is where random masks keep a pixel.

    A mask has ``cells`` cells an axis, each kept with probability ``keep``, enlarged linearly to one cell
    more than the image and shifted at random by up to a cell. The map is
    ``sum_i (y_i - mean y) M_i / (n keep)``: the paper's eq. 6 less the mean score, since a class score, other
    than the paper's probabilities, has no zero. M_i is mask i, y_i the score under it, n the number of
    ``masks``. What a mask takes away becomes ``fill``, a pixel value after preprocessing; ``seed`` draws the
    masks, which are the same for every image. Returns [B, *size], signed. Costs ``masks`` forwards.
    Source: Petsiuk 2018.
    """
    _check_at_least("masks", masks, 1)
    _check_at_least("cells", cells, 1)
    if not 0 < keep < 1:
        raise MethodError(f"keep is {keep}; expected a probability between 0 and 1")
    random = _RandomMasks(images, masks, cells, keep, seed)

    def change(which: Rows, row: Rows) -> Images:
        return _faded(images[row], random.masks(which), fill)

    name = f"rise {masks} {cells} {keep} {fill} {seed}"
    found = _scores_of_each(images, masks, change, scores_of, name)
    found = found - found[:, :1]  # so that scores that are all the same have a mean that is exact
    found = found - found.mean(1, keepdim=True)
    total = found.new_zeros(len(images), *images.shape[2:])
    for which in torch.split(torch.arange(masks, device=images.device), _at_once(images)):
        total = total + torch.einsum("bn,n...->b...", found[:, which], random.masks(which).to(found.dtype))
    return total / (masks * keep)


def sobol(
    images: Images,
    scores_of: ScoresOf,
    *,
    cells: int = 8,
    designs: int = 32,
    fill: float = 0.0,
    seed: int = 0,
) -> Map:
    """Show each cell's total Sobol index: its share of the score's variance, with all its interactions.

    Masks are a scrambled Sobol' sequence (``seed`` scrambles it) on a grid of ``cells`` cells an axis,
    enlarged linearly; where a mask is 0, a pixel becomes ``fill``, a value after preprocessing. With A and B
    two halves of a point, A_i is A with cell i from B, and the index is Jansen's
    ``mean((y(A) - y(A_i))^2) / 2 / var y(A)``. Returns [B, *cells] >= 0, at the grid's resolution; 0 where
    the score does not move. Costs ``designs`` x (cells of the grid + 1) forwards: 2080 on two axes. Source:
    Fel 2021; of its sample only the scores of A and A_i are used.
    """
    _check_at_least("cells", cells, 1)
    _check_at_least("designs", designs, 2)
    grid = (cells,) * (images.ndim - 2)
    first, second = _sobol_points(grid, designs, seed, images)
    variants = first.shape[1] + 1  # A, and A_i of each cell

    def change(which: Rows, row: Rows) -> Images:
        design, cell = which // variants, (which % variants).unsqueeze(1) - 1
        swapped = torch.arange(variants - 1, device=which.device) == cell
        masks = torch.where(swapped, second[design], first[design]).view(-1, *grid)
        return _faded(images[row], to_grid(masks, images.shape[2:]), fill)

    name = f"sobol {cells} {designs} {fill} {seed}"
    found = _scores_of_each(images, designs * variants, change, scores_of, name)
    found = found.view(len(images), designs, variants)
    plain, swapped = found[:, :, :1], found[:, :, 1:]
    variance = plain.var(1)
    moved = variance.sqrt() > 8 * torch.finfo(images.dtype).eps * plain.abs().amax(1)
    indices = (plain - swapped).square().mean(1) / 2 / torch.where(moved, variance, 1)
    return torch.where(moved, indices, 0).view(-1, *grid)


def _scores_of_each(
    images: Images, count: int, change: Change, scores_of: ScoresOf, known_as: str
) -> Float[Tensor, "batch variants"]:
    """Score the same ``count`` changes of every image, in float32 or wider."""
    rows = torch.arange(len(images), device=images.device).repeat_interleave(count)
    found = scores_of(rows, lambda which: change(which % count, rows[which]), known_as=known_as)
    return _float(found).view(len(images), count)


def _float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _faded(images: Images, masks: Masks, fill: float) -> Images:
    """Return the image where the mask is 1 and the fill where it is 0."""
    shares = masks.unsqueeze(1).to(images.dtype)
    return images * shares if fill == 0 else fill + (images - fill) * shares


def _outer(sides: Sequence[Float[Tensor, "n _"]]) -> Masks:
    """Multiply vectors along each axis to [n, *size]."""
    product = sides[0]
    for side in sides[1:]:
        product = product.unsqueeze(-1) * side.view(len(side), *[1] * (product.ndim - 1), -1)
    return product


def _grid_of(lengths: Sequence[int], device: torch.device) -> Tensor:
    """List all places of a grid, [N, axes], the last axis fastest."""
    axes = [torch.arange(length, device=device) for length in lengths]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def _patches(cells: int, patch: int | None, stride: int | None) -> tuple[tuple[int, int], ...]:
    """Return (start, end) of the patches along an axis."""
    width = min(cells, -(-cells // 7) if patch is None else patch)
    step = max(1, width // 2) if stride is None else stride
    _check_at_least("patch", width, 1)
    _check_at_least("stride", step, 1)
    last = cells - width
    starts = [*range(0, last, step), last]
    if any(after > before + width for before, after in pairwise(starts)):
        raise MethodError(
            f"stride {step} passes over pixels between patches of {width}; expected at most {width}"
        )
    return tuple((start, start + width) for start in starts)


def _covers(patches: Sequence[tuple[int, int]], cells: int, images: Images) -> Float[Tensor, "places cells"]:
    """Return 1 where a patch covers a pixel of the axis."""
    bounds = torch.tensor(patches, device=images.device)
    at = torch.arange(cells, device=images.device)
    return _float(((at >= bounds[:, :1]) & (at < bounds[:, 1:])).to(images.dtype))


def _spread(values: Tensor, covers: Sequence[Tensor]) -> Tensor:
    """Add each patch's value [B, *places] to the pixels that it covers: [B, *size]."""
    for axis, cover in enumerate(covers, start=1):
        values = torch.tensordot(values, cover.to(values.dtype), dims=([axis], [0])).movedim(-1, axis)
    return values


class _RandomMasks:
    """RISE's masks, each of which can be made again from its number."""

    def __init__(self, images: Images, count: int, cells: int, keep: float, seed: int) -> None:
        size = images.shape[2:]
        generator = torch.Generator(images.device).manual_seed(seed)
        shape = (count, *[cells] * len(size))
        kept = torch.rand(shape, generator=generator, device=images.device) < keep
        self.kept = _float(kept.to(images.dtype))
        cell = [-(-length // cells) for length in size]
        draws = torch.rand(count, len(size), generator=generator, device=images.device)
        shifts = (draws * torch.tensor(cell, device=images.device)).long()
        self.shares = [
            _linear_shares(cells, (cells + 1) * width, self.kept.dtype, images.device) for width in cell
        ]
        self.places = [
            shifts[:, axis : axis + 1] + torch.arange(length, device=images.device)
            for axis, length in enumerate(size)
        ]

    def masks(self, which: Rows) -> Masks:
        masks = self.kept[which]
        for axis, (shares, places) in enumerate(zip(self.shares, self.places, strict=True), start=1):
            along = masks.movedim(axis, -1)
            pixels = torch.einsum("n...c,npc->n...p", along, shares[places[which]])
            masks = pixels.movedim(-1, axis)
        return masks


def _linear_shares(
    cells: int, length: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "length cells"]:
    """Return how much of each cell goes into each pixel where cells are enlarged linearly."""
    units = torch.eye(cells, dtype=dtype, device=device)
    return to_grid(units, torch.Size([length])).mT


def _at_once(images: Images) -> int:
    return max(1, VALUES_AT_ONCE // images.shape[2:].numel())


def _sobol_points(grid: Sequence[int], designs: int, seed: int, images: Images) -> tuple[Tensor, Tensor]:
    """Return A and B, [designs, cells of the grid] each."""
    cells = torch.Size(grid).numel()
    if 2 * cells > MOST_SOBOL_AXES:
        raise MethodError(
            f"{cells} cells need a Sobol' sequence of {2 * cells} axes, and there are {MOST_SOBOL_AXES}; "
            "take fewer cells an axis"
        )
    engine = torch.quasirandom.SobolEngine(2 * cells, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    points = engine.draw(designs, dtype=torch.float64).to(images.device, _float(images[:0]).dtype)
    return points[:, :cells], points[:, cells:]


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise MethodError(f"{name} is {value}; expected at least {least}")
