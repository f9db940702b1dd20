"""Methods that need one backward pass to the layer: channel weights from activations and gradients.

Every map here is ``sum_k w_k A_k``; the methods differ in the weights alone. So each function below gives
the weights [B, C, *grid] (or [B, C, 1...] where a channel has one weight), and ``weighted_sum`` turns it
into the method. The weights stay reachable (``gradcam.weights``), which is what ``FirstComponent`` needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from whycam.errors import MethodError
from whycam.types import Activations, Gradients, Images, Map, Weights


@dataclass(frozen=True)
class WeightedSum:
    """A method of the form ``sum_k w_k A_k``: call it for the map, ``weights`` for the weights alone."""

    weights: Callable[[Activations, Gradients], Weights]

    def __call__(self, activations: Activations, gradients: Gradients) -> Map:
        """Sum the channels: the map is ``sum_k w_k A_k``, [B, *grid], in the activations' dtype."""
        return sum_channels(self.weights(activations, gradients), activations)


def sum_channels(weights: Weights, activations: Activations) -> Map:
    """Return ``sum_k w_k A_k`` [B, *grid] without building the product where a channel has one weight."""
    if weights.shape[2:].numel() == 1:
        return torch.einsum("bc,bc...->b...", weights.flatten(1), activations)
    return torch.einsum("bc...,bc...->b...", weights, activations)


def _over_grid(activations: Activations) -> tuple[int, ...]:
    return tuple(range(2, activations.ndim))


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Divide, giving 0 where the denominator is 0. No epsilon: it would swamp small gradients."""
    nonzero = denominator != 0
    return torch.where(nonzero, numerator / torch.where(nonzero, denominator, 1), 0)


def _gradcam(activations: Activations, gradients: Gradients) -> Weights:
    """Weight a channel by its mean gradient: ``w_k = S[g_k] / Z``, Z the number of positions.

    The map is signed; the paper keeps its positive part, as the pictures do. Costs one backward from the
    score to the layer. Source: Selvaraju 2017, eq. 1-2.
    """
    return gradients.mean(_over_grid(activations), keepdim=True)


def _plus_plus(activations: Activations, first: Gradients, third_by_second: Gradients) -> Weights:
    """Return eq. 19's weights, with ``alpha`` divided through by the second derivative.

    ``D2 / (2 D2 + S[A] D3)`` is ``1 / (2 + S[A] D3 / D2)``: so no power of a gradient of 1e-8 leaves
    float32's range. Where D2 is 0, so is the first derivative, and alpha does not matter.
    """
    grid = _over_grid(activations)
    alpha = _ratio(torch.ones_like(first), 2 + activations.sum(grid, keepdim=True) * third_by_second)
    return (alpha * first.relu()).sum(grid, keepdim=True)


def _gradcam_plus_plus(activations: Activations, gradients: Gradients) -> Weights:
    """Weight a channel by ``w_k = S[alpha_k relu(g_k)]``, ``alpha_k = g_k^2 / (2 g_k^2 + S[A_k] g_k^3)``.

    Only positive gradients count; the aim is that several objects of a class all show. The second and third
    derivatives are the gradient's powers, as they are of the exponential of a score that is piecewise linear.
    The map is signed where the activations are. Costs one backward to the layer. Source: Chattopadhay 2018,
    eq. 19.
    """
    return _plus_plus(activations, gradients, gradients)


def _xgradcam(activations: Activations, gradients: Gradients) -> Weights:
    """Weight a channel by its share of the score: ``w_k = S[A_k g_k] / S[A_k]``, 0 where S[A_k] is 0.

    It is Grad-CAM with each position's gradient counted as much as the channel is active there. The map is
    signed. Costs one backward to the layer. Source: Fu 2020, eq. 8.
    """
    grid = _over_grid(activations)
    return _ratio((activations * gradients).sum(grid, keepdim=True), activations.sum(grid, keepdim=True))


def _hirescam(activations: Activations, gradients: Gradients) -> Weights:
    """Weight every position by its own gradient: ``w_k = g_k``, [B, C, *grid].

    Where all that follows the layer is linear, the map's sum is the score less its bias. The map is signed.
    Costs one backward to the layer. Source: Draelos 2020, eq. 4.
    """
    return gradients


def _gradcam_elementwise(activations: Activations, gradients: Gradients) -> Weights:
    """Keep only products above 0: ``w_k = g_k`` where ``g_k A_k > 0``, else 0, [B, C, *grid].

    So the map is ``sum_k relu(g_k A_k)``, at least 0: what speaks against the score is left out before the
    channels are summed. Costs one backward to the layer. Source: none; known from practice.
    """
    return gradients * (gradients * activations > 0)


def _layercam(activations: Activations, gradients: Gradients) -> Weights:
    """Weight every position by its positive gradient: ``w_k = relu(g_k)``, [B, C, *grid].

    It keeps its detail on shallow layers, where a channel's mean gradient says little; the paper fuses such
    layers by their maximum. The map is signed where the activations are. Costs one backward to the layer.
    Source: Jiang 2021, eq. 5-6.
    """
    return gradients.relu()


def shapleycam(activations: Activations, gradients: Gradients, hessian_product: Gradients) -> Map:
    """Weight a channel by the mean of ``g - H A / 2``, H the score's second derivatives at the layer.

    The second-order expansion of what the features are worth, each added to or taken from the others; equal
    to ``gradcam`` where the score is piecewise linear in the layer, as after ReLUs alone. Returns [B, *grid],
    signed. Costs two backwards to the layer more. Source: Cai 2025.
    """
    return sum_channels(_gradcam(activations, gradients - hessian_product / 2), activations)


gradcam = WeightedSum(_gradcam)
gradcam_plus_plus = WeightedSum(_gradcam_plus_plus)
xgradcam = WeightedSum(_xgradcam)
hirescam = WeightedSum(_hirescam)
gradcam_elementwise = WeightedSum(_gradcam_elementwise)
layercam = WeightedSum(_layercam)


def add_noise(images: Images, sigma: float, generator: torch.Generator) -> Images:
    """Add Gaussian noise whose standard deviation is ``sigma`` times each image's range of values.

    It is drawn once for all images, so that an image's map does not depend on its neighbours.
    """
    noise = torch.randn(images.shape[1:], generator=generator, device=images.device, dtype=torch.float32)
    return images + (sigma * value_range(images) * noise).to(images.dtype)


def value_range(images: Images) -> torch.Tensor:
    """Return each image's largest value less its smallest: [B, 1, *1]."""
    inner = tuple(range(1, images.ndim))
    return images.amax(inner, keepdim=True) - images.amin(inner, keepdim=True)


