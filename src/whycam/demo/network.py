"""The demo's classifier: a small all-convolutional network on which CAM itself applies."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

CLASSES = 10


class ConvBlock(nn.Sequential):
    """A 3 x 3 convolution, batch norm and ReLU: [B, C, H, W] -> [B, width, H / stride, W / stride]."""

    def __init__(self, channels: int, width: int, *, stride: int = 1) -> None:
        """Make the block's three layers; their weights are random until loaded or trained."""
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False),
                norm=nn.BatchNorm2d(width),
                relu=nn.ReLU(),
            )
        )


class DemoNet(nn.Module):
    """Classify a handwritten digit on a photograph: [B, 3, 96, 96] -> logits [B, classes].

    ``features`` ends in [B, 96, 12, 12]; ``pool`` averages the grid away and ``head`` is the one linear
    layer, so the class's row of ``head.weight`` weighs the channels in the original CAM (Zhou 2016).
    Any size of input from 8 pixels on works; the grid is an eighth of it.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        """Build the network with random weights; `whycam.demo.demo_network` gives the trained one."""
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                block1=ConvBlock(3, 24, stride=2),
                block2=ConvBlock(24, 48, stride=2),
                block3=ConvBlock(48, 48),
                block4=ConvBlock(48, 96, stride=2),
                block5=ConvBlock(96, 96),
                block6=ConvBlock(96, 96),
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [B, classes] of normalised images [B, 3, H, W]."""
        logits: Tensor = self.head(self.pool(self.features(images)).flatten(1))
        return logits


class SeparateCells(nn.Module):
    """A 2 x 2 mosaic's cells, each through the classifier's features alone and read by a head of its own.

    Output ``classes * cell + class`` is of that cell; cells run left to right, then down. A state dict of
    `DemoNet` fits. Source: the DiFull setting of Rao 2022.
    """

    def __init__(self, network: DemoNet | None = None) -> None:
        """Take a network's features and head; without one they are random."""
        super().__init__()
        network = DemoNet() if network is None else network
        self.features, self.head = network.features, network.head
        self.grid = nn.Identity()

    def forward(self, mosaics: Tensor) -> Tensor:
        """Give the logits [B, 4 * classes] of normalised mosaics [B, 3, 192, 192]."""
        rows = [
            torch.cat([self.features(cell) for cell in row.chunk(2, 3)], 3) for row in mosaics.chunk(2, 2)
        ]
        grid = self.grid(torch.cat(rows, 2))
        cells = [cell for row in grid.chunk(2, 2) for cell in row.chunk(2, 3)]
        return torch.cat([self.head(cell.mean((2, 3))) for cell in cells], 1)
