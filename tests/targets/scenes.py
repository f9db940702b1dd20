"""Pictures whose truth is known: coloured squares on a dim, noisy ground, and how much of a map is on one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

SIZE = 64
SQUARE = 16
RED, GREEN, BLUE = 0, 1, 2
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def ground(count: int, generator: torch.Generator, size: int = SIZE) -> Tensor:
    return 0.2 * torch.rand(count, 3, size, size, generator=generator)


def put(image: Tensor, colour: int, left: int, top: int, side: int = SQUARE) -> Box:
    image[:, top : top + side, left : left + side] = 0.1
    image[colour, top : top + side, left : left + side] = 1.0
    return left, top, left + side, top + side


def squares(colours: Sequence[Sequence[int]], seed: int, size: int = SIZE) -> tuple[Tensor, list[list[Box]]]:
    """Return images [B, 3, size, size] with squares of the given colours, side by side, and their boxes."""
    generator = torch.Generator().manual_seed(seed)
    images = ground(len(colours), generator, size)
    side = size // 4
    boxes = []
    for image, wanted in zip(images, colours, strict=True):
        width = size // max(len(wanted), 1)  # a column each, so that they don't overlap
        lefts = [
            at * width + int(torch.randint(0, width - side + 1, (1,), generator=generator))
            for at in range(len(wanted))
        ]
        tops = torch.randint(0, size - side + 1, (len(wanted),), generator=generator).tolist()
        boxes.append([put(image, c, x, y, side) for c, x, y in zip(wanted, lefts, tops, strict=True)])
    return images, boxes


def drawn(count: int, most: int, seed: int) -> list[list[int]]:
    """Draw for each image which colours it shows: none to ``most`` of the three."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, most + 1, (count,), generator=generator).tolist()
    return [torch.randperm(3, generator=generator)[:number].tolist() for number in numbers]


def presence(colours: Sequence[Sequence[int]]) -> Tensor:
    """Return [B, 3], 1 where the image shows the colour."""
    return torch.tensor([[float(colour in wanted) for colour in range(3)] for wanted in colours])


def trained(
    model: nn.Module, loss: Callable[[nn.Module, int], Tensor], *, steps: int, rate: float = 3e-3
) -> nn.Module:
    """Return the model after ``steps`` of Adam on the loss of (model, step), in eval mode."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for step in range(steps):
        optimiser.zero_grad()
        loss(model, step).backward()
        optimiser.step()
    return model.eval()


def inside(heatmaps: Tensor, boxes: Sequence[Box], margin: int) -> Tensor:
    """Return the share [B] of each heatmap's mass inside its box, widened by ``margin`` pixels."""
    shares = []
    for heatmap, (left, top, right, bottom) in zip(heatmaps, boxes, strict=True):
        cut = heatmap[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        shares.append(cut.sum() / heatmap.sum().clamp(min=1e-12))
    return torch.stack(shares)


def area(boxes: Sequence[Box], margin: int, size: int = SIZE) -> float:
    """Return the mean share of the image that the widened boxes cover."""
    return float(inside(torch.ones(len(boxes), size, size), boxes, margin).mean())
