"""What is in each tile: the image, or a map over it, in the print's pixels, with the lines to draw on top."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from whycam.render import iso_lines, normalise, overlay, rectify, resize
from whycam.reports.figure.content import Cell, Content, ImageRow
from whycam.reports.figure.layout import POINTS, Plan, Tile
from whycam.reports.figure.options import FigureOptions, GroundTone
from whycam.types import CropGeometry

DIMMED = 0.45
NO_PICTURE = "#808080"

Lines: TypeAlias = list[npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Panel:
    """A tile's pixels (None: nothing to draw) and for each contour level its lines [points, (x, y)].

    The lines' coordinates are the pixels'.
    """

    tile: Tile
    pixels: Image.Image | None
    lines: tuple[Lines, ...] = ()


def make_panels(plan: Plan, content: Content, options: FigureOptions) -> list[Panel]:
    """Draw every tile of a plan. Memory is bounded by the page."""
    heatmaps = _heatmaps(plan, content, options)
    return [_panel(tile, content.images[tile.image], heatmaps.get(tile), options) for tile in plan.tiles]


def _panel(
    tile: Tile, image: ImageRow, heatmap: npt.NDArray[np.float32] | None, options: FigureOptions
) -> Panel:
    size = _pixels(tile, options.dpi)
    if tile.column == 0:
        return Panel(tile, image.picture and image.picture.resize(size, Image.Resampling.LANCZOS))
    if heatmap is None:
        return Panel(tile, None)
    ground = _ground(image.picture, size, options.look.tone)
    geometry = _geometry(image.cells[tile.column - 1], size)
    pixels = overlay(
        ground, heatmap, geometry=geometry, opacity=options.look.opacity, colormap=options.colours
    )
    lines = iso_lines(ground, heatmap, levels=options.levels, geometry=geometry) if options.levels else []
    return Panel(tile, pixels, tuple(lines))


def _ground(picture: Image.Image | None, size: tuple[int, int], tone: GroundTone) -> Image.Image:
    """Give what the map is laid over; plain gray where the picture is missing."""
    if picture is None:
        return Image.new("RGB", size, NO_PICTURE)
    fitted = picture.resize(size, Image.Resampling.LANCZOS)
    return fitted.convert("L").point(lambda value: value * DIMMED) if tone == "dim gray" else fitted


def _geometry(cell: Cell, size: tuple[int, int]) -> CropGeometry:
    """Return which part of the tile's pixels the model saw: all of it where no box is known."""
    wide, high = size
    if cell.geometry is None:
        return CropGeometry((high, wide), (0.0, 0.0, float(high), float(wide)))
    down, across = high / cell.geometry.original[0], wide / cell.geometry.original[1]
    top, left, bottom, right = cell.geometry.box
    return CropGeometry((high, wide), (top * down, left * across, bottom * down, right * across))


def _heatmaps(plan: Plan, content: Content, options: FigureOptions) -> Mapping[Tile, npt.NDArray[np.float32]]:
    """Turn the maps into heatmaps in [0, 1] of their tiles' resolution, each alone or a column together."""
    raised = {
        tile: _raised(tile, content.images[tile.image], options.dpi) for tile in plan.tiles if tile.column
    }
    known = {tile: values for tile, values in raised.items() if values is not None}
    if options.normalise == "image":
        return {tile: normalise(values[None], "image")[0].numpy() for tile, values in known.items()}
    together: dict[Tile, npt.NDArray[np.float32]] = {}
    for column in sorted({tile.column for tile in known}):
        own = {tile: values for tile, values in known.items() if tile.column == column}
        # as one long image, because the tiles differ in size
        scaled = normalise(torch.cat([values.flatten() for values in own.values()])[None])[0]
        parts = torch.split(scaled, [values.numel() for values in own.values()])
        for (tile, values), part in zip(own.items(), parts, strict=True):
            together[tile] = part.reshape(values.shape).numpy()
    return together


def _raised(tile: Tile, image: ImageRow, dpi: int) -> torch.Tensor | None:
    """Return a map rectified and resized to the pixels of the part that the model saw."""
    cell = image.cells[tile.column - 1]
    if cell.map is None:
        return None
    size = _pixels(tile, dpi)
    top, left, bottom, right = _geometry(cell, size).box
    # a box may reach far out of the picture; no finer than the page is needed
    high, wide = min(round(bottom - top), 2 * size[1]), min(round(right - left), 2 * size[0])
    maps = rectify(torch.from_numpy(cell.map)[None])
    return resize(maps, (max(high, cell.map.shape[0]), max(wide, cell.map.shape[1])))[0]


def _pixels(tile: Tile, dpi: int) -> tuple[int, int]:
    left, top, right, bottom = tile.rect
    return max(1, round((right - left) * dpi / POINTS)), max(1, round((bottom - top) * dpi / POINTS))
