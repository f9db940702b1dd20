"""Pure tensor maths: activations, gradients and images in, maps out. ``METHODS`` is the one registry.

What a method needs is read from its parameters' names: ``activations``, ``gradients``, ``images``,
``class_weights`` (a GAP head's weights of the class) and ``gradients_of`` (images -> gradients at the
layer). Further parameters must have defaults. So any function that uses these names is a method.
"""

from whycam.methods import activation, controls, gradient
from whycam.methods.fusion import fuse
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
    "Averaging",
    "FirstComponent",
    "FlipAverage",
    "Method",
    "NoiseAverage",
    "ScaleAverage",
    "Smoothing",
    "activation",
    "controls",
    "find_method",
    "fuse",
    "gradient",
]
