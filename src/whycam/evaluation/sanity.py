"""Whether a map depends on what it should: the weights, the class, and not the noise."""

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whycam.evaluation.ranking import are_informative, rank_correlation, wide
from whycam.types import Images, Map, Scores

NoisyMaps: TypeAlias = Float[Tensor, "draws batch *grid"]
SamePrediction: TypeAlias = Bool[Tensor, "draws batch"]

NOISE_DRAWS = 10
NOISE_SHARE = 0.02
"""Standard deviation of the stability's noise, as a share of the image's range of values."""


def randomisation(maps: Map, randomised_maps: Map) -> Scores:
    """Return how far the map moves when all weights are random: [B] in [0, 2], high is good; 0 is not at all.

    1 minus the rank correlation of the magnitudes: a change of sign alone is no change. A map that shows
    nothing did not move. Source: Adebayo 2018; with all weights at once, as in Hedström 2024.
    """
    return _moved(maps.abs(), randomised_maps.abs())


def contrast(maps: Map, rival_maps: Map) -> Scores:
    """Return how far the map moves when the likeliest other class is explained: [B] in [0, 2]; 0 is not at
    all.

    1 minus the rank correlation of the signed maps. Source: the target's role in Rao 2022 and Yang 2019.
    """
    return _moved(maps, rival_maps)


def _moved(maps: Map, others: Map) -> Scores:
    both = are_informative(maps) & are_informative(others)
    found = 1 - rank_correlation(_without_nan(maps), _without_nan(others))
    return torch.where(both, found, 0).to(maps.dtype)


def _without_nan(maps: Map) -> Tensor:
    return torch.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0).flatten(1)


def stability(maps: Map, noisy_maps: NoisyMaps, same_prediction: SamePrediction) -> Scores:
    """Return the map's largest relative change under small noise: [B] from 0, low is good.

    The norm of the change over the map's own norm, only of draws under which the prediction stays: NaN where
    it never does. A map that shows nothing changes by its whole size: 1. Source: Alvarez-Melis 2018, as the
    relative change of Agarwal 2022.
    """
    own = wide(maps).flatten(1)
    size = own.norm(dim=1)
    change = torch.stack([(wide(noisy).flatten(1) - own).norm(dim=1) for noisy in noisy_maps])
    relative = torch.nan_to_num(change / size.where(size > 0, 1), nan=torch.inf)
    largest = torch.where(same_prediction, relative, -torch.inf).amax(0)
    found = torch.where(are_informative(maps), largest, 1)
    return torch.where(same_prediction.any(0), found, torch.nan).to(maps.dtype)


def sparsity(maps: Map) -> Scores:
    """Return the Gini index of the magnitudes: [B] in [0, 1), 0 where all are equal. No quality by itself.

    Source: Chalasani 2020.
    """
    values = wide(_without_nan(maps)).abs()
    ordered = values.sort(1).values
    count = values.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=maps.device) - count - 1
    total = ordered.sum(1)
    found = (ordered * weights).sum(1) / (count * total.where(total > 0, 1))
    return torch.where(are_informative(maps), found, 0).to(maps.dtype)


def noisy(images: Images, draw: int, seed: int) -> Images:
    """Return the images with the ``draw``-th noise, the same for all of them, scaled to each one's range."""
    generator = torch.Generator().manual_seed(seed * NOISE_DRAWS + draw)
    noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64).to(images)
    values = images.flatten(1)
    spread = (values.amax(1) - values.amin(1)).view(-1, *[1] * (images.ndim - 1))
    return images + NOISE_SHARE * spread * noise


def randomised(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return a copy whose every parameter is drawn anew, normal with the parameter's own mean and deviation.

    Buffers, such as a norm's running mean, stay. The same seed, the same copy; the module is not touched.
    """
    copy = deepcopy(module)
    _draw_anew(copy, list(dict(copy.named_parameters())), seed)
    return copy


def cascade(module: nn.Module, *, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Give (layer, copy) from the last layer to the first, each copy random from that layer on.

    Layers are the modules with parameters of their own, in the order of their definition. One copy exists at
    a time: it is changed further at the next step. Source: Adebayo 2018, the cascading randomisation.
    """
    copy = deepcopy(module)
    layers = [
        name for name, part in copy.named_modules() if next(part.parameters(recurse=False), None) is not None
    ]
    for name in reversed(layers):
        own = copy.get_submodule(name).named_parameters(recurse=False)
        _draw_anew(copy, [f"{name}.{inner}" if name else inner for inner, _ in own], seed)
        yield name, copy


def _draw_anew(module: nn.Module, names: list[str], seed: int) -> None:
    parameters = dict(module.named_parameters())
    order = {name: place for place, name in enumerate(parameters)}
    with torch.no_grad():
        for name in names:
            if name not in parameters:
                continue  # shared with a layer that has it under another name
            old = parameters[name]
            generator = torch.Generator().manual_seed(seed * len(order) + order[name])
            drawn = torch.randn(old.shape, generator=generator, dtype=torch.float64).to(old.device)
            values = wide(old)
            old.copy_((values.mean() + values.std(correction=0) * drawn).to(old.dtype))
