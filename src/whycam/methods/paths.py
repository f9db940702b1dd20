"""Methods that follow the score along a path from a baseline, which shows nothing, to the image.

Along any path the gradient times the step sums to the score's rise. So a map's sum is the image's score
less the baseline's, up to the error of the quadrature. Maps are signed, [B, *size], bands summed; an image's
map is the same whatever others are explained with it.
"""

import math
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.needs import SlopesOf
from whycam.methods.pixel import gradients_at, gradients_at_copies, wide_zeros
from whycam.types import Images, Map, Rows

Baseline = float | Tensor
"""One value, or what broadcasts to one preprocessed image [bands, *size]."""


def integrated(images: Images, slopes_of: SlopesOf, *, steps: int = 50, baseline: Baseline = 0.0) -> Map:
    """Integrate the gradient along the straight line from ``baseline`` to the image, times their difference.

    Returns [B, *size], signed; its sum is y(image) - y(baseline). The integral is taken by Gauss-Legendre
    quadrature with ``steps`` points. A pixel that equals the baseline, in values after preprocessing, gets
    nothing. Costs F + B a point. Raises MethodError for a baseline that fits no image.
    Source: Sundararajan 2017, section 3.
    """
    places, weights = _quadrature(steps, images)
    start = _as_image(baseline, images)
    difference = images - start

    def between(rows: Rows, copies: Rows) -> Images:
        return (start + _per_image(places[copies], images) * difference[rows]).to(images.dtype)

    total = wide_zeros(images)
    for image, which, gradients in gradients_at_copies(images, slopes_of, steps, between):
        total[image] += (_per_image(weights[which], images) * gradients).sum(0)
    return (difference * total).sum(1)


def expected(
    images: Images,
    slopes_of: SlopesOf,
    *,
    references: Tensor | None = None,
    samples: int = 100,
    seed: int = 0,
) -> Map:
    """Average (image - reference) gradient at random places on lines from random references to the image.

    It is ``mean((x - x0) g(x0 + a (x - x0)))``, x0 a reference, a a place between 0 and 1, g the gradient
    there. Returns [B, *size], signed; its sum is, up to chance, y(image) less the references' mean score.
    ``references`` [R, bands, *size], preprocessed, are best taken from the training data, as in the paper.
    Without any, each is a plain picture in one of the image's own colours, taken from a pixel at random
    (``seed`` draws all that is random): the batch's other images would make a map depend on them. Every image
    gets the same draws; the places are one in each of ``samples`` equal parts of the line, which varies less
    than the paper's independent draws and has their mean. Raises MethodError for references that fit no
    image. Source: Erion 2021.
    """
    if samples < 1:
        raise MethodError(f"samples is {samples}; at least 1 is needed")
    generator = torch.Generator(images.device).manual_seed(seed)
    draws = torch.rand(2, samples, generator=generator, device=images.device)
    order = torch.arange(samples, device=images.device)
    places = (order + draws[0]).to(wide_zeros(images[:1]).dtype) / samples
    if references is None:
        colours = images.flatten(2)
        pixels = (draws[1] * colours.shape[2]).long().clamp(max=colours.shape[2] - 1)
    else:
        known = _fitting(references, images)
        chosen = (draws[1] * len(known)).long().clamp(max=len(known) - 1)

    def reference(rows: Rows, copies: Rows) -> Tensor:
        if references is None:
            return _per_pixel(colours[rows, :, pixels[copies]], images)
        return known[chosen[copies]]

    def between(rows: Rows, copies: Rows) -> Images:
        start = reference(rows, copies)
        return (start + _per_image(places[copies], images) * (images[rows] - start)).to(images.dtype)

    total = wide_zeros(images)
    for image, which, gradients in gradients_at_copies(images, slopes_of, samples, between):
        row = torch.full_like(order[which], image)
        total[image] += ((images[image] - reference(row, order[which])) * gradients).sum(0)
    return total.sum(1) / samples


