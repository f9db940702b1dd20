"""Small networks over signals, images and volumes, and what the oracles ask of them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Small(nn.Module):
    """Two convolutions with an activation each, averaged, and three classes."""

    def __init__(self, axes: int, first: nn.Module | None = None, last: nn.Module | None = None) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.features = nn.Sequential(
            convolution(2, 4, 3, padding=1),
            first or nn.Tanh(),
            convolution(4, 5, 3, padding=1, stride=2),
            last or nn.Softplus(),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(2).mean(2))


def gradient_of(model: nn.Module, label: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the class score's gradient at one image, as a function on arrays."""

    def at(image: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(image)[None].requires_grad_()
        (found,) = torch.autograd.grad(model(leaf)[0, label], leaf)
        return found[0].numpy()

    return at


def seen_by(model: nn.Module) -> list[Tensor]:
    """Return a list to which each batch is added that goes into the model from now on."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0].detach().clone()))
    return seen
