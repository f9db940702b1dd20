"""How a figure is wanted: its style, its size, and what is on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from whycam.errors import UsageError
from whycam.render import ConstantOpacity, MagnitudeOpacity, Normalisation, Opacity, colorise

Arrangement: TypeAlias = Literal["methods", "checkpoints", "classes"]
"""What the columns beside the image are."""

GroundTone: TypeAlias = Literal["colour", "dim gray"]
"""How the picture under a map is shown."""

NARROWEST, WIDEST = 3.0, 20.0
LEAST_DPI, MOST_DPI = 300, 1200


@dataclass(frozen=True, kw_only=True)
class FigureStyle:
    """A figure's look: ``contours`` are heatmap values whose lines are drawn, ``contour_ink`` their colour.

    Without a ``contour_ink`` each line has its level's colour in the colormap. ``casing`` is drawn on both
    sides of a line, so that it is seen on any ground.
    """

    summary: str
    page: str = "#ffffff"
    ink: str = "#111111"
    faint: str = "#555555"
    alarm: str = "#a11300"
    blank: str = "#ececec"
    colormap: str = "inferno"
    opacity: Opacity = field(default_factory=MagnitudeOpacity)
    tone: GroundTone = "colour"
    contours: tuple[float, ...] = (0.5,)
    contour_ink: str | None = "#ffffff"
    casing: str = "#000000a6"

    @property
    def lines_only(self) -> bool:
        """Whether no map is laid over the image in colour."""
        return self.opacity == ConstantOpacity(0.0)


STYLES: Mapping[str, FigureStyle] = MappingProxyType(
    {
        "paper": FigureStyle(summary="white page, maps in colour over the image, a line at half the maximum"),
        "dark": FigureStyle(
            summary="the same on a dark page, for slides",
            page="#14161a",
            ink="#f2f2f2",
            faint="#b4b8bf",
            alarm="#ff9b85",
            blank="#2b2e34",
        ),
        "contour-only": FigureStyle(
            summary="lines at 0.5 and 0.8 of the maximum on the image itself",
            opacity=ConstantOpacity(0.0),
            contours=(0.5, 0.8),
            contour_ink=None,
            casing="#ffffff",
        ),
        "print-gray": FigureStyle(
            summary="no colour: the image dimmed, evidence bright",
            alarm="#000000",
            colormap="gray",
            opacity=MagnitudeOpacity(0.9),
            tone="dim gray",
        ),
    }
)
"""The styles that are offered."""


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """What a figure shows and how large it is.

    ``width`` is in inches (3.5 for a column, 7 for a page), ``dpi`` the resolution of what is not vector.
    ``images`` are ids in the order of the rows; without them the first ``rows`` images are shown, the last
    of them a wrong prediction where there is one. ``columns`` is found from the runs where it is None.
    ``methods`` are those to show, all without it; ``names`` are the columns' headings instead of those that
    the runs give. ``normalise`` is "image" (each map by its own maximum) or "shared" (all maps of a column
    by one). ``colormap`` and ``contours`` take the place of the style's; ``()`` draws no lines.

    Raises UsageError for values that make no sense.
    """

    style: str = "paper"
    width: float = 7.0
    dpi: int = 300
    rows: int = 6
    images: tuple[str, ...] = ()
    columns: Arrangement | None = None
    methods: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    normalise: Normalisation = "image"
    colormap: str | None = None
    contours: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense before any file is read."""
        if self.style not in STYLES:
            raise UsageError(f"figure style {self.style!r} is unknown; pick one of {', '.join(STYLES)}")
        if not NARROWEST <= self.width <= WIDEST:
            raise UsageError(
                f"the figure is to be {self.width:g} inches wide; expected {NARROWEST:g} to {WIDEST:g}; "
                "journals take 3.5 (a column) or 7 (a page)"
            )
        if not LEAST_DPI <= self.dpi <= MOST_DPI:
            raise UsageError(f"the resolution is {self.dpi} dpi; expected {LEAST_DPI} to {MOST_DPI}")
        if self.look.lines_only and not self.levels:
            raise UsageError(
                f"style {self.style!r} shows lines alone, and no contour level is given; give one"
            )
        if self.rows < 1:
            raise UsageError(f"{self.rows} rows are asked for; expected at least 1")
        if not all(low < high for low, high in zip((0.0, *self.levels), (*self.levels, 1.0), strict=True)):
            raise UsageError(f"contour levels are {self.levels}; expected rising numbers between 0 and 1")
        colorise(np.zeros((1, 1), np.float32), self.colours)

    @property
    def look(self) -> FigureStyle:
        """The style itself."""
        return STYLES[self.style]

    @property
    def colours(self) -> str:
        """The colormap's name."""
        return self.colormap or self.look.colormap

    @property
    def levels(self) -> tuple[float, ...]:
        """The heatmap values whose lines are drawn."""
        return self.look.contours if self.contours is None else self.contours
