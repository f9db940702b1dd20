"""The demo's classifier: a small all-convolutional network on which CAM itself applies."""

from collections import OrderedDict

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
    """Classify a handwritten digit on a photograph: [B, 3, 96, 96] -> logits [B, 10].

    ``features`` ends in [B, 96, 12, 12]; ``pool`` averages the grid away and ``head`` is the one linear
    layer, so the class's row of ``head.weight`` weighs the channels in the original CAM (Zhou 2016).
    Any size of input from 8 pixels on works; the grid is an eighth of it.
    """

    def __init__(self) -> None:
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
        self.head = nn.Linear(96, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [B, 10] of normalised images [B, 3, H, W]."""
        logits: Tensor = self.head(self.pool(self.features(images)).flatten(1))
        return logits
