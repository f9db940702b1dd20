"""Scenes with known truth: real handwritten digits laid on crops of real photographs, with exact masks.

A row of uniform numbers decides a scene, so that one can be made again alone and many at once. What is kept
is rendered in float64, where machines differ too little to change a pixel.
"""

import hashlib
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from whycam.errors import MissingExtraError

CLASSES = 10
SIDE = 96
"""A scene's height and width in pixels."""
SMALLEST, LARGEST = 24.0, 48.0
"""A digit's height in pixels."""
TURN = math.radians(15)
"""The largest turn, either way."""
CONTRAST = 0.35
"""Least luminance, of 1, between a digit and what it covers."""
TINT = 0.4
"""The strongest tint, as a share of full colour."""
LUMA = (0.299, 0.587, 0.114)
CELLS = 8
"""A digit's cells down and across, as the data set gives them."""
FINE = 8
"""Samples a cell of a digit's smooth field, each way."""
INK = 0.4
"""Where a digit's edge runs, as a share of a full cell; above it, rings break open, and below, they fill."""
HELD_OUT_SHARE = 0.2
"""Share of each class's digits that training never sees."""
HELD_OUT_WIDTH = 128
"""Columns at each photograph's right side that training never sees."""
DRAWS = 12
"""Uniform numbers a scene."""

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Licence:
    """A licence's short name and its text."""

    name: str
    url: str


@dataclass(frozen=True)
class Photograph:
    """A photograph bundled with a package: where it is, by how much it is shrunk, and whom to thank."""

    name: str
    package: str
    file: str
    title: str
    author: str
    licence: Licence
    source: str
    shrink: int = 1


_EXTRA = "pip install 'whycam[demo-source]'"

CC0 = Licence("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/")
CC_BY_2 = Licence("CC BY 2.0", "https://creativecommons.org/licenses/by/2.0/")
SKIMAGE_DATA = "https://scikit-image.org/docs/stable/api/skimage.data.html"

