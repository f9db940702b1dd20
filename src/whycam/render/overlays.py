"""Heatmap and picture -> one picture: overlay, heatmap alone, native grid, contour. RGB in, RGB out.

A model often sees only a part of the picture, at another size. Every function here takes that part as a
`CropGeometry` and colours it alone, at real-numbered coordinates; the rest is left gray and dimmed with
a line around the part, because no map says anything about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.errors import UsageError
from whycam.render.colormaps import DEFAULT_COLORMAP, Heatmap, colorise, colour_levels, colour_table, to_array
from whycam.render.sampling import Floats, Span, Taps, area_taps, coverage, linear_taps, resample_rows
from whycam.types import CropGeometry

UNSEEN_BRIGHTNESS = 0.5
"""How bright the part of a picture stays that the model did not see; it also loses its colour."""

# How gray a colour looks (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

LINE_ALPHA = 0.6
"""How opaque the white lines are that mark the seen part and the cells of a native grid."""

CONTOUR_LEVELS = (0.5, 0.8)

# Pictures are blended a band at a time, small enough for the caches: a photograph of 100 megapixels
# must not need gigabytes.
BAND_PIXELS = 1 << 16

# In pixels; the borders of smaller cells would hide what is in them.
SMALLEST_BORDERED_CELL = 6.0

Box: TypeAlias = tuple[float, float, float, float]
Spans: TypeAlias = tuple[Span, Span]
Placing: TypeAlias = Callable[[Span, range], Taps]


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise UsageError(
            f"opacity {name} is {share}; expected a number from 0 (picture only) to 1 (colour only)"
        )


@runtime_checkable
class Opacity(Protocol):
    """How much of the colour is seen at each pixel; the rest is the picture."""

    def shares(self, heatmap: Floats) -> Floats:
        """Return the colour's share in [0, 1] for heatmap values in [0, 1], of the same shape."""
        ...

    def describe(self) -> str:
        """Return what a reader of the picture must know about it, in a few words."""
        ...


@dataclass(frozen=True)
class ConstantOpacity:
    """The same share of colour everywhere, also where there is no evidence."""

    alpha: float = 0.5

    def __post_init__(self) -> None:
        """Refuse an alpha outside [0, 1]."""
        _check_share("alpha", self.alpha)

    def shares(self, heatmap: Floats) -> Floats:
        """Return alpha for every pixel."""
        return np.full_like(heatmap, self.alpha)

    def describe(self) -> str:
        """Return the words for a sheet's footer."""
        return f"colour at {self.alpha:.0%} opacity"


@dataclass(frozen=True)
class MagnitudeOpacity:
    """A share of colour that grows with the evidence up to ``maximum``: no evidence, no colour."""

    maximum: float = 0.8

    def __post_init__(self) -> None:
        """Refuse a maximum outside [0, 1]."""
        _check_share("maximum", self.maximum)

    def shares(self, heatmap: Floats) -> Floats:
        """Return the heatmap times the maximum."""
        return heatmap * np.float32(self.maximum)

    def describe(self) -> str:
        """Return the words for a sheet's footer."""
        return f"opacity rises with the value to {self.maximum:.0%}"


# Most colormaps start at black or blue: laid over a whole photograph, they would hide what it shows.
DEFAULT_OPACITY: Opacity = MagnitudeOpacity()


def overlay(
    picture: Image.Image,
    heatmap: Heatmap,
    *,
    geometry: CropGeometry | None = None,
    opacity: Opacity = DEFAULT_OPACITY,
    colormap: str = DEFAULT_COLORMAP,
) -> Image.Image:
    """Blend a heatmap [H, W] in [0, 1] over the part of the picture that the model saw.

    Returns an RGB picture of the same size. The heatmap, of any size, is laid over ``geometry.box``
    (the whole picture without a geometry) bilinearly with aligned pixel centres; the rest turns gray.
    Raises UsageError when the picture is not RGB or gray, is not the geometry's, the box is empty, the
    heatmap is no [H, W], or the colormap is unknown.
    """
    values = to_array(heatmap)
    spans = _spans(_box(picture, geometry), values.shape)
    return _colour(picture, values, spans, linear_taps, opacity, colormap)


def heatmap_picture(heatmap: Heatmap, *, colormap: str = DEFAULT_COLORMAP) -> Image.Image:
    """Draw a heatmap [H, W] in [0, 1] alone: RGB, one pixel a value. Raises UsageError as `colorise`."""
    return Image.fromarray(colorise(heatmap, colormap))


