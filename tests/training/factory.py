"""A network that is quick to train, and whose result depends on dropout and batch norm."""

import os
import signal

import torch
from torch import Tensor, nn

from whycam.models import Preprocessing


class Network(nn.Module):
    """INTERRUPT is the forward in training at which Ctrl-C is pressed."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, num_classes)
        self.forwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += self.training
        if self.training and self.forwards == int(os.environ.get("INTERRUPT", "0")):
            signal.raise_signal(signal.SIGINT)
        scores: Tensor = self.head(self.dropout(self.features(images).mean((2, 3))))
        return scores


class Odd(nn.Module):
    """It needs what no image of 16 x 16 gives."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ torch.ones(5, 2)


def _preprocessing() -> Preprocessing:
    return Preprocessing.for_size((16, 16), (0.5,) * 3, (0.25,) * 3)


def small(num_classes: int = 5) -> tuple[nn.Module, Preprocessing]:
    return Network(num_classes), _preprocessing()


def fixed() -> tuple[nn.Module, Preprocessing]:
    return Network(3), _preprocessing()


def failing(num_classes: int = 5) -> tuple[nn.Module, Preprocessing]:
    return Odd(), _preprocessing()