def smooth_gradcam_plus_plus(
    images: Images,
    activations: Activations,
    gradients_of: Callable[[Images], Gradients],
    *,
    samples: int = 16,
    sigma: float = 0.15,
    seed: int = 0,
) -> Map:
    """Take Grad-CAM++'s derivatives as means over ``samples`` noisy copies of the image.

    The weights are Grad-CAM++'s with the means of ``g``, ``g^2`` and ``g^3`` for the three derivatives.
    Noise is Gaussian; ``sigma`` is its standard deviation as a share of each image's range of values, and
    ``seed`` draws it. The activations are the clean image's. Returns [B, *grid], signed where they are.
    Costs ``samples`` times Grad-CAM; one copy's gradients are held at a time. Source: Omeiza 2019, eq. 5-9.
    """
    if samples < 1:
        raise MethodError(f"samples is {samples}; at least 1 noisy copy is needed")
    generator = torch.Generator(images.device).manual_seed(seed)
    scale = torch.zeros_like(activations)  # each cell's largest gradient so far: cubes stay in range
    sums = [scale, scale, scale]
    for _ in range(samples):
        gradients = gradients_of(add_noise(images, sigma, generator))
        larger = torch.maximum(scale, gradients.abs())
        shrink, unit = _ratio(scale, larger), _ratio(gradients, larger)
        sums = [total * shrink**power + unit**power for power, total in enumerate(sums, start=1)]
        scale = larger
    weights = _plus_plus(activations, sums[0] * scale / samples, _ratio(sums[2], sums[1]) * scale)
    return sum_channels(weights, activations)
