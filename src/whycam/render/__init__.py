"""Maps -> pictures. Matplotlib is imported only when something is drawn."""

from whycam.render.cautions import with_caution
from whycam.render.colormaps import COLORMAPS, DEFAULT_COLORMAP, colorise
from whycam.render.heatmaps import Normalisation, normalise, rectify, resize, to_heatmaps
from whycam.render.overlays import (
    ConstantOpacity,
    MagnitudeOpacity,
    Opacity,
    contour,
    heatmap_picture,
    iso_lines,
    native_grid,
    overlay,
)
from whycam.render.pictures import picture_of
from whycam.render.sheet import SheetRow, sheet
from whycam.render.text import MissingGlyphWarning, draw_text, font_for, printable

__all__ = [
    "COLORMAPS",
    "DEFAULT_COLORMAP",
    "ConstantOpacity",
    "MagnitudeOpacity",
    "MissingGlyphWarning",
    "Normalisation",
    "Opacity",
    "SheetRow",
    "colorise",
    "contour",
    "draw_text",
    "font_for",
    "heatmap_picture",
    "iso_lines",
    "native_grid",
    "normalise",
    "overlay",
    "picture_of",
    "printable",
    "rectify",
    "resize",
    "sheet",
    "to_heatmaps",
    "with_caution",
]