def native_grid(
    picture: Image.Image,
    cells: Heatmap,
    *,
    geometry: CropGeometry | None = None,
    opacity: Opacity = DEFAULT_OPACITY,
    colormap: str = DEFAULT_COLORMAP,
) -> Image.Image:
    """Draw a map at its layer's own resolution: each cell one flat square with a border.

    ``cells`` [H, W] in [0, 1] is the rectified and normalised map before any resizing; what a smooth
    overlay interpolates is seen here as it is. Borders are left out where cells are a few pixels small.
    Returns RGB of the picture's size; raises UsageError as `overlay`.
    """
    values = to_array(cells)
    rows, columns = _spans(_box(picture, geometry), values.shape)
    thickness = _line_thickness(picture)
    borders = _borders(rows, picture.height, thickness), _borders(columns, picture.width, thickness)
    return _colour(picture, values, (rows, columns), area_taps, opacity, colormap, borders)


def contour(
    picture: Image.Image,
    heatmap: Heatmap,
    *,
    levels: Sequence[float] = CONTOUR_LEVELS,
    geometry: CropGeometry | None = None,
    colormap: str = DEFAULT_COLORMAP,
) -> Image.Image:
    """Draw a heatmap's iso-lines on the picture, each in its level's colour; the picture stays visible.

    ``levels`` are heatmap values between 0 and 1, rising. Returns RGB of the picture's size; raises
    UsageError for other levels, and as `overlay`.
    """
    lines = iso_lines(picture, heatmap, levels=levels, geometry=geometry)
    colours = [colour_table(colormap)[round(level * 255)] / 255 for level in levels]
    plain = overlay(picture, heatmap, geometry=geometry, opacity=ConstantOpacity(0.0), colormap=colormap)
    return _stroke(plain, lines, colours)


def iso_lines(
    picture: Image.Image,
    heatmap: Heatmap,
    *,
    levels: Sequence[float] = CONTOUR_LEVELS,
    geometry: CropGeometry | None = None,
) -> list[list[npt.NDArray[np.float64]]]:
    """Trace a heatmap's iso-lines: for each level its lines [points, (x, y)] in the picture's pixels.

    They run out to the edge of the seen part. Raises UsageError as `contour` does.
    """
    if not all(low < high for low, high in zip((0.0, *levels), (*levels, 1.0), strict=True)):
        raise UsageError(f"contour levels are {tuple(levels)}; expected rising numbers between 0 and 1")
    values = to_array(heatmap)
    return _iso_lines(values, _spans(_box(picture, geometry), values.shape), levels)


