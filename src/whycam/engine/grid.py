"""Where a layer's output keeps its positions: NCHW, NHWC or tokens, to and from [B, C, *grid]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd, inf, prod
from typing import Literal

from torch import Tensor

from whycam.errors import LayerError

Order = Literal["channels-first", "channels-last", "tokens", "tokens-last"]

_NAMES: dict[Order, tuple[str, str, str]] = {
    "channels-first": ("NCL", "NCHW", "NCDHW"),
    "channels-last": ("NLC", "NHWC", "NDHWC"),
    "tokens": ("NLC", "NLC", "NLC"),
    "tokens-last": ("NCL", "NCL", "NCL"),
}
MOST_PREFIX_TOKENS = 32


@dataclass(frozen=True)
class Layout:
    """How [B, ...] is laid out: the order of its axes, its grid, and tokens before the grid's.

    Tokens follow one another as the grid's cells do, the last axis fastest; with ``time_last`` its first.
    """

    order: Order
    grid: tuple[int, ...]
    channels: int
    prefix: int = 0
    time_last: bool = False

    @property
    def name(self) -> str:
        """The usual name: NCHW, NHWC, NLC (tokens), NCL, ..."""
        return _NAMES[self.order][len(self.grid) - 1]

    def to_grid(self, values: Tensor) -> Tensor:
        """Bring [B, ...] in this layout to [B, C, *grid], without the prefix tokens."""
        if self.order == "channels-first":
            return values
        if self.order == "channels-last":
            return values.movedim(-1, 1)
        tokens = values.transpose(1, 2) if self.order == "tokens" else values
        cells = tokens[:, :, self.prefix :]
        if self.time_last:
            time, *plane = self.grid
            return cells.reshape(len(values), self.channels, *plane, time).movedim(-1, 2)
        return cells.reshape(len(values), self.channels, *self.grid)

    def from_grid(self, values: Tensor, like: Tensor) -> Tensor:
        """Bring [B, C, *grid] back to this layout; prefix tokens are taken from ``like``."""
        if self.order == "channels-first":
            return values
        if self.order == "channels-last":
            return values.movedim(1, -1)
        merged = like.clone() if self.order == "tokens-last" else like.transpose(1, 2).clone()
        merged[:, :, self.prefix :] = (values.movedim(2, -1) if self.time_last else values).flatten(2)
        return merged if self.order == "tokens-last" else merged.transpose(1, 2)


def read_layout(
    shape: Sequence[int],
    size: Sequence[int],
    *,
    prefix: int | None = None,
    grid: Sequence[int] | None = None,
    channels: int | None = None,
    time_last: bool = False,
) -> Layout | None:
    """Read the layout of an output [B, ...] for an input of the spatial ``size``, or None.

    ``prefix`` (tokens before the grid's), ``grid``, ``channels`` and ``time_last`` are what the model says of
    itself; they settle what the shape leaves open. A grid fits where one stride, up to rounding, takes the
    input to it on every axis.
    """
    readings = list(_readings(tuple(shape[1:]), tuple(size), prefix, tuple(grid) if grid else None))
    if not readings:
        return None
    best = min(
        readings,
        key=lambda reading: (
            channels is not None and reading.channels != channels,
            grid is not None and reading.grid != tuple(grid),
            prefix is not None and reading.order.startswith("tokens") and reading.prefix != prefix,
            misfit(reading.grid, tuple(size)) > 0,
            reading.prefix,
            misfit(reading.grid, tuple(size)),
        ),
    )
    is_turned = time_last and best.order.startswith("tokens") and len(best.grid) == 3
    return replace(best, time_last=True) if is_turned else best


def _readings(
    inner: tuple[int, ...], size: tuple[int, ...], prefix: int | None, grid: tuple[int, ...] | None
) -> Iterator[Layout]:
    if len(inner) == len(size) + 1:
        if fits(inner[1:], size):
            yield Layout("channels-first", inner[1:], inner[0])
        if fits(inner[:-1], size):
            yield Layout("channels-last", inner[:-1], inner[-1])
    elif len(inner) == 2:
        length, other = inner
        for tokens, cells, order in ((length, other, "tokens"), (other, length, "tokens-last")):
            for first, found in _token_grids(tokens, size, prefix, grid):
                yield Layout("tokens" if order == "tokens" else "tokens-last", found, cells, first)


def _token_grids(
    tokens: int, size: tuple[int, ...], prefix: int | None, grid: tuple[int, ...] | None
) -> Iterator[tuple[int, tuple[int, ...]]]:
    told = grid is not None and len(grid) == len(size) and fits(grid, size)
    if grid is not None and told and 0 <= tokens - prod(grid) <= MOST_PREFIX_TOKENS:
        yield tokens - prod(grid), grid
    solved = range(min(MOST_PREFIX_TOKENS, (tokens - 1) // 2) + 1)
    for first in solved if prefix is None or prefix in solved else (prefix, *solved):
        found = _grid_of(tokens - first, size)
        if found is not None:
            yield first, found


def _grid_of(cells: int, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the grid with that many cells that a stride gives for the input, or None."""
    if len(size) == 1:
        return (cells,) if cells <= size[0] else None
    planes = _planes(size[-2], size[-1])
    if len(size) == 2:
        return planes.get(cells)
    # Time may be strided apart from space: of several depths the largest has lost the least.
    for depth in range(min(cells, size[0]), 0, -1):
        plane = planes.get(cells // depth) if cells % depth == 0 else None
        if plane is not None:
            return (depth, *plane)
    return None


@lru_cache(maxsize=64)
def _planes(height: int, width: int) -> dict[int, tuple[int, int]]:
    """Return, by its number of cells, each grid that a stride gives, rounded down or up on both axes."""
    planes: dict[int, tuple[int, int]] = {}
    for stride in range(1, min(height, width) + 1):
        planes.setdefault(
            ceil(height / stride) * ceil(width / stride), (ceil(height / stride), ceil(width / stride))
        )
        planes[(height // stride) * (width // stride)] = (height // stride, width // stride)
    # Windows without padding miss the last stride; the aspect of the input settles those.
    common = gcd(height, width)
    for times in range(1, common + 1):
        plane = (height // common * times, width // common * times)
        planes[prod(plane)] = plane
    return planes


def fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Say whether one stride, rounded down or up, takes an input of that size to that grid.

    An axis of time or depth before the last two is strided on its own.
    """
    if not all(1 <= cells <= extent for cells, extent in zip(grid, size, strict=True)):
        return False
    strides = [
        (extent / (cells + 1), extent / (cells - 1) if cells > 1 else inf)
        for cells, extent in _plane(grid, size)
    ]
    return max(least for least, _ in strides) < min(most for _, most in strides)


def _plane(grid: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(grid, size, strict=True))[-2:]


def misfit(grid: Sequence[int], size: Sequence[int]) -> float:
    """Return by how many cells the grid's last two axes miss the input's aspect; 0 is an exact fit."""
    if len(grid) < 2:
        return 0.0
    (rows, height), (columns, width) = _plane(grid, size)
    return max(abs(rows * width / height - columns), abs(columns * height / width - rows))


def require_layout(layout: Layout | None, path: str, shape: Sequence[int], size: Sequence[int]) -> Layout:
    """Return the layout, or raise LayerError with the mend."""
    if layout is None:
        raise LayerError(
            f"layer {path!r} gave {list(shape)}, which has no grid for an input of {list(size)}; a CAM needs "
            "a spatial output. Pick a layer before pooling (whycam layers MODEL lists them)"
        )
    return layout
