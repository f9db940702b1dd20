"""Methods that read the activations alone, or with one vector a class: no gradient of the map's own."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import MethodError
from whycam.types import Activations, Gradients, Map

Kernel = Literal["linear", "sigmoid", "rbf"]
Samples = Float[Tensor, "batch positions channels"]


def cam(activations: Activations, class_weights: Float[Tensor, "batch channels"]) -> Map:
    """Sum the channels with the classifier's weights of the class: ``sum_k w_k A_k``.

    ``w`` [B, C] is the class's row of the linear head. Only for a head that averages over positions and is
    linear after that; there the map's mean is the score less its bias. Returns [B, *grid], signed.
    Source: Zhou 2016, eq. 2.
    """
    return torch.einsum("bc,bc...->b...", class_weights, activations)


def _as_samples(activations: Activations) -> Samples:
    return activations.flatten(2).transpose(1, 2)


def _orient(projection: Float[Tensor, "batch positions"], reference: Tensor) -> Tensor:
    """Turn each image's projection so that it rises with ``reference``, or else has a positive sum."""
    centred = reference - reference.mean(1, keepdim=True)
    agreement = ((projection - projection.mean(1, keepdim=True)) * centred).sum(1, keepdim=True)
    size = projection.norm(dim=1, keepdim=True) * reference.norm(dim=1, keepdim=True)
    undecided = agreement.abs() <= 8 * torch.finfo(projection.dtype).eps * size
    sign = torch.where(undecided, projection.sum(1, keepdim=True), agreement)
    return torch.where(sign < 0, -projection, projection)


def _unit(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by each image's largest magnitude, so that squares stay in range; return the scale too."""
    largest = samples.abs().amax((1, 2), keepdim=True)
    scale = torch.where(largest > 0, largest, 1)
    return samples / scale, scale


def first_component(activations: Activations) -> Map:
    """Project each position on the first right singular vector of the [positions, channels] matrix.

    Not centred. The sign, which a singular vector leaves open, is chosen so that the map rises with the
    mean over channels of relu(A). Returns [B, *grid], signed. Source: Muhammad 2020, eq. 4-5.
    """
    samples = _as_samples(activations)
    oriented = _orient(_first_projection(samples), samples.relu().mean(2))
    return oriented.reshape(activations.shape[:1] + activations.shape[2:])


def _first_projection(samples: Samples) -> Float[Tensor, "batch positions"]:
    """Project the samples on their first right singular vector; the sign is left open."""
    unit, scale = _unit(samples)
    positions, channels = unit.shape[1:]
    # The Gram matrix of the smaller side: the first component alone keeps its precision in it.
    if positions <= channels:
        values, vectors = torch.linalg.eigh(unit @ unit.mT)
        projection = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(unit.mT @ unit)
        projection = (unit @ vectors[..., -1:]).squeeze(-1)
    scaled: Tensor = projection * scale.squeeze(-1)
    return scaled


def eigencam(activations: Activations) -> Map:
    """Show the first principal direction of the activations; blind to the class.

    Each position is projected on the first right singular vector of the [positions, channels] matrix, which
    is not centred. The sign, which a singular vector leaves open, is the one with which the map rises with
    the mean over channels of ``relu(A)``. Returns [B, *grid], signed. Costs a forward and no backward.
    Source: Muhammad 2020, eq. 4-5.
    """
    return first_component(activations)


def eigengradcam(activations: Activations, gradients: Gradients) -> Map:
    """Show the first principal direction of ``g A``; unlike ``eigencam`` it knows the class.

    Projection and sign are ``eigencam``'s, with the product for the activations. Returns [B, *grid], signed.
    Costs one backward to the layer. Source: the extension of Muhammad 2020 known from practice.
    """
    return first_component(gradients * activations)


def segeigencam(activations: Activations, gradients: Gradients) -> Map:
    """Show the first principal direction of ``|g| A``, its strongest position made positive.

    As ``eigengradcam``, but a channel that speaks against the score counts as much as one that speaks for
    it: made for segmentation, where a class's pixels depend on both. The sign is the one with which the
    largest magnitude is positive. Not centred, as in ``eigencam``. Returns [B, *grid], signed.
    Source: Chung 2025, eq. 10-13.
    """
    projection = _first_projection(_as_samples(gradients.abs() * activations))
    upside_down = -projection.amin(1, keepdim=True) > projection.amax(1, keepdim=True)
    oriented = torch.where(upside_down, -projection, projection)
    return oriented.reshape(activations.shape[:1] + activations.shape[2:])


def _kernel_matrix(samples: Samples, kernel: Kernel) -> Tensor:
    channels = samples.shape[2]
    if kernel == "rbf":
        distance = torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-distance.square() / channels)
    products = samples @ samples.mT
    if kernel == "sigmoid":
        return torch.tanh(products / channels + 1)
    if kernel == "linear":
        return products
    raise MethodError(f"kernel {kernel!r} is unknown; choose linear, sigmoid or rbf")


