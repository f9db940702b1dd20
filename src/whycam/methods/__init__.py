"""Pure tensor maths: activations, gradients and images in, maps out. ``METHODS`` is the one registry.

What a method needs is read from its parameters' names, which are those of ``NEEDS``. Further parameters
must have defaults. So any function that uses these names is a method.
"""

from whycam.methods import (
    activation,
    attention,
    controls,
    extremal,
    gradient,
    layered,
    masking,
    perturbation,
    pixel,
)
from whycam.methods.fusion import fuse
from whycam.methods.needs import NEEDS, ScoresOf, Slope, SlopesOf, Stage, SumOfParts, Tokens
from whycam.methods.registry import METHODS, Method, find_method
from whycam.methods.smoothing import (
    Averaging,
    FirstComponent,
    FlipAverage,
    NoiseAverage,
    ScaleAverage,
    Smoothing,
)

__all__ = [
    "METHODS",
    "NEEDS",
    "Averaging",
    "FirstComponent",
    "FlipAverage",
    "Method",
    "NoiseAverage",
    "ScaleAverage",
    "ScoresOf",
    "Slope",
    "SlopesOf",
    "Smoothing",
    "Stage",
    "SumOfParts",
    "Tokens",
    "activation",
    "attention",
    "controls",
    "extremal",
    "find_method",
    "fuse",
    "gradient",
    "layered",
    "masking",
    "perturbation",
    "pixel",
]
