"""Whether the layer that is chosen is usable, on one model with random weights: what the sweeps share.

Weights are random, so nothing here says whether a map is good; it says whether the right kind of layer is
found, whether its map is usable, and whether its positions are in the right order.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whycam.engine import LayerChoice, address_of, capture, choose_layer, explaining
from whycam.engine.grid import fits
from whycam.engine.layers import top_score
from whycam.errors import WhycamError
from whycam.explainer import explain_methods
from whycam.methods.gradient import gradcam, layercam

METHODS = ("gradcam", "hirescam", "layercam", "eigencam")
ORDERED = (gradcam, layercam)


class Moved(NamedTuple):
    """How many corners are moved most by their own change: of the layer's activations, and of a map."""

    activations: int
    maps: int

    def __str__(self) -> str:
        """Return both counts, of four."""
        return f"{self.activations}/4, {self.maps}/4"


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
    moved: "Moved" = field(default_factory=lambda: Moved(0, 0))
    order_at: str = ""
    moved_there: "Moved" = field(default_factory=lambda: Moved(0, 0))
    seconds: float = 0.0
    trouble: str = ""


def smooth_noise(size: tuple[int, ...], seed: int) -> Tensor:
    """Return one image [1, C, H, W] of standard normal noise at several scales."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(1, size[0], n, n, generator=generator), size=size[1:], mode="bilinear")
        for n in (4, 16, 64)
    ]
    image = torch.stack(layers).sum(0)
    return (image - image.mean()) / image.std()


def examine(family: str, name: str, model: nn.Module, size: tuple[int, ...]) -> Finding:
    """Choose the layer of one model, explain by several methods, and check what came out.

    ``size`` is the input's (channels, height, width).
    """
    image = smooth_noise(size, seed=1)
    start = time.perf_counter()
    try:
        choice = choose_layer(model, image)
    except WhycamError as error:
        return Finding(family, name, size, trouble=str(error))
    seconds = time.perf_counter() - start
    support = next(c.support for c in choice.candidates if c.path == choice.path)
    moved = corners_in_place(model, image, [choice.path])[choice.path]
    order_at, there = in_order(model, image, choice, moved)
    trouble = "; ".join(_troubles(model, image, choice.grid, choice.path, order_at))
    return Finding(
        family,
        name,
        size,
        choice.path,
        choice.layout,
        choice.grid,
        support,
        moved,
        order_at,
        there,
        seconds,
        trouble,
    )


def answer(outputs: Any) -> Tensor:
    """Return the score [1] that speaks for one image's outputs of any kind, as the layer choice takes it."""
    return top_score(outputs, signal=False).reshape(1)


def answer_as_in(outputs: Any) -> Callable[[Any], Tensor]:
    """Return the score [1] of the class that is strongest in ``outputs`` where there are classes."""
    if isinstance(outputs, Tensor) and outputs.ndim == 2:
        strongest = int(outputs.argmax())
        return lambda others: others[:, strongest]
    return answer


