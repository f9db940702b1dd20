"""Train a small network on scenes that are made as it goes; no other room trains with this."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = 0.5, 0.25
"""Of every channel of the networks' input, on the scale of 0 to 1."""
_CHUNK = 250

Batch = tuple[Tensor, Tensor]
"""Images uint8 [B, 3, H, W] and their classes int64 [B]."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW, a linear warm-up under a cosine to zero."""

    steps: int
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warm_up_steps: int = 50

    def rate_at(self, step: int) -> float:
        """Give the share of the learning rate at a step."""
        warm_up = min(1.0, (step + 1) / self.warm_up_steps)
        return warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 images into the networks' input, float32 of the same shape."""
    return ((images.float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def fit(
    network: nn.Module,
    draw: Callable[[int], Batch],
    schedule: Schedule,
    tick: Callable[[int, Tensor], None] = lambda step, loss: None,
) -> None:
    """Train in place on ``draw(step)``'s batches, where the network is; leaves it in eval mode.

    ``tick`` is called after each step with its number and its loss.
    """
    place = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule.rate_at)
    network.train()
    for step in range(schedule.steps):
        images, labels = draw(step)
        loss = F.cross_entropy(network(normalise(images.to(place))), labels.to(place))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        rates.step()
        tick(step, loss.detach())
    network.eval()


def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """Give the logits [N, classes], on the CPU, of images uint8 [N, 3, H, W]; in chunks, without autograd."""
    place = next(network.parameters()).device
    with torch.inference_mode():
        chunks = [network(normalise(chunk.to(place))).cpu() for chunk in torch.split(images, _CHUNK)]
    return torch.cat(chunks)
