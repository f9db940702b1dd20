"""Small networks of known structure, and what a plain autograd run says of them."""

from collections import OrderedDict, namedtuple
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 5
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
Pair = namedtuple("Pair", ["features", "note"])


def pictures(batch=2, size=(12, 12), channels=3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64).to(dtype)


def settle(model, seed=0):
    """Give every weight and statistic a value that is neither 0 nor 1; return the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64) * 0.4
                positive = "running_var" in name or (value.ndim == 1 and name.endswith("weight"))
                value.copy_(drawn.abs() + 0.5 if positive else drawn)
    return model.eval()


def every_part(model):
    return list(model.modules())


def plain_autograd(model, images, path, score, call=1):
    """Give what the layer returned and the score's gradient there, from one forward with the whole graph.

    The model must have no in-place operations; it is copied, so that nothing done here touches it.
    """
    model = deepcopy(model).eval().requires_grad_(True)
    kept = []
    model.get_submodule(path).register_forward_hook(lambda part, inputs, output: kept.append(output))
    with torch.enable_grad():
        outputs = model(images.clone().requires_grad_())
        (gradient,) = torch.autograd.grad(score(outputs).sum(), kept[call - 1])
    return kept[call - 1].detach(), gradient, outputs.detach()


class Mean(nn.Module):
    """Average every channel over all positions."""

    def forward(self, activations):
        return activations.flatten(2).mean(2)


class Plain(nn.Module):
    """Two convolutions with batch norm and ReLU, the mean over positions, dropout, a linear head."""

    def __init__(self, axes=2, channels=8, inplace=False):
        super().__init__()
        self.stem = CONVOLUTIONS[axes](3, channels, 3, padding=1)
        self.norm = NORMS[axes](channels)
        self.relu = nn.ReLU(inplace=inplace)
        self.body = CONVOLUTIONS[axes](channels, channels, 3, padding=1, stride=2)
        self.body_norm = NORMS[axes](channels)
        self.last = nn.SiLU(inplace=inplace)
        self.pool = Mean()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, images):
        x = self.relu(self.norm(self.stem(images)))
        x = self.last(self.body_norm(self.body(x)))
        return self.head(self.drop(self.pool(x)))


class InPlace(nn.Module):
    """Rewrites layers' outputs after the fact: a ReLU (module and function), ``+=`` and an alias.

    ``inplace=False`` is the same function without any in-place operation.
    """

    def __init__(self, inplace=True):
        super().__init__()
        self.inplace = inplace
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.alias = nn.Identity()
        self.residual = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        x = self.relu(self.stem(images))
        y = F.relu(self.alias(self.body(x)), inplace=self.inplace)
        z = self.residual(y)
        if self.inplace:
            z += x
            z.mul_(z.sigmoid())
        else:
            z = z + x
            z = z * z.sigmoid()
        return self.head(z.mean((2, 3)))


class Repeated(nn.Module):
    """One ReLU that runs three times in a forward."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        x = self.relu(self.first(images))
        x = self.relu(self.second(x))
        x = self.relu(self.third(x))
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Two parallel branches of one stem, a part that never runs and one whose output is thrown away."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 5, padding=2, stride=2)
        self.unused = nn.Conv2d(8, 8, 3)
        self.ignored = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images):
        x = self.stem(images).relu()
        self.ignored(x)
        pooled = [self.left(x).sigmoid().mean((2, 3)), self.right(x).sigmoid().mean((2, 3))]
        return self.head(torch.cat(pooled, 1))


class Wrapping(nn.Module):
    """A layer whose output is the features in a container, next to something that must pass untouched."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, images):
        features, note = self.convolution(images), torch.arange(3)
        if self.kind == "tuple":
            return (features, note)
        if self.kind == "list":
            return [note, features]
        if self.kind == "named tuple":
            return Pair(features, note)
        return OrderedDict(note=note, features=features)


class InContainer(nn.Module):
    """A head on top of ``Wrapping``, which checks that the container came as it was."""

    def __init__(self, kind):
        super().__init__()
        self.layer = Wrapping(kind)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        given = self.layer(images)
        expected = {"tuple": tuple, "list": list, "named tuple": Pair, "dict": OrderedDict}
        assert type(given) is expected[self.layer.kind]
        parts = given.values() if isinstance(given, dict) else given
        (features,) = [part for part in parts if part.is_floating_point()]
        (note,) = [part for part in parts if not part.is_floating_point()]
        assert note.tolist() == [0, 1, 2]
        return self.head(features.sigmoid().mean((2, 3)))


class Bare(nn.Module):
    """The same network as ``InContainer`` without the container."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleDict({"convolution": nn.Conv2d(3, 8, 3, padding=1)})
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        return self.head(self.layer["convolution"](images).sigmoid().mean((2, 3)))


class Returning(nn.Module):
    """A network that returns its class scores inside something else."""

    def __init__(self, wrap):
        super().__init__()
        self.net = Plain()
        self.wrap = wrap

    def forward(self, images):
        return self.wrap(self.net(images))


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels=8):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.second(self.first(x).sigmoid())


class Residual(nn.Module):
    """A stem, residual blocks, the mean, a linear head."""

    def __init__(self, blocks=2, channels=8):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(*[Block(channels) for _ in range(blocks)])
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention with one head, written out."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens):
        query, key = self.query(tokens), self.key(tokens)
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        return self.out(weights @ self.value(tokens))


class TransformerBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens):
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    """Patches of 4 x 4 pixels, ``prefix`` extra tokens before them, attention blocks, a head.

    The head reads the first token where ``pool`` is "token", the mean of the patch tokens otherwise.
    """

    def __init__(self, grid, prefix=1, pool="token", blocks=3, width=16):
        super().__init__()
        self.prefix, self.pool = prefix, pool
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.extra = nn.Parameter(torch.randn(1, prefix, width))
        self.position = nn.Parameter(torch.randn(1, prefix + grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*[TransformerBlock(width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.extra.expand(len(images), -1, -1), tokens], 1) + self.position
        tokens = self.norm(self.blocks(tokens))
        return self.head(tokens[:, 0] if self.pool == "token" else tokens[:, self.prefix :].mean(1))


class Counting(nn.Module):
    """Counts the forwards of a network, by their batch."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return self.net(images)
