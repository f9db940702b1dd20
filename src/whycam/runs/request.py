"""What a run is asked to do, and what it says at its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from whycam.errors import UsageError
from whycam.methods import Smoothing, find_method
from whycam.models import LoadedModel
from whycam.render import DEFAULT_COLORMAP, MagnitudeOpacity, Opacity, colorise
from whycam.store import LayerRecord
from whycam.targets import Target, TopClass

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of images that are finished and the number planned."""

Existing: TypeAlias = Literal["refuse", "resume"]
"""What to do with a run that is in the folder already."""


@dataclass(frozen=True, kw_only=True)
class PictureStyle:
    """How a run's overlays are drawn. Raises UsageError for an unknown colormap."""

    colormap: str = DEFAULT_COLORMAP
    opacity: Opacity = field(default_factory=MagnitudeOpacity)

    def __post_init__(self) -> None:
        """Refuse an unknown colormap before hours of work rather than after them."""
        colorise(np.zeros((1, 1), np.float32), self.colormap)

    def describe(self) -> dict[str, str]:
        """Say the colormap and the opacity, as a manifest keeps them."""
        return {"colormap": self.colormap, "opacity": self.opacity.describe()}


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run: which model explains which images how, and where it is written.

    ``sources`` are as `whycam.data.find_images` takes them. ``layers`` are paths from shallow to deep, the
    one word "stages", or none for what is chosen by tracing. ``batch_size`` images are explained together; a
    picture of more than ``max_pixels`` is not opened. ``command`` is what the user typed, and ``recipe`` what
    of it opens the model and the target again, as plain values. Raises UsageError or MethodError for values
    that make no sense.
    """

    model: LoadedModel
    sources: tuple[str | Path, ...]
    folder: Path
    methods: tuple[str, ...] = ("gradcam",)
    target: Target = field(default_factory=TopClass)
    layers: tuple[str, ...] = ()
    smoothing: Smoothing | None = None
    batch_size: int = 16
    max_pixels: int = 100_000_000
    style: PictureStyle = field(default_factory=PictureStyle)
    command: tuple[str, ...] = ("run_explain",)
    recipe: Mapping[str, object] = field(default_factory=dict)
    existing: Existing = "refuse"

    def __post_init__(self) -> None:
        """Refuse what makes no sense, and take each method once."""
        for name, number in (("batch size", self.batch_size), ("number of pixels", self.max_pixels)):
            if number < 1:
                raise UsageError(f"the {name} is {number}; expected at least 1")
        if not self.methods:
            raise UsageError("there is no method; give at least one, such as gradcam")
        self.model.check_takes_pictures()
        names = dict.fromkeys(find_method(method).name for method in self.methods)
        object.__setattr__(self, "methods", tuple(names))


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What became of a run, its earlier parts included where it was resumed.

    ``images`` were planned and looked at, ``failed`` of them have an error; ``failures`` are the first few,
    as (id, error). ``reused`` were finished by an earlier call. ``blank`` counts maps that are all zero;
    ``diagnoses`` are the reasons why a picture of this call shows nothing, with how many they are.
    ``warnings`` tell of what was done differently from what was asked.
    """

    folder: Path
    images: int
    failed: int
    reused: int
    blank: int
    methods: tuple[str, ...]
    target: str
    layer: LayerRecord
    sheet: Path | None
    failures: tuple[tuple[str, str], ...] = ()
    diagnoses: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """The number of images without an error."""
        return self.images - self.failed
