"""Maps that know nothing of the model. A method that does not beat them has shown nothing."""

import torch

from whycam.types import Activations, Images, Map


def random_map(activations: Activations, *, seed: int = 0) -> Map:
    """Draw each cell uniformly between 0 and 1. The same ``seed``, the same map.

    Returns [B, *grid]. A method whose maps do no better than this has shown nothing.
    """
    generator = torch.Generator(activations.device).manual_seed(seed)
    shape = (activations.shape[0], *activations.shape[2:])
    return torch.rand(shape, generator=generator, device=activations.device, dtype=activations.dtype)


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