PHOTOGRAPHS = (
    Photograph(
        name="brick",
        package="skimage",
        file="data/brick.png",
        title="Bricks25, a brick wall",
        author="CC0Textures",
        licence=CC0,
        source="https://cc0textures.com/view.php?tex=Bricks25",
    ),
    Photograph(
        name="camera",
        package="skimage",
        file="data/camera.png",
        title="Photographer behind a camera",
        author="Lav Varshney",
        licence=CC0,
        source=SKIMAGE_DATA,
    ),
    Photograph(
        name="chelsea",
        package="skimage",
        file="data/chelsea.png",
        title="Chelsea the cat",
        author="Stefan van der Walt",
        licence=CC0,
        source=SKIMAGE_DATA,
    ),
    Photograph(
        name="china",
        package="sklearn",
        file="datasets/images/china.jpg",
        title="china.jpg, Flickr photo 6061409035",
        author="danielbuechele",
        licence=CC_BY_2,
        source="https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    Photograph(
        name="coffee",
        package="skimage",
        file="data/coffee.png",
        title="Coffee cup, courtesy of Pikolo Espresso Bar",
        author="Rachel Michetti",
        licence=CC0,
        source=SKIMAGE_DATA,
    ),
    Photograph(
        name="grass",
        package="skimage",
        file="data/grass.png",
        title="Grass 01",
        author="linolafett",
        licence=CC0,
        source="https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
    Photograph(
        name="gravel",
        package="skimage",
        file="data/gravel.png",
        title="Gravel04",
        author="CC0Textures",
        licence=CC0,
        source="https://cc0textures.com/view.php?tex=Gravel04",
    ),
    Photograph(
        name="retina",
        package="skimage",
        file="data/retina.jpg",
        title="Fundus photograph of normal left eye",
        author="Mikael Häggström",
        licence=CC0,
        source="https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
        shrink=3,
    ),
)


@dataclass(frozen=True)
class Backdrops:
    """One split's part of every photograph, laid end to end so that all crops are one gather."""

    pixels: Tensor  # uint8 [N, 3]
    start: Tensor  # int64 [P]: index of the part's top left pixel
    height: Tensor  # int64 [P]
    width: Tensor  # int64 [P]

    def crops(self, photograph: Tensor, chance: Tensor, side: int) -> Tensor:
        """Cut uint8 [B, 3, side, side] out of ``photograph`` [B], at ``chance`` [B, 2]: down, across."""
        stride = self.width[photograph]
        down = pick(chance[:, 0], self.height[photograph] - side + 1)
        across = pick(chance[:, 1], stride - side + 1)
        corner = self.start[photograph] + down * stride + across
        steps = torch.arange(side)
        index = corner[:, None, None] + steps[:, None] * stride[:, None, None] + steps
        return self.pixels[index].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Glyphs:
    """One split's digits as smooth ink fields, sorted by class."""

    fields: Tensor  # float64 [N, F, F]: 1 is a full cell; the outer ring of cells is empty
    first: Tensor  # int64 [10]: index of each class's first digit
    count: Tensor  # int64 [10]


@dataclass(frozen=True)
class Sources:
    """What one split's scenes are made of."""

    glyphs: Glyphs
    backdrops: Backdrops


@dataclass(frozen=True)
class Scenes:
    """Pictures with their truth and origin."""

    images: Tensor  # uint8 [B, 3, side, side]
    grounds: Tensor  # uint8 [B, 3, side, side]: the same without the digit
    masks: Tensor  # bool [B, side, side]: true on the digit
    labels: Tensor  # int64 [B]
    digits: Tensor  # int64 [B]: index among the split's digits
    photographs: Tensor  # int64 [B]: index in PHOTOGRAPHS


def stream(seed: int, purpose: int) -> np.random.RandomState:
    """Open one of a seed's independent streams."""
    # RandomState, because NumPy promises that its numbers never change
    return np.random.RandomState([seed, purpose])


def uniform(source: np.random.RandomState, scenes: int, draws: int = DRAWS) -> Tensor:
    """Draw the float64 [scenes, draws] in [0, 1) that decide as many scenes."""
    return torch.from_numpy(source.random_sample((scenes, draws)))


def pick(chance: Tensor, count: Tensor | int) -> Tensor:
    """Turn numbers in [0, 1) into indices below ``count``."""
    return (chance * count).long()


def photograph_pixels(photograph: Photograph) -> Bytes:
    """Read a bundled photograph as [H, W, 3]. Raises MissingExtraError without its package or its file."""
    spec = find_spec(photograph.package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the scenes' photographs need {photograph.package}, which is not installed; {_EXTRA}"
        )
    path = Path(spec.origin).parent / photograph.file
    if not path.is_file():
        raise MissingExtraError(
            f"{photograph.package} is installed without the photograph '{photograph.file}'; {_EXTRA}"
        )
    with Image.open(path) as picture:
        return shrink(np.asarray(picture.convert("RGB")), photograph.shrink)


def shrink(pixels: Bytes, factor: int) -> Bytes:
    """Average blocks of ``factor`` x ``factor`` pixels: [H, W, 3] -> [H // factor, W // factor, 3]."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    area = factor * factor
    # whole numbers throughout, so that no machine rounds differently
    total = blocks.sum(axis=(1, 3), dtype=np.int64)
    return np.asarray((2 * total + area) // (2 * area), dtype=np.uint8)


def photograph_digests() -> dict[str, str]:
    """Give the SHA-256 of each photograph's decoded pixels, since JPEG decoders may differ."""
    return {p.name: hashlib.sha256(photograph_pixels(p).tobytes()).hexdigest() for p in PHOTOGRAPHS}


def load_backdrops() -> tuple[Backdrops, Backdrops]:
    """Give the photographs' (training, held-out) parts, which share no pixel."""
    photographs = [photograph_pixels(photograph) for photograph in PHOTOGRAPHS]
    training = join_parts([pixels[:, :-HELD_OUT_WIDTH] for pixels in photographs])
    return training, join_parts([pixels[:, -HELD_OUT_WIDTH:] for pixels in photographs])


def join_parts(parts: list[Bytes]) -> Backdrops:
    """Lay parts [H, W, 3] end to end."""
    area = torch.tensor([part.shape[0] * part.shape[1] for part in parts])
    return Backdrops(
        pixels=torch.from_numpy(np.concatenate([part.reshape(-1, 3) for part in parts])),
        start=area.cumsum(0) - area,
        height=torch.tensor([part.shape[0] for part in parts]),
        width=torch.tensor([part.shape[1] for part in parts]),
    )


def load_glyphs(seed: int) -> tuple[Glyphs, Glyphs]:
    """Give the (training, held-out) digits, split at random within each class; none is in both.

    Raises MissingExtraError where scikit-learn, which has them, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(
            f"the scenes' digits need scikit-learn, which is not installed; {_EXTRA}"
        ) from error

    cells, labels = load_digits(return_X_y=True)
    order = np.argsort(stream(seed, 0).random_sample(len(labels)), kind="stable")
    classes = [cells[order[labels[order] == label]] for label in range(CLASSES)]
    borders = [round(len(members) * HELD_OUT_SHARE) for members in classes]
    training = [members[border:] for members, border in zip(classes, borders, strict=True)]
    held_out = [members[:border] for members, border in zip(classes, borders, strict=True)]
    return join_classes(training), join_classes(held_out)


def join_classes(classes: list[Numbers]) -> Glyphs:
    """Turn each class's ink counts [N, 64], 0 to 16, into smooth fields."""
    count = torch.tensor([len(members) for members in classes])
    cells = torch.from_numpy(np.concatenate(classes)).double().reshape(-1, 1, CELLS, CELLS) / 16
    ringed = F.pad(cells, (1, 1, 1, 1))
    fields = F.interpolate(ringed, scale_factor=FINE, mode="bicubic", align_corners=False)[:, 0]
    return Glyphs(fields=fields, first=count.cumsum(0) - count, count=count)


def load_sources(seed: int) -> tuple[Sources, Sources]:
    """Give what (training, held-out) scenes are made of. Raises MissingExtraError."""
    glyphs, backdrops = load_glyphs(seed), load_backdrops()
    return Sources(glyphs[0], backdrops[0]), Sources(glyphs[1], backdrops[1])


def balanced_classes(chance: Tensor) -> Tensor:
    """Give classes [B]; every ten in a row are a shuffle of all ten. B is a multiple of 10."""
    return chance.reshape(-1, CLASSES).argsort(dim=1, stable=True).flatten()


def ink_coverage(fields: Tensor, chance: Tensor, side: int) -> Tensor:
    """Lay each digit down at random: fields [B, F, F] -> coverage [B, side, side] in [0, 1].

    The whole digit stays on the canvas. ``chance`` is [B, 4]: size, turn, across, down.
    """
    turn = (2 * chance[:, 1] - 1) * TURN
    cos, sin = turn.cos(), turn.sin()
    reach = (cos + sin.abs()) / 2  # half the side of a turned unit square's bounding box
    size = SMALLEST + chance[:, 0] * ((side / (2 * reach)).clamp(max=LARGEST) - SMALLEST)
    margin = (reach * size)[:, None]
    centre = margin + chance[:, 2:4] * (side - 2 * margin)
    placed = torch.stack((centre[:, 0], centre[:, 1], cos, sin, size), 1).to(fields.dtype)
    across, down, cos, sin, size = placed[:, :, None, None].unbind(1)
    pixel = torch.arange(side, dtype=fields.dtype) + 0.5
    x, y = pixel[None, None, :] - across, pixel[None, :, None] - down
    half = size * (CELLS + 2) / CELLS / 2
    grid = torch.stack(((x * cos + y * sin) / half, (y * cos - x * sin) / half), dim=-1)
    ink = F.grid_sample(fields[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # steeper for larger digits: the edge is about one pixel wide at every size
    return ((ink[:, 0] - INK) * (size / CELLS) + 0.5).clamp(0, 1)


def contrasting_colours(ground: Tensor, coverage: Tensor, chance: Tensor) -> Tensor:
    """Give colours [B, 3] in [0, 1] whose luminance stands off from what the digit covers.

    ``ground`` is [B, 3, side, side] in [0, 1]; ``chance`` is [B, 3]: luminance, hue, tint.
    """
    luma = torch.tensor(LUMA, dtype=ground.dtype)
    chance = chance.to(ground.dtype)
    covered = (ground * coverage[:, None]).sum((2, 3)) / coverage.sum((1, 2))[:, None]
    under = (covered * luma).sum(1)
    room = torch.maximum(under, 1 - under)
    away = CONTRAST + chance[:, 0] * (room - CONTRAST)
    luminance = torch.where(under < 0.5, under + away, under - away)
    hue = (2 * math.pi * (chance[:, 1, None] + torch.arange(3, dtype=ground.dtype) / 3)).cos()
    tint = hue - (hue * luma).sum(1, keepdim=True)
    return (luminance[:, None] + TINT * chance[:, 2, None] * tint).clamp(0, 1)


def render(
    sources: Sources,
    chance: Tensor,
    *,
    side: int = SIDE,
    dtype: torch.dtype = torch.float64,
    labels: Tensor | None = None,
) -> Scenes:
    """Make as many scenes as ``chance`` [B, DRAWS] has rows.

    ``labels`` int64 [B] are the digits to draw; without them every ten scenes hold each digit once, and B
    is a multiple of 10.
    """
    glyphs = sources.glyphs
    if labels is None:
        labels = balanced_classes(chance[:, 0])
    digits = glyphs.first[labels] + pick(chance[:, 1], glyphs.count[labels])
    photographs = pick(chance[:, 2], len(PHOTOGRAPHS))
    crops = sources.backdrops.crops(photographs, chance[:, 3:5], side)
    coverage = ink_coverage(glyphs.fields[digits].to(dtype), chance[:, 5:9], side)
    ground = crops.to(dtype) / 255
    colours = contrasting_colours(ground, coverage, chance[:, 9:12])
    mixed = torch.lerp(ground, colours[:, :, None, None], coverage[:, None])
    images = (mixed * 255).round().to(torch.uint8)
    return Scenes(images, crops, coverage >= 0.5, labels, digits, photographs)


def held_out_scenes(sources: Sources, seed: int, scenes: int) -> list[Scenes]:
    """Make the seed's first ``scenes`` held-out scenes, in lots of 500; none depends on the total."""
    chance = uniform(stream(seed, 2), scenes)
    return [render(sources, chance[first : first + 500]) for first in range(0, scenes, 500)]


def held_out_scene(sources: Sources, seed: int, index: int) -> tuple[Tensor, Tensor, int]:
    """Make one held-out scene again: image uint8 [3, 96, 96], mask bool [96, 96] and class."""
    lot = index // CLASSES * CLASSES
    scenes = render(sources, uniform(stream(seed, 2), lot + CLASSES)[lot:])
    return scenes.images[index - lot], scenes.masks[index - lot], int(scenes.labels[index - lot])
