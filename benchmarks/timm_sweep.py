"""Explain the smallest variant of every timm family and write the table: ``make sweep``.

Weights are random, so nothing here says whether a map is good; it says whether the right kind of layer is
found, whether its map is usable, and whether its positions are in the right order.
"""

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whycam.engine import LayerChoice, address_of, capture, choose_layer, explaining
from whycam.engine.grid import fits
from whycam.errors import WhycamError
from whycam.explainer import explain_methods

FAMILIES = Path(__file__).with_name("timm_families.csv")
METHODS = ("gradcam", "hirescam", "layercam", "eigencam")


@dataclass(frozen=True)
class Finding:
    """What came out for one family; ``trouble`` is empty where all is well."""

    family: str
    model: str
    size: tuple[int, ...]
    layer: str = ""
    layout: str = ""
    grid: tuple[int, ...] = ()
    support: float = 0.0
    corners: int = 0
    order_at: str = ""
    seconds: float = 0.0
    trouble: str = ""


def families() -> Iterator[tuple[str, str]]:
    """Give (family, model name) for every family in the list."""
    with FAMILIES.open(newline="", encoding="utf-8") as file:
        yield from ((row["family"], row["model"]) for row in csv.DictReader(file))


def build(name: str) -> nn.Module:
    """Build a model with random weights from a fixed seed.

    Some families start their last layer, or the scale of their branches, at zero. Nothing could be said of
    such a model, so matrices of zeros are drawn anew and vectors of small constants set to 1.
    """
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(std=0.02)
            elif parameter.ndim == 1 and 0 < parameter.abs().amax() < 1e-3:
                parameter.fill_(1.0)
    return model


def smooth_noise(size: tuple[int, ...], seed: int) -> Tensor:
    """Return one image [1, C, H, W] of standard normal noise at several scales."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(1, size[0], n, n, generator=generator), size=size[1:], mode="bilinear")
        for n in (4, 16, 64)
    ]
    image = torch.stack(layers).sum(0)
    return (image - image.mean()) / image.std()


def examine(family: str, name: str) -> Finding:
    """Choose the layer of one model, explain by several methods, and check what came out."""
    model = build(name)
    size = tuple(cast(Any, model).pretrained_cfg["input_size"])
    image = smooth_noise(size, seed=1)
    start = time.perf_counter()
    try:
        choice = choose_layer(model, image)
    except WhycamError as error:
        return Finding(family, name, size, trouble=str(error))
    seconds = time.perf_counter() - start
    support = next(c.support for c in choice.candidates if c.path == choice.path)
    corners = corners_in_place(model, image, [choice.path])[choice.path]
    order_at = choice.path if corners == 4 else shallower_in_order(model, image, choice)
    trouble = "; ".join(_troubles(model, image, choice.grid, choice.path, order_at))
    return Finding(
        family,
        name,
        size,
        choice.path,
        choice.layout,
        choice.grid,
        support,
        corners,
        order_at,
        seconds,
        trouble,
    )


def shallower_in_order(model: nn.Module, image: Tensor, choice: LayerChoice) -> str:
    """Return a shallower layer of the chosen one's layout in which all four corners are in place.

    Where every position of a deep layer depends on the whole image (attention, token mixing, wide kernels),
    a corner's change may end up anywhere; the order of positions then shows before that mixing. Of up to 12
    layers, spread over the depth, the deepest such one is returned.
    """
    alike = [c.path for c in choice.candidates if c.layout == choice.layout and c.path != choice.path]
    spread = alike[:: max(1, len(alike) // 12)]
    for start in range(0, len(spread), 4):  # all at once would take much memory
        counts = corners_in_place(model, image, spread[start : start + 4])
        for path, count in counts.items():
            if count == 4:
                return path
    return ""


def _troubles(
    model: nn.Module, image: Tensor, grid: tuple[int, ...], layer: str, order_at: str
) -> Iterator[str]:
    if not fits(grid, image.shape[2:]) or prod(grid) < 2:
        yield f"grid {grid} does not fit"
    for explanation in explain_methods(model, image, METHODS, layer=layer):
        if not explanation.maps.isfinite().all():
            yield f"{explanation.method}: not finite"
        elif explanation.maps.std() <= 1e-6 * explanation.maps.abs().max():
            yield f"{explanation.method}: constant"
    if not order_at:
        yield "no layer of this layout has its corners in place"


def corners_in_place(model: nn.Module, image: Tensor, layers: list[str]) -> dict[str, int]:
    """Change each corner of the image in turn; count each layer's corners that its own change moves most."""
    if not layers:
        return {}
    with explaining(model) as live:
        before, *after = [_activations(live, one, layers) for one in _with_changed_corners(image)]
    counts = {}
    for path, still in before.items():
        moved = [_by_quadrant((one[path] - still).square().sum((0, 1))) for one in after]
        counts[path] = int((torch.stack(moved).argmax(0) == torch.arange(4)).sum())
    return counts


