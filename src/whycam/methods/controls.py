"""Maps that know nothing of the model. A method that does not beat them has shown nothing."""

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from whycam.types import Activations, Images, Map

Keys: TypeAlias = Int64[Tensor, "batch"]
"""What an image's noise is drawn by, a whole number each."""
_Words: TypeAlias = Int64[Tensor, "*words"]

# Steele 2014's SplitMix64, as the signed numbers that torch has.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIXES = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1))
_BITS = 24  # as many as float32 holds without rounding, so that 1 is never reached


def random_map(images: Images, activations: Activations, *, seed: int = 0) -> Map:
    """Draw each cell of the layer's grid uniformly, from 0 to below 1, by the image's own pixels.

    The same image and ``seed``, the same map: in any batch, on any device. Returns [B, *grid]. A method whose
    maps do no better than this has shown nothing.
    """
    return uniform(fingerprints(images), activations.shape[2:], seed=seed).to(activations)


def uniform(keys: Keys, size: Sequence[int], *, seed: int = 0) -> Map:
    """Draw float32 [B, *size] uniformly, from 0 to below 1, each value by its key, its place and the seed.

    No generator's state, no batch and no device has a part in it. Source: Steele 2014 (SplitMix64).
    """
    starts = _mixed(_mixed(torch.full_like(keys, seed) + _STEP) ^ keys)
    places = torch.arange(1, prod(size) + 1, device=keys.device)
    words = _mixed(starts.unsqueeze(1) + _STEP * places)
    fractions = _unsigned_shift(words, 64 - _BITS).float() * 2.0**-_BITS
    return fractions.view(len(keys), *size)


def fingerprints(images: Images) -> Keys:
    """Return a number for each image's pixels, as float32, whatever else is in the batch."""
    pixels = images.detach().flatten(1).float() + 0.0  # minus zero is zero
    words = pixels.view(torch.int32).long()
    weights = _mixed(_STEP * torch.arange(1, words.shape[1] + 1, device=words.device)) | 1
    return _mixed((words * weights).sum(1))  # sums of whole numbers are exact in any order


def _mixed(words: _Words) -> _Words:
    """Change every bit with every other."""
    for by, factor in _MIXES:
        words = (words ^ _unsigned_shift(words, by)) * factor
    return words


def _unsigned_shift(words: _Words, by: int) -> _Words:
    """Shift as if the words had no sign, which torch takes along."""
    return (words >> by).bitwise_and(2 ** (64 - by) - 1)


def centre(activations: Activations) -> Map:
    """Show a Gaussian at the middle: ``exp(-2 r^2)``, where each axis spans -1 to 1.

    Returns [B, *grid], between 0 and 1. Photographs often have their object in the middle: a method
    that only paints there looks right by that alone.
    """
    batch, _, *grid = activations.shape
    squared = activations.new_zeros(grid)
    for axis, cells in enumerate(grid):
        steps = (2 * torch.arange(cells, device=activations.device, dtype=activations.dtype) + 1) / cells - 1
        squared = squared + steps.square().view([-1 if axis == other else 1 for other in range(len(grid))])
    return torch.exp(-2 * squared).expand(batch, *grid).clone()


def edges(images: Images) -> Map:
    """Show the gradient magnitude of the image's channel mean. Returns [B, *size] >= 0.

    Sobel's filter in two dimensions, central differences in one or three; borders are replicated. It knows
    nothing of the model: a method that looks like this may show the image and not what was learned.
    """
    signal = images.mean(1)
    axes = range(1, signal.ndim)
    return torch.stack([_derivative(signal, axis).square() for axis in axes]).sum(0).sqrt()


def _derivative(signal: torch.Tensor, axis: int) -> torch.Tensor:
    if signal.ndim != 3:
        return _shifted(signal, axis, 1).sub(_shifted(signal, axis, -1)) / 2
    across = 3 - axis
    smooth = _shifted(signal, across, 1) + 2 * signal + _shifted(signal, across, -1)
    return _shifted(smooth, axis, 1) - _shifted(smooth, axis, -1)


def _shifted(signal: torch.Tensor, axis: int, by: int) -> torch.Tensor:
    """Return the neighbour ``by`` cells further along ``axis``; the border is its own neighbour."""
    cells = signal.shape[axis]
    index = (torch.arange(cells, device=signal.device) + by).clamp(0, cells - 1)
    return signal.index_select(axis, index)
