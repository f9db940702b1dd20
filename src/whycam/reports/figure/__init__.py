"""The paper's figure: images beside what the methods, the checkpoints or the classes say of them."""

from whycam.reports.figure.making import FigurePanel, FigureResult, ShownImage, write_figure
from whycam.reports.figure.options import STYLES, Arrangement, FigureOptions, FigureStyle

__all__ = [
    "STYLES",
    "Arrangement",
    "FigureOptions",
    "FigurePanel",
    "FigureResult",
    "FigureStyle",
    "ShownImage",
    "write_figure",
]