def _colour(
    picture: Image.Image,
    values: Floats,
    spans: Spans,
    placing: Placing,
    opacity: Opacity,
    colormap: str,
    borders: tuple[Floats, Floats] | None = None,
) -> Image.Image:
    """Lay the values' colours over their part of the picture, a band of rows at a time.

    ``borders`` are each row's and each column's share in lines to draw across the part.
    """
    rows, columns = spans
    pixels, table = np.asarray(as_rgb(picture)), colour_table(colormap).astype(np.float32)
    height, width = pixels.shape[:2]
    wide = resample_rows(values.T, placing(columns, range(width))).T
    seen_down, seen_across = _seen(rows, height, 0.0), _seen(columns, width, 0.0)
    frame = _line_thickness(picture)
    framed_down, framed_across = _seen(rows, height, frame), _seen(columns, width, frame)
    lines_down, lines_across = borders or (np.zeros(height, np.float32), np.zeros(width, np.float32))
    result = np.empty_like(pixels)
    step = max(1, BAND_PIXELS // width)
    for top in range(0, height, step):
        here = slice(top, min(top + step, height))
        heat = resample_rows(wide, placing(rows, range(here.start, here.stop)))
        seen = np.outer(seen_down[here], seen_across)
        frames = np.outer(framed_down[here], framed_across) - seen
        lines = np.maximum.outer(lines_down[here], lines_across) * seen + frames
        colours = table.take(colour_levels(heat), axis=0)
        result[here] = _blend(pixels[here], colours, opacity.shares(heat), seen, lines)
    return Image.fromarray(result)


def _blend(
    pixels: npt.NDArray[np.uint8], colours: Floats, shares: Floats, seen: Floats, lines: Floats
) -> npt.NDArray[np.uint8]:
    """Mix in float: colour by ``shares`` where ``seen``, dim gray elsewhere, white by ``lines`` on top."""
    picture = pixels.astype(np.float32)
    mixed = picture + (colours - picture) * shares[..., None]
    if seen.min() < 1:
        unseen = (picture @ LUMA)[..., None] * np.float32(UNSEEN_BRIGHTNESS)
        mixed = unseen + (mixed - unseen) * seen[..., None]
    if lines.any():
        mixed += (255 - mixed) * (LINE_ALPHA * lines)[..., None]
    rounded: npt.NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return rounded


def _line_thickness(picture: Image.Image) -> float:
    return max(0.5, max(picture.size) / 512)


def as_rgb(picture: Image.Image) -> Image.Image:
    """Return an RGB or gray picture as RGB. Raises UsageError for any other mode."""
    if picture.mode not in ("RGB", "L"):  # others lose transparency or depth on the way, which is no job here
        raise UsageError(f"picture has mode {picture.mode!r}; expected RGB. Convert it before it is drawn on")
    return picture.convert("RGB")


def _box(picture: Image.Image, geometry: CropGeometry | None) -> Box:
    """Return the seen part (top, left, bottom, right) in this picture's pixels.

    The picture may be the original shrunk or enlarged as a whole; the box follows.
    """
    if geometry is None:
        return 0.0, 0.0, float(picture.height), float(picture.width)
    height, width = geometry.original
    down, across = picture.height / height, picture.width / width
    if abs(height * across - picture.height) > 1 and abs(width * down - picture.width) > 1:
        raise UsageError(
            f"picture is {picture.height}x{picture.width} (height x width), but its geometry is of one of "
            f"{height}x{width}; pass the picture that the model's input was cut from, turned as its EXIF says"
        )
    top, left, bottom, right = geometry.box
    if not (bottom > top and right > left):
        raise UsageError(f"crop box {geometry.box} is empty; expected (top, left, bottom, right)")
    return top * down, left * across, bottom * down, right * across


def _spans(box: Box, shape: tuple[int, ...]) -> Spans:
    top, left, bottom, right = box
    return Span(top, bottom, shape[0]), Span(left, right, shape[1])


def _seen(span: Span, length: int, margin: float) -> Floats:
    """Return the share of each pixel along one axis that the model saw, or lies within a margin of it."""
    return coverage(span.start - margin, span.stop + margin, range(length))


def _borders(span: Span, length: int, thickness: float) -> Floats:
    """Return each pixel's share in the lines between cells and around them, along one axis."""
    if 1 / span.density < SMALLEST_BORDERED_CELL:
        return np.zeros(length, np.float32)
    edges = np.linspace(span.start, span.stop, span.cells + 1)
    lines = [coverage(edge - thickness / 2, edge + thickness / 2, range(length)) for edge in edges]
    return np.minimum(np.sum(lines, axis=0, dtype=np.float32), 1.0).astype(np.float32)


def _iso_lines(values: Floats, spans: Spans, levels: Sequence[float]) -> list[list[npt.NDArray[np.float64]]]:
    """Trace each level's lines [points, (x, y)] in picture pixels, out to the edge of the seen part."""
    from contourpy import contour_generator

    y, x = (_centres_and_edges(span) for span in spans)
    generator = contour_generator(x, y, np.pad(values, 1, mode="edge"))
    return [[np.asarray(line, np.float64) for line in generator.lines(level)] for level in levels]


def _centres_and_edges(span: Span) -> npt.NDArray[np.float64]:
    places = np.concatenate([[0.0], np.arange(span.cells) + 0.5, [span.cells]])
    return span.start + places / span.density


def _stroke(
    picture: Image.Image,
    lines: Sequence[Sequence[npt.NDArray[np.float64]]],
    colours: Sequence[npt.NDArray[np.float64]],
) -> Image.Image:
    """Draw each level's lines antialiased, with a dark casing that keeps them visible on any ground."""
    from matplotlib.backends import backend_agg
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    make_renderer: Any = backend_agg.RendererAgg  # matplotlib leaves its Agg backend without types
    renderer = make_renderer(picture.width, picture.height, 72)
    upright = Affine2D().scale(1, -1).translate(0, picture.height)  # Agg counts rows from the bottom
    width = max(1.0, max(picture.size) / 200)
    for paths, colour in zip(lines, colours, strict=True):
        for extra, ink in ((width * 0.7, (0.0, 0.0, 0.0, 0.6)), (0.0, tuple(colour))):
            pen = renderer.new_gc()
            pen.set_linewidth(width + extra)
            pen.set_foreground(ink)
            pen.set_joinstyle("round")
            pen.set_snap(False)
            for path in paths:
                renderer.draw_path(pen, Path(path), upright)
    drawn = Image.fromarray(np.asarray(renderer.buffer_rgba()))
    return Image.alpha_composite(picture.convert("RGBA"), drawn).convert("RGB")
