"""Methods that mask the image with the layer's own channels and ask what is left of the score.

A channel's mask is its activation, resized to the image and then scaled to [0, 1]; a constant channel's is 0.
Every map is ``sum_k w_k A_k``, [B, *grid]; the methods differ in how the weights are found.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.fusion import to_grid
from whycam.methods.gradient import sum_channels
from whycam.methods.needs import ScoresOf, SlopesOf
from whycam.types import Activations, Gradients, Images, Map, Rows

Masks = Float[Tensor, "n *size"]
Channels = Bool[Tensor, "batch channels"]
Choice = Literal["spread", "gradient"]
Masked = Callable[[Masks, Rows, Rows], Images]
"""Takes masks, the images that they are of and the numbers of their samples; gives changed images."""


def scorecam(
    images: Images,
    activations: Activations,
    scores_of: ScoresOf,
    gradients_of: Callable[[Images], Gradients],
    *,
    channels: int | None = None,
    by: Choice = "spread",
    baseline: float = 0.0,
) -> Map:
    """Weight channels by ``softmax_k(y(b + H_k (x - b)) - y(b))``, H_k the channel's mask, b the baseline.

    x is the image. A channel's mask is its activation, resized to the image and then scaled to between 0 and
    1; a constant channel's is 0. The map is ``sum_k w_k A_k``: [B, *grid], signed where the activations are.
    ``baseline`` is a pixel value after preprocessing; the softmax runs over the channels' scores as the
    target gives them, which for a class is before the model's own softmax. ``channels`` keeps only so many,
    ``by`` "spread" those with the largest standard deviation over the grid, by "gradient" those with the
    largest magnitude of the mean gradient, Grad-CAM's weight, for one F + s-backward more. Constant channels
    share one forward. Costs a forward a channel. Source: Wang 2020, algorithm 1.
    """

    def masked(masks: Masks, rows: Rows, samples: Rows) -> Images:
        return _fade(images[rows], masks, baseline)

    if by not in get_args(Choice):
        raise MethodError(f"by is {by!r}; channels are chosen by 'spread' or by 'gradient'")
    if channels is None or by == "spread":
        kept = _largest(activations.flatten(2).std(2, correction=0), channels)
        name: str | None = f"scorecam {channels} {baseline}"
    else:
        kept = _largest(gradients_of(images).flatten(2).mean(2).abs(), channels)
        name = None  # a gradient is the target's own
    return _by_scores(activations, kept, images.shape[2:], scores_of, masked, 1, name)


def sscam(
    images: Images,
    activations: Activations,
    scores_of: ScoresOf,
    *,
    samples: int = 35,
    sigma: float = 2.0,
    seed: int = 0,
) -> Map:
    """Take Score-CAM's scores as means over noisy masks: ``softmax_k(mean_i y((H_k + noise_i) x) - y(0))``.

    ``H_k`` is the channel's mask of the image x, as in ``scorecam``, and the map ``sum_k w_k A_k``. Of each
    channel there are ``samples`` masks. Noise is Gaussian with the standard deviation ``sigma``, a value a
    pixel drawn from ``seed``, and the mask is not clipped after it. The paper leaves open whether channels
    share their noise; here all do, and all images, so that channels differ by their masks alone. Returns [B,
    *grid], signed where the activations are. Costs ``samples`` forwards a channel. Source: Wang 2020
    (SS-CAM), the variant that smooths the activation maps.
    """
    _check_count("samples", samples)
    generator = torch.Generator(images.device).manual_seed(seed)
    shape = (samples, *images.shape[2:])
    noise = sigma * torch.randn(shape, generator=generator, device=images.device)

    def masked(masks: Masks, rows: Rows, which: Rows) -> Images:
        return _fade(images[rows], masks + noise[which], 0.0)

    kept = _every(activations)
    name = f"sscam {samples} {sigma} {seed}"
    return _by_scores(activations, kept, images.shape[2:], scores_of, masked, samples, name)


def iscam(images: Images, activations: Activations, scores_of: ScoresOf, *, steps: int = 10) -> Map:
    """Integrate Score-CAM's scores from no mask to the whole: ``softmax_k(mean_i y(i/n H_k x) - y(0))``.

    ``H_k`` is the channel's mask of the image x, as in ``scorecam``, and the map ``sum_k w_k A_k``. ``i``
    runs from 1 to n, the option ``steps``: a right Riemann sum. Returns [B, *grid], signed where the
    activations are. Costs ``steps`` forwards a channel. Source: Naidu 2020; implementations exist that add
    the fractions up, so that masks pass 1.
    """
    _check_count("steps", steps)

    def masked(masks: Masks, rows: Rows, which: Rows) -> Images:
        fraction = (which + 1).to(masks.dtype) / steps
        return _fade(images[rows], masks * _wide(fraction, masks), 0.0)

    kept = _every(activations)
    return _by_scores(activations, kept, images.shape[2:], scores_of, masked, steps, f"iscam {steps}")


def opticam(
    images: Images,
    activations: Activations,
    slopes_of: SlopesOf,
    *,
    steps: int = 100,
    rate: float = 0.1,
) -> Map:
    """Weight channels so that the image under the mask ``n(up(sum_k softmax(u)_k A_k))`` scores highest.

    ``up`` resizes to the image, ``n`` scales to between 0 and 1. ``u``, a number a channel, starts at 0, all
    channels alike, and takes ``steps`` steps of Adam at the learning rate ``rate``; all images of the batch
    at once. The score is the target's, for a class before the model's softmax. Returns
    ``sum_k softmax(u)_k A_k``, [B, *grid], signed where the activations are. Costs ``steps`` (F + B). Source:
    Zhang 2023, eq. 10-14.
    """
    _check_count("steps", steps)
    rows = torch.arange(len(images), device=images.device)
    # A constant channel moves no mask. Adam would make a step of the rounding that its gradient is.
    varies = _varying(activations)

    def into(points: Tensor, which: Rows) -> Images:
        mixed = sum_channels(points.softmax(1), activations[which])
        return images[which] * _beside(_spanned(to_grid(mixed, images.shape[2:])), images)

    weights = activations.new_zeros(activations.shape[:2])
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(1, steps + 1):
        slopes = slopes_of(rows, lambda which: weights[which], into=into)  # noqa: B023  # used at once
        gradient = torch.cat([slope.gradients for slope in slopes]) * varies
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        size = (second / (1 - 0.999**step)).sqrt() + 1e-8
        weights = weights + rate * first / (1 - 0.9**step) / size
    return sum_channels(weights.softmax(1), activations)


def _by_scores(
    activations: Activations,
    kept: Channels,
    size: torch.Size,
    scores_of: ScoresOf,
    masked: Masked,
    samples: int,
    known_as: str | None,
) -> Map:
    """Weight the kept channels by the softmax of their masked images' mean score over the samples.

    ``y(b)``, the same for all channels, leaves the softmax as it is, and is not computed. The constant
    channels of an image have the same mask, 0, and so the same score: one of them stands for all.
    """
    varies = _varying(activations)
    constant = kept & ~varies
    representative = constant & (constant.cumsum(1) == 1)
    rows, channels = ((kept & varies) | representative).nonzero(as_tuple=True)

    def make(which: Rows) -> Images:
        at, sample = which // samples, which % samples
        row, channel = rows[at], channels[at]
        masks = _spanned(to_grid(activations[row, channel], size))
        return masked(masks * _wide(varies[row, channel], masks), row, sample)

    found = scores_of(rows.repeat_interleave(samples), make, known_as=known_as)
    scores = activations.new_full(kept.shape, -torch.inf)
    scores[rows, channels] = found.to(scores.dtype).view(-1, samples).mean(1)
    of_constant = torch.where(representative, scores, 0).sum(1, keepdim=True)
    return sum_channels(torch.where(constant, of_constant, scores).softmax(1), activations)


def _varying(activations: Activations) -> Channels:
    values = activations.flatten(2)
    return values.amax(2) > values.amin(2)


def _every(activations: Activations) -> Channels:
    return torch.ones(activations.shape[:2], dtype=torch.bool, device=activations.device)


def _largest(values: Float[Tensor, "batch channels"], count: int | None) -> Channels:
    """Mark the ``count`` channels of each image with the largest values; all where there is no count."""
    if count is None:
        return torch.ones_like(values, dtype=torch.bool)
    _check_count("channels", count)
    largest = values.topk(min(count, values.shape[1]), dim=1).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, largest, True)


def _spanned(maps: Masks) -> Masks:
    """Scale each map to [0, 1]; a constant one becomes 0."""
    axes = tuple(range(1, maps.ndim))
    lowest = maps.amin(axes, keepdim=True)
    span = maps.amax(axes, keepdim=True) - lowest
    return (maps - lowest) / torch.where(span > 0, span, 1)


def _fade(images: Images, masks: Masks, baseline: float) -> Images:
    """Return ``b + mask (x - b)`` in the images' dtype."""
    if baseline == 0:
        return images * _beside(masks, images)
    return baseline + (images - baseline) * _beside(masks, images)


def _beside(masks: Masks, images: Images) -> Tensor:
    return masks.unsqueeze(1).to(images.dtype)


def _wide(values: Tensor, masks: Masks) -> Tensor:
    return values.view(-1, *[1] * (masks.ndim - 1))


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise MethodError(f"{name} is {count}; expected at least 1")
