"""What an evaluation will cost, before it begins."""

from dataclasses import dataclass

from whycam.errors import UsageError
from whycam.evaluation.curves import TILES
from whycam.evaluation.registry import Metric
from whycam.evaluation.sanity import NOISE_DRAWS

EVIDENCE_FILL = "blur"
"""Removes the whole image where no curve does."""


@dataclass(frozen=True)
class Plan:
    """How often an image goes through the model. ``methods`` counts controls too; ``axes`` are spatial."""

    metrics: tuple[Metric, ...]
    methods: int
    steps: int = 20
    axes: int = 2

    def __post_init__(self) -> None:
        """Refuse too few steps."""
        if self.steps < 2:
            raise UsageError(f"{self.steps} steps; a curve needs at least 2")

    @property
    def fills(self) -> tuple[str, ...]:
        """The fills that the curves are measured under, each once."""
        return tuple(dict.fromkeys(fill for metric in self.metrics for fill in metric.fills))

    @property
    def evidence_fill(self) -> str:
        """The fill by which the whole image is removed, to see whether the model depends on it."""
        return (*self.fills, EVIDENCE_FILL)[0]

    @property
    def shared(self) -> int:
        """Forwards an image whatever the number of methods: clean, fully removed a fill, tiles."""
        tiles = TILES**self.axes if self._needs("tile_drops") else 0
        return 1 + max(1, len(self.fills)) + tiles

    @property
    def own(self) -> int:
        """Forwards an image and method: the steps between the ends, both orders, a fill; the faded image."""
        return 2 * (self.steps - 1) * len(self.fills) + (1 if self._needs("faded_probability") else 0)

    @property
    def explanations(self) -> int:
        """Explanations an image and method beside the first."""
        once = ("randomised_maps", "rival_maps", "shown_again")
        again = sum(1 for need in once if self._needs(need))
        return again + (NOISE_DRAWS if self._needs("noisy_maps") else 0)

    def forwards(self, images: int) -> int:
        """Return how many images go through the model for the scores; explanations come on top.

        Fewer do where a method's map is another's, whose curves are taken.
        """
        return images * (self.shared + self.methods * self.own)

    def _needs(self, need: str) -> bool:
        return any(need in metric.needs for metric in self.metrics)

    def describe(self, images: int) -> str:
        """Say the cost in a line."""
        more = f" and {self.explanations} more explanations an image and method" if self.explanations else ""
        return f"{self.forwards(images)} forwards for {images} images and {self.methods} methods{more}"