def kpcacam(activations: Activations, *, kernel: Kernel = "sigmoid") -> Map:
    """Project each position on the first kernel principal component of the positions.

    Kernels of two positions x, y with C channels: linear ``x.y``, sigmoid ``tanh(x.y / C + 1)``, rbf
    ``exp(-|x - y|^2 / C)``; the option ``kernel`` chooses one. Centred. Holds a [positions, positions]
    matrix. Returns [B, *grid], signed, oriented as ``eigencam``; blind to the class. Source: Karmani 2024.
    """
    samples = _as_samples(activations)
    matrix = _kernel_matrix(samples, kernel)
    centred = matrix - matrix.mean(1, keepdim=True) - matrix.mean(2, keepdim=True)
    centred = centred + matrix.mean((1, 2), keepdim=True)
    values, vectors = torch.linalg.eigh(centred)
    noise = 4 * torch.finfo(matrix.dtype).eps * matrix.shape[1] * matrix.abs().amax((1, 2)).unsqueeze(1)
    largest = torch.where(values[..., -1:] > noise, values[..., -1:], 0)
    projection = vectors[..., -1] * largest.sqrt()
    oriented = _orient(projection, samples.relu().mean(2))
    return oriented.reshape(activations.shape[:1] + activations.shape[2:])


def fem(activations: Activations) -> Map:
    """Sum, over channels, the channel's mean wherever the channel is above its mean + 2 sd.

    A position counts where a channel is rarely as strong as there; mean and standard deviation are taken
    over the image's positions. Returns [B, *grid], signed where the channels' means are; blind to the class.
    Source: Fuad 2020.
    """
    grid = tuple(range(2, activations.ndim))
    mean = activations.mean(grid, keepdim=True)
    deviation = activations.std(grid, correction=0, keepdim=True)
    varies = activations.amax(grid, keepdim=True) > activations.amin(grid, keepdim=True)
    return (mean * (varies & (activations > mean + 2 * deviation))).sum(1)


def factorise(samples: Samples, concepts: int, *, steps: int = 200) -> tuple[Tensor, Tensor]:
    """Factorise non-negative samples [B, Z, C] into W [B, Z, k] and H [B, k, C], both >= 0.

    Multiplicative updates for the Frobenius error (Lee and Seung 2001) from a start without chance: the
    concepts begin at the samples that are farthest from one another.
    """
    unit, scale = _unit(samples)
    tiny = torch.finfo(unit.dtype).tiny
    concept_vectors = _spread_samples(unit, concepts) + unit.mean((1, 2), keepdim=True) * 1e-2
    presence = (unit @ concept_vectors.mT) / concept_vectors.square().sum(2).unsqueeze(1).clamp(min=tiny)
    for _ in range(steps):
        presence = (
            presence
            * (unit @ concept_vectors.mT)
            / (presence @ (concept_vectors @ concept_vectors.mT)).clamp(min=tiny)
        )
        concept_vectors = (
            concept_vectors
            * (presence.mT @ unit)
            / ((presence.mT @ presence) @ concept_vectors).clamp(min=tiny)
        )
    return presence, concept_vectors * scale


def _spread_samples(samples: Samples, count: int) -> Tensor:
    """Pick ``count`` samples an image: the largest first, then each time the worst explained by them."""
    residual = samples
    chosen = []
    for _ in range(count):
        worst = residual.square().sum(2).argmax(1)
        index = worst[:, None, None].expand(-1, 1, samples.shape[2])
        chosen.append(samples.gather(1, index))
        direction = torch.nn.functional.normalize(residual.gather(1, index), dim=2)
        residual = residual - (residual @ direction.mT) * direction
    return torch.cat(chosen, 1)


def concept_maps(
    activations: Activations, *, concepts: int = 4, steps: int = 200
) -> tuple[Float[Tensor, "batch concepts *grid"], Float[Tensor, "batch concepts channels"]]:
    """Factorise relu(A) into concepts: where each one is [B, k, *grid], and its channel vector [B, k, C].

    Source: Collins 2018, with each image factorised on its own so that a map does not depend on the batch.
    """
    presence, vectors = factorise(_as_samples(activations.relu()), concepts, steps=steps)
    return presence.mT.reshape(presence.shape[0], concepts, *activations.shape[2:]), vectors


def dff(activations: Activations, gradients: Gradients, *, concepts: int = 4) -> Map:
    """Show the concept that adds most to the score: the largest ``S[g . (W_i H_i)]`` of ``concepts``.

    ``relu(A)``, as a matrix of positions and channels, is factorised into ``W H``, both at least 0: column
    ``W_i`` says where concept i is, row ``H_i`` which channels it is made of. Each image is factorised on its
    own. Returns W_i of the chosen concept, [B, *grid] >= 0; ``concept_maps`` gives them all. Source: Collins
    2018; the choice of one concept by its first-order contribution is ours.
    """
    maps, vectors = concept_maps(activations, concepts=concepts)
    along = torch.einsum("bkc,bc...->bk...", vectors, gradients)
    contribution = (along * maps).flatten(2).sum(2)
    best = contribution.argmax(1)
    return maps.take_along_dim(best.view(-1, *[1] * (maps.ndim - 1)), dim=1).squeeze(1)