def blurig(images: Images, slopes_of: SlopesOf, *, steps: int = 50, blur: float = 1.0) -> Map:
    """Integrate the gradient along the image's own way from fully blurred to sharp.

    The path is the image under a Gaussian of standard deviation sigma, from ``blur`` times its longest side
    down to 0: the map is the integral of -gradient x d blurred / d sigma. Returns [B, *size], signed; its sum
    is y(image) - y(blurred). The Gaussian is the discrete one (the heat equation on the pixels, borders
    mirrored), so the derivative is exact and no kernel is cut off. Places lie at
    ``sigma = blur * side * u^3`` with ``steps`` points u by Gauss-Legendre: closer where the image is nearly
    sharp and the score moves most. Source: Xu 2020.
    """
    if blur <= 0:
        raise MethodError(f"blur is {blur}; expected a share of the longest side above 0, such as 1.0")
    u, weights = _quadrature(steps, images)
    widest = blur * max(images.shape[2:])
    sigmas, lengths = widest * u**3, weights * 3 * widest * u**2
    waves = [_waves(n, wide_zeros(images[:1])) for n in images.shape[2:]]
    spectrum = _along_axes(images.to(u.dtype), [wave.T for wave, _ in waves])
    decay = _sum_of_axes([rates for _, rates in waves])

    def faded(rows: Rows, copies: Rows) -> Tensor:
        variance = _per_image(sigmas[copies].square(), images)
        return spectrum[rows] * torch.exp(-0.5 * variance * decay)

    def back(values: Tensor) -> Tensor:
        return _along_axes(values, [wave for wave, _ in waves])

    total = wide_zeros(images)
    order = torch.arange(steps, device=images.device)
    blurred = gradients_at_copies(
        images, slopes_of, steps, lambda rows, copies: back(faded(rows, copies)).to(images.dtype)
    )
    for image, which, gradients in blurred:
        row = torch.full_like(order[which], image)
        change = back(_per_image(sigmas[which], images) * decay * faded(row, order[which]))
        total[image] += (_per_image(lengths[which], images) * change * gradients).sum(0)
    return total.sum(1)


def guidedig(
    images: Images,
    slopes_of: SlopesOf,
    *,
    steps: int = 200,
    fraction: float = 0.25,
    distance: float = 0.02,
    baseline: Baseline = 0.0,
) -> Map:
    """Integrate the gradient along a path that moves the pixels with the smallest gradients first.

    Each of ``steps`` steps brings the image nearer by the same L1 distance: the ``fraction`` of values with
    the smallest |gradient| goes first, then the next, the last of them as far as is left. No value is more
    than ``distance`` (a share of the whole line) ahead of or behind the straight path, which keeps the path
    near it as the paper's anchors do. The line starts at ``baseline``, a value after preprocessing. A step's
    gradient is the mean of those before and after it. Returns [B, *size], signed; its sum nears y(image) -
    y(baseline) as steps grow. The steps follow one another: only different images go through the model
    together. Source: Kapishnikov 2021.
    """
    if steps < 1 or not 0 < fraction <= 1 or distance < 0:
        raise MethodError(
            f"steps={steps}, fraction={fraction}, distance={distance}: expected steps of 1 or more, "
            "a fraction above 0 and up to 1, and a distance of 0 or more"
        )
    start = _as_image(baseline, images).expand_as(images).flatten(1)
    line = images.flatten(1) - start
    at, total = start.clone(), torch.zeros_like(start)
    before = total  # the step that led here
    for step in range(1, steps + 2):
        gradients = gradients_at(at.view_as(images).to(images.dtype), slopes_of).flatten(1)
        new = _step(at, gradients, start, line, min(step / steps, 1.0), fraction, distance)
        total += gradients * (before + new - at) / 2
        at, before = new, new - at
    return total.view_as(images).sum(1)


def _step(
    at: Tensor,
    gradients: Tensor,
    start: Tensor,
    line: Tensor,
    share: float,
    fraction: float,
    distance: float,
) -> Tensor:
    """Return the values [B, N] after the step to ``share`` of the L1 distance of their whole line."""
    behind, ahead = (start + max(0.0, min(1.0, share + by)) * line for by in (-distance, distance))
    moved = torch.where(line > 0, at.maximum(behind), at.minimum(behind))
    left = (start + line - moved).abs().sum(1) - (1 - share) * line.abs().sum(1)
    return _nearer(moved, ahead, gradients.abs(), left, ceil(fraction * line.shape[1]))