def _activations(model: nn.Module, image: Tensor, layers: list[str]) -> dict[str, Tensor]:
    found = capture(model, image, [address_of(model, layer) for layer in layers]).layers
    return {path: layer.activations() for path, layer in zip(layers, found, strict=True)}


def _with_changed_corners(image: Tensor) -> Iterator[Tensor]:
    """Give the image, then with the same patch added top left, top right, bottom left and bottom right."""
    yield image
    height, width = image.shape[2] // 4, image.shape[3] // 4
    patch = smooth_noise((image.shape[1], height, width), seed=2)
    for rows in (slice(0, height), slice(-height, None)):
        for columns in (slice(0, width), slice(-width, None)):
            copy = image.clone()
            copy[..., rows, columns] += patch
            yield copy


def _by_quadrant(energy: Tensor) -> Tensor:
    rows, columns = (energy.shape[0] + 1) // 2, (energy.shape[1] + 1) // 2
    quadrants = [energy[:rows, :columns], energy[:rows, -columns:], energy[-rows:, :columns]]
    return torch.stack([quadrant.mean() for quadrant in (*quadrants, energy[-rows:, -columns:])])


def table(findings: list[Finding]) -> str:
    """Return the findings as a Markdown table."""
    lines = [
        "| family | smallest | input | layer | layout | grid | support | corners | order seen at | usable |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in findings:
        grid, size = " x ".join(map(str, found.grid)), " x ".join(map(str, found.size[1:]))
        lines.append(
            f"| {found.family} | {found.model} | {size} | `{found.layer}` | {found.layout} | {grid} | "
            f"{found.support:.0%} | {found.corners}/4 | `{found.order_at}` | {found.trouble or 'yes'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Examine every family, print as it goes, and write the table where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a Markdown file with a place for the table")
    parser.add_argument("--only", nargs="*", default=[], help="these families alone")
    arguments = parser.parse_args()
    findings = []
    for family, name in families():
        if arguments.only and family not in arguments.only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            findings.append(examine(family, name))
        found = findings[-1]
        order = f"{found.corners}/4 {found.order_at}"
        print(f"{family:24} {found.layer:36} {found.grid} {order} {found.seconds:.2f}s {found.trouble}")
        sys.stdout.flush()
    usable = sum(not found.trouble for found in findings)
    print(f"{usable} of {len(findings)} families without trouble")
    if arguments.out:
        arguments.out.write_text(_page(findings, usable), encoding="utf-8")


def _page(findings: list[Finding], usable: int) -> str:
    at_once = sum(found.corners == 4 for found in findings)
    return f"""# The layer chosen on every timm family

timm {timm.__version__}, torch {torch.__version__.split("+")[0]}; random weights from a fixed seed, the
smallest variant of each family. `make sweep` makes this page again.

{usable} of {len(findings)} families pass every check: a layer is found, its grid fits the input, the maps of
{", ".join(METHODS)} are finite and not constant, and the positions are in order. For the order, the same
patch is added to each corner of the image in turn: each corner of the layer must be moved most by the change
in the same corner of the image ("corners"). This holds at the chosen layer itself in {at_once} families. In
the others a change has spread over the image by then; there it is shown at a shallower layer of the same
layout ("order seen at").

"Support" is the share of the grid's positions that the top score's gradient reaches.

{table(findings)}
"""


if __name__ == "__main__":
    main()
