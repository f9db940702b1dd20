"""whycam shows why an image model decided what it decided.

Names are loaded when they are first used, so that ``import whycam`` and ``whycam --help`` don't wait for
PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whycam.decomposition import Completeness, Concepts, completeness, concepts
    from whycam.engine import LayerChoice
    from whycam.errors import (
        AbsentError,
        EngineError,
        ImageError,
        LayerError,
        MethodError,
        MissingExtraError,
        ModelError,
        RunError,
        TargetError,
        UsageError,
        WeightsError,
        WhycamError,
    )
    from whycam.explainer import choose_layer, explain, explain_methods, explain_targets
    from whycam.explanation import Explanation
    from whycam.methods import METHODS, FirstComponent, FlipAverage, Method, NoiseAverage, ScaleAverage
    from whycam.models import LoadedModel, Preprocessing, Provenance, load
    from whycam.store import read_run
    from whycam.targets import (
        Binary,
        BoxCoordinate,
        BoxScore,
        ClassIndex,
        Contrast,
        Finer,
        Probability,
        Rank,
        SegmentationClass,
        Similarity,
        TopClass,
        Value,
    )

    __version__: str

_HOMES = {
    "whycam.models": ("LoadedModel", "Preprocessing", "Provenance", "load"),
    "whycam.decomposition": ("Completeness", "Concepts", "completeness", "concepts"),
    "whycam.explainer": ("choose_layer", "explain", "explain_methods", "explain_targets"),
    "whycam.explanation": ("Explanation",),
    "whycam.engine": ("LayerChoice",),
    "whycam.methods": ("METHODS", "FirstComponent", "FlipAverage", "Method", "NoiseAverage", "ScaleAverage"),
    "whycam.targets": (
        "Binary",
        "BoxCoordinate",
        "BoxScore",
        "ClassIndex",
        "Contrast",
        "Finer",
        "Probability",
        "Rank",
        "SegmentationClass",
        "Similarity",
        "TopClass",
        "Value",
    ),
    "whycam.store": ("read_run",),
    "whycam.errors": (
        "AbsentError",
        "EngineError",
        "ImageError",
        "LayerError",
        "MethodError",
        "MissingExtraError",
        "ModelError",
        "RunError",
        "TargetError",
        "UsageError",
        "WeightsError",
        "WhycamError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "METHODS",
    "AbsentError",
    "Binary",
    "BoxCoordinate",
    "BoxScore",
    "ClassIndex",
    "Completeness",
    "Concepts",
    "Contrast",
    "EngineError",
    "Explanation",
    "Finer",
    "FirstComponent",
    "FlipAverage",
    "ImageError",
    "LayerChoice",
    "LayerError",
    "LoadedModel",
    "Method",
    "MethodError",
    "MissingExtraError",
    "ModelError",
    "NoiseAverage",
    "Preprocessing",
    "Probability",
    "Provenance",
    "Rank",
    "RunError",
    "ScaleAverage",
    "SegmentationClass",
    "Similarity",
    "TargetError",
    "TopClass",
    "UsageError",
    "Value",
    "WeightsError",
    "WhycamError",
    "__version__",
    "choose_layer",
    "completeness",
    "concepts",
    "explain",
    "explain_methods",
    "explain_targets",
    "load",
    "read_run",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("whycam")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'whycam' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