def _nearer(at: Tensor, ahead: Tensor, size: Tensor, distance: Tensor, group: int) -> Tensor:
    """Move values [B, N] towards ``ahead`` by an L1 distance [B] in all, groups of small ``size`` first.

    A group of so many values moves as a whole: all the way, or all by the same share of their ways.
    """
    ways = (ahead - at).abs()
    order = torch.where(ways > 0, size, torch.inf).argsort(stable=True, dim=1)
    sorted_ways = F.pad(ways.gather(1, order), (0, -ways.shape[1] % group))
    grouped = sorted_ways.view(len(ways), -1, group)
    lengths = grouped.sum(2)
    before = lengths.cumsum(1) - lengths
    shares = ((distance[:, None] - before) / torch.where(lengths > 0, lengths, 1)).clamp(0, 1)
    each = shares.repeat_interleave(group, 1)[:, : ways.shape[1]]
    return at + torch.zeros_like(at).scatter(1, order, each) * (ahead - at)


def _quadrature(steps: int, images: Images) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre's places in [0, 1] and weights [steps], in the dtype that sums are kept in.

    The places are the eigenvalues of the polynomials' recurrence, the weights their vectors' first entries
    squared. Source: Golub and Welsch 1969.
    """
    if steps < 1:
        raise MethodError(f"steps is {steps}; at least 1 is needed")
    degree = torch.arange(1, steps, dtype=torch.float64)
    beside = degree / (4 * degree.square() - 1).sqrt()
    places, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    like = wide_zeros(images[:1])
    return (0.5 + 0.5 * places).to(like), vectors[0].square().to(like)


def _waves(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the orthonormal cosine waves on n mirrored pixels [n, n], a column each, and their decay rates.

    A wave of the rate r fades by exp(-r t) in the time t of the discrete heat equation; sigma^2 = 2 t.
    """
    k = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * (k[:, None] + 0.5) * k) * math.sqrt(2 / n)
    waves[:, 0] = math.sqrt(1 / n)
    return waves.to(like), (2 - 2 * torch.cos(math.pi / n * k)).to(like)


def _along_axes(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """Multiply [B, bands, *size] by a matrix along each axis of its size."""
    for axis, matrix in enumerate(matrices, start=2):
        values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


def _sum_of_axes(rates: list[Tensor]) -> Tensor:
    """Return [*size] with the sum of each axis's rate."""
    total = rates[0]
    for rate in rates[1:]:
        total = total.unsqueeze(-1) + rate
    return total


def _as_image(baseline: Baseline, images: Images) -> Tensor:
    """Return the baseline as one image [1, bands, *size], in float32 or wider."""
    zeros = wide_zeros(images[:1])
    given = torch.as_tensor(baseline).to(zeros)
    try:
        return given.expand_as(zeros)
    except RuntimeError as error:
        raise MethodError(
            f"the baseline is {list(given.shape)}; expected a number or what broadcasts to one image, "
            f"{list(images.shape[1:])}"
        ) from error


def _fitting(references: Tensor, images: Images) -> Tensor:
    if references.shape[1:] != images.shape[1:] or not len(references):
        raise MethodError(
            f"the references are {list(references.shape)}; expected preprocessed images "
            f"{['references', *images.shape[1:]]}, at least one"
        )
    return references.detach().to(wide_zeros(images[:1]))


def _per_image(values: Tensor, images: Images) -> Tensor:
    """Give values [n] the axes of images [n, 1, *1]."""
    return values.view(-1, *[1] * (images.ndim - 1))


def _per_pixel(values: Tensor, images: Images) -> Tensor:
    """Give values [n, bands] the axes of images [n, bands, *1]."""
    return values.view(*values.shape, *[1] * (images.ndim - 2))
