"""Methods that attribute the score to the image's own pixels, from gradients with respect to the image.

Maps are [B, *size]: an image's bands are summed, as a sum of attributions is one too. An image's map is the
same whatever others are explained with it: noise is drawn once a copy, and is the same for all images.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.gradient import gradcam, value_range
from whycam.methods.needs import SlopesByRule, SlopesOf
from whycam.types import Activations, Gradients, Images, Map, Rows

Copies = Callable[[Rows, Rows], Images]
"""Makes changed copies of images: takes each one's image [n] and its number among that image's copies [n]."""

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
DRAWN_AT_ONCE = 16
"""Noise patterns that are held at a time; a multiple of what goes through a model at once."""


def gradient(images: Images, slopes_of: SlopesOf) -> Map:
    """Sum ``d score / d pixel`` over the bands: [B, *size], signed.

    What a small change of the pixel does to the score, and not what the pixel adds to it. The paper takes the
    largest magnitude over the bands; here the sign is kept. Costs F + B beside the prediction. Source:
    Simonyan 2013, section 3.
    """
    return gradients_at(images, slopes_of).sum(1)


def input_x_gradient(images: Images, slopes_of: SlopesOf) -> Map:
    """Sum ``pixel x d score / d pixel`` over the bands: [B, *size], signed.

    What a pixel adds to the score where the model is linear. Depends on where zero is: the preprocessed
    image's, which mostly is the data's mean colour. Source: Shrikumar 2016.
    """
    return (images * gradients_at(images, slopes_of)).sum(1)


def smoothgrad(
    images: Images, slopes_of: SlopesOf, *, samples: int = 50, sigma: float = 0.15, seed: int = 0
) -> Map:
    """Average the gradient over ``samples`` noisy copies, bands summed: [B, *size], signed.

    Noise is Gaussian; ``sigma`` is its standard deviation as a share of each image's range of values, and
    ``seed`` draws it, the same for every image. Raises MethodError for fewer than 1 sample. Costs F + B a
    copy. Source: Smilkov 2017.
    """
    if samples < 1:
        raise MethodError(f"samples is {samples}; at least 1 noisy copy is needed")
    total = wide_zeros(images)
    for image, gradients in _noisy_gradients(images, slopes_of, samples, sigma, seed):
        total[image] += gradients.sum(0)
    return total.sum(1) / samples


def vargrad(
    images: Images, slopes_of: SlopesOf, *, samples: int = 50, sigma: float = 0.15, seed: int = 0
) -> Map:
    """Take the gradient's variance over ``samples`` noisy copies, bands summed: [B, *size], 0 or more.

    The variance is the mean squared distance from the mean (divided by ``samples``). Noise is Gaussian;
    ``sigma`` is its standard deviation as a share of each image's range of values, and ``seed`` draws it, the
    same for every image. Raises MethodError for fewer than 2 samples. Costs F + B a copy. Source: Adebayo
    2018.
    """
    if samples < 2:
        raise MethodError(f"samples is {samples}; a variance needs at least 2 noisy copies")
    means, squares, counts = wide_zeros(images), wide_zeros(images), [0] * len(images)
    for image, gradients in _noisy_gradients(images, slopes_of, samples, sigma, seed):
        # Two groups' sums of squared distances are joined by their means: no small difference of large sums.
        mean, seen, new = gradients.mean(0), counts[image], len(gradients)
        apart = mean - means[image]
        squares[image] += (gradients - mean).square().sum(0) + apart.square() * (seen * new / (seen + new))
        means[image] += apart * (new / (seen + new))
        counts[image] = seen + new
    return squares.sum(1) / samples


def guidedbackprop(images: Images, slopes_by_rule: SlopesByRule) -> Map:
    """Sum over the bands the gradient that lets only positive ones into each activation: [B, *size], signed.

    An activation's own derivative follows: for a ReLU that is 1 where its input was positive, for a smooth
    one (GELU, SiLU...) whatever it is there. The map shows the image's own edges, and hardly changes when the
    upper weights are made random. Costs F + B beside the prediction. Source: Springenberg 2015.
    """
    return gradients_at(images, slopes_by_rule("guided")).sum(1)


def deconvnet(images: Images, slopes_by_rule: SlopesByRule) -> Map:
    """Sum over the bands the gradient of which only positives pass an activation: [B, *size], signed.

    What the activation's input was does not matter; pooling and normalisation go back as in the gradient.
    Costs F + B beside the prediction. Source: Zeiler 2014, section 2.1.
    """
    return gradients_at(images, slopes_by_rule("deconvnet")).sum(1)


def guidedgradcam(
    images: Images, activations: Activations, gradients: Gradients, slopes_by_rule: SlopesByRule
) -> Float[Tensor, "batch *size"]:
    """Multiply guided backprop by the layer's Grad-CAM, rectified and resized: [B, *size], signed.

    The resizing is linear along each axis. Costs both methods together. Source: Selvaraju 2017.
    """
    coarse = gradcam(activations, gradients).relu().unsqueeze(1)
    size = list(images.shape[2:])
    fine = F.interpolate(coarse, size=size, mode=_INTERPOLATION[len(size)], align_corners=False).squeeze(1)
    return fine * guidedbackprop(images, slopes_by_rule)


def gradients_at(points: Images, slopes_of: SlopesOf) -> Tensor:
    """Return d score / d point [B, bands, *size] at one point an image."""
    rows = torch.arange(len(points), device=points.device)
    return torch.cat([slope.gradients for slope in slopes_of(rows, lambda which: points[which])])


def gradients_at_copies(
    images: Images, slopes_of: SlopesOf, count: int, copies: Copies
) -> Iterator[tuple[int, slice, Tensor]]:
    """Give gradients at ``count`` changed copies of each image: (image, which of its copies, gradients).

    They come as they are made, a few of one image at a time, in order; nothing is kept.
    """
    numbers = torch.arange(len(images) * count, device=images.device)
    start = 0
    for slope in slopes_of(numbers // count, lambda which: copies(which // count, which % count)):
        stop = start + len(slope.gradients)
        for image in range(start // count, (stop - 1) // count + 1):
            first, last = max(start, image * count), min(stop, (image + 1) * count)
            its_own = slice(first - image * count, last - image * count)
            yield image, its_own, slope.gradients[first - start : last - start]
        start = stop


def _noisy_gradients(
    images: Images, slopes_of: SlopesOf, samples: int, sigma: float, seed: int
) -> Iterator[tuple[int, Tensor]]:
    """Give (image, gradients at some of its noisy copies); a copy's noise is the same for every image."""
    generator = torch.Generator(images.device).manual_seed(seed)
    spread = sigma * value_range(images)
    for start in range(0, samples, DRAWN_AT_ONCE):
        count = min(DRAWN_AT_ONCE, samples - start)
        draws = [
            torch.randn(images.shape[1:], generator=generator, device=images.device) for _ in range(count)
        ]
        noise = torch.stack(draws)

        def noisy(rows: Rows, copies: Rows, noise: Tensor = noise) -> Images:
            return images[rows] + (spread[rows] * noise[copies]).to(images.dtype)

        for image, _, gradients in gradients_at_copies(images, slopes_of, count, noisy):
            yield image, gradients


def wide_zeros(images: Images) -> Tensor:
    """Return zeros of the images' shape, in float32 or wider: where sums are kept."""
    return torch.zeros(
        images.shape, device=images.device, dtype=torch.promote_types(images.dtype, torch.float32)
    )
