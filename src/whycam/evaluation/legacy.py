"""Measures that papers report and that barely tell a method from a control; each output says legacy.

All of them ask how the class's probability changes when the image is multiplied by the map, scaled to [0, 1].
"""

import torch

from whycam.evaluation.ranking import correlation, importance, wide
from whycam.types import Heatmaps, Images, Map, Scores


def faded(images: Images, maps: Map) -> Images:
    """Return the preprocessed images times their maps, rectified, resized and divided by the maximum.

    A map that shows nothing keeps nothing.
    """
    return images * shown(maps, images.shape[2:]).to(images.dtype).unsqueeze(1)


def shown(maps: Map, size: tuple[int, ...] | torch.Size) -> Heatmaps:
    """Return the maps as they are laid over the images: [B, *size] in [0, 1]; one that shows nothing is 0."""
    heat = importance(maps.clamp(min=0), size)
    peak = heat.flatten(1).amax(1).view(-1, *[1] * len(size))
    return heat / peak.where(peak > 0, 1)


def averagedrop(clean_probability: Scores, faded_probability: Scores) -> Scores:
    """Return the share of the probability that is lost: [B] in [0, 1], low is good.

    Source: Chattopadhay 2018.
    """
    lost = (clean_probability - faded_probability).clamp(min=0)
    return torch.where(clean_probability > 0, lost / clean_probability.where(clean_probability > 0, 1), 0)


def increase(clean_probability: Scores, faded_probability: Scores) -> Scores:
    """Return 1 where the probability rises, else 0: [B]; high is good. Source: Chattopadhay 2018."""
    return (faded_probability > clean_probability).to(clean_probability.dtype)


def gain(clean_probability: Scores, faded_probability: Scores) -> Scores:
    """Return the share of what was missing to 1 that is won: [B] in [0, 1], high is good.

    Source: Zhang 2023.
    """
    missing = 1 - clean_probability
    won = (faded_probability - clean_probability).clamp(min=0)
    return torch.where(missing > 0, won / missing.where(missing > 0, 1), 0)


def adcc(
    shown_map: Heatmaps, shown_again: Heatmaps, clean_probability: Scores, faded_probability: Scores
) -> Scores:
    """Return the harmonic mean of coherency, simplicity and what is not dropped, [B] in [0, 1]; high is good.

    Coherency is the correlation, from 0 to 1, with the map of the faded image; simplicity 1 minus the map's
    mean. 0 for a map that shows nothing. Source: Poppi 2021.
    """
    flat, again = shown_map.flatten(1), shown_again.flatten(1)
    coherency = (1 + correlation(flat, again)) / 2
    simplicity = 1 - wide(flat).mean(1)
    kept = 1 - averagedrop(clean_probability, faded_probability)
    parts = torch.stack([coherency, simplicity, kept.to(simplicity)])
    showing = (parts > 0).all(0) & (flat > 0).any(1)
    return torch.where(showing, 3 / (1 / parts.where(parts > 0, 1)).sum(0), 0).to(clean_probability.dtype)