def in_order(model: nn.Module, image: Tensor, choice: LayerChoice, moved: Moved) -> tuple[str, Moved]:
    """Return the deepest layer of the chosen one's layout whose corners are in place, and their counts.

    Where every position of a deep layer depends on the whole image (attention, token mixing, wide kernels),
    a corner's change may end up anywhere; the order of positions then shows before that mixing. The chosen
    layer is tried first, then up to 12 that are spread over the depth. Where no layer has all corners of a
    map in place, one that has those of its activations in place is returned.
    """
    if moved == (4, 4):
        return choice.path, moved
    second = (choice.path, moved) if moved.activations == 4 else ("", Moved(0, 0))
    alike = [
        c.path for c in choice.candidates if c.layout == choice.layout and c.path != choice.path and c.support
    ]
    spread = alike[:: max(1, len(alike) // 12)]
    for start in range(0, len(spread), 4):  # all at once would take much memory
        for path, there in corners_in_place(model, image, spread[start : start + 4]).items():
            if there == (4, 4):
                return path, there
            if there.activations == 4 and not second[0]:
                second = path, there
    return second


def _troubles(
    model: nn.Module, image: Tensor, grid: tuple[int, ...], layer: str, order_at: str
) -> Iterator[str]:
    if not fits(grid, image.shape[2:]) or prod(grid) < 2:
        yield f"grid {grid} does not fit"
    for explanation in explain_methods(model, image, METHODS, target=answer, layer=layer):
        if not explanation.maps.isfinite().all():
            yield f"{explanation.method}: not finite"
        elif explanation.maps.std() <= 1e-6 * explanation.maps.abs().max():
            yield f"{explanation.method}: constant"
    if not order_at:
        yield "no layer of this layout has its corners in place"


def corners_in_place(model: nn.Module, image: Tensor, layers: list[str]) -> dict[str, Moved]:
    """Change each corner of the image in turn; count each layer's corners that its own change moves most.

    Counted for the activations, and for the maps of the methods in ``ORDERED``, of which the better counts.
    """
    if not layers:
        return {}
    with explaining(model) as live:
        target = answer_as_in(capture(live, image, [address_of(live, layers[0])]).outputs)
        before, *after = [_seen(live, one, layers, target) for one in _with_changed_corners(image)]
    counts = {}
    for path, still in before.items():
        activations, *maps = [
            _in_place([one[path][kind] - still[kind] for one in after]) for kind in range(len(still))
        ]
        counts[path] = Moved(activations, max(maps))
    return counts


def _in_place(changes: list[Tensor]) -> int:
    """Count the corners, of four, that are moved most by the change in that corner."""
    moved = torch.stack([_by_quadrant(change.square().flatten(0, -3).sum(0)) for change in changes])
    return int((moved.argmax(0) == torch.arange(4)).sum())


def _seen(
    model: nn.Module, image: Tensor, layers: list[str], target: Callable[[Any], Tensor]
) -> dict[str, list[Tensor]]:
    """Return each layer's activations [1, C, *grid] and its maps [1, *grid] of one image."""
    found = capture(model, image, [address_of(model, layer) for layer in layers])
    gradients = found.gradients(found.score(target))
    seen = {}
    for path, layer, gradient in zip(layers, found.layers, gradients, strict=True):
        activations = layer.activations()
        seen[path] = [activations, *(method(activations, gradient) for method in ORDERED)]
    return seen


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
        place = "there" if found.order_at == found.layer else f"`{found.order_at}`: {found.moved_there}"
        lines.append(
            f"| {found.family} | {found.model} | {size} | `{found.layer}` | {found.layout} | {grid} | "
            f"{found.support:.0%} | {found.moved} | {place} | {found.trouble or 'yes'} |"
        )
    return "\n".join(lines)


def draw_anew(model: nn.Module) -> nn.Module:
    """Give a model in eval mode whose parts all take part.

    Some architectures start their last layer, or the scale of their branches, at zero. Nothing could be said
    of such a model, so matrices of zeros are drawn anew and vectors of small constants set to 1.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(std=0.02)
            elif parameter.ndim == 1 and 0 < parameter.abs().amax() < 1e-3:
                parameter.fill_(1.0)
    return model.eval()


Case = tuple[str, str, Callable[[], tuple[nn.Module, tuple[int, ...]]]]
"""A family, its member, and what builds it with the size of its input (channels, height, width)."""


def sweep(cases: Iterable[Case], description: str | None, page: Callable[[list[Finding], str], str]) -> None:
    """Examine every case, print as it goes, and write the page where the command line asks for it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    parser.add_argument("--only", nargs="*", default=[], help="these families alone")
    arguments = parser.parse_args()
    findings = []
    for family, name, build in cases:
        if arguments.only and family not in arguments.only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, size = build()
            findings.append(examine(family, name, model, size))
        found = findings[-1]
        order = f"{found.moved} {found.order_at} {found.moved_there}"
        print(f"{family:24} {found.layer:36} {found.grid} {order} {found.seconds:.2f}s {found.trouble}")
        sys.stdout.flush()
    print(f"{sum(not found.trouble for found in findings)} of {len(findings)} without trouble")
    if arguments.out:
        arguments.out.write_text(page(findings, said_of(findings)), encoding="utf-8")


def said_of(findings: list[Finding]) -> str:
    """Say in words what the table holds and how it was checked, and give the table."""
    usable = sum(not found.trouble for found in findings)
    at_once = sum(found.moved == (4, 4) for found in findings)
    maps = sum(found.moved_there.maps == 4 for found in findings)
    without = "; ".join(found.family for found in findings if found.moved_there.maps < 4)
    return f"""{usable} of {len(findings)} pass every check: a layer is found, its grid fits the input, the
maps of {", ".join(METHODS)} are finite and not constant, and the positions are in order.

For the order, the same patch is added to each corner of the image in turn: each corner must be moved most
by the change in the same corner of the image. "Corners" counts this at the chosen layer, for its
activations and for the map (Grad-CAM's or LayerCAM's, whichever counts more). Both are 4 of 4 there in
{at_once} of them. In the others a change has spread over the image by then; there the order is shown at
a shallower layer of the same layout ("order seen at"), with its counts. So a map's corners are all in
place in {maps}; only the activations' are in the rest: {without or "none"}.

"Support" is the share of the grid's positions that the top score's gradient reaches.

{table(findings)}
"""
