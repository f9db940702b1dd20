"""Run what follows the chosen layer alone, on the smallest member of every timm family: ``make sweep``."""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from benchmarks.layer_checks import draw_anew, smooth_noise
from benchmarks.timm_sweep import families
from torch import Tensor, nn

from whycam.engine import Inputs, address_of, capture, choose_layer, explaining
from whycam.engine.nested import tensors_in
from whycam.engine.suffix import Suffix
from whycam.errors import WhycamError

VARIANTS, FEW = 16, 4
SLOW = 10.0
"""From so many seconds of the processor's for a forward of both images on, there are only a few variants."""
IMAGES = 2
SMALLER = 128
"""The side of the input where a family takes one of any size: it is quicker, and as telling."""


@dataclass(frozen=True)
class Finding:
    """What came out for one family; ``trouble`` says why whole forwards are run, or is empty."""

    family: str
    model: str
    side: int
    layer: str = ""
    read: str = ""
    error: float = 0.0
    noise: float = 0.0
    times: float = 0.0
    trouble: str = ""


def build(name: str) -> tuple[nn.Module, int]:
    """Build a model with random weights, for a small input where it takes one; give the input's side."""
    torch.manual_seed(0)
    model = draw_anew(timm.create_model(name))
    side = int(cast(Any, model).pretrained_cfg["input_size"][1])
    for smaller in (SMALLER, side):
        try:
            with torch.no_grad():
                model(torch.zeros(1, 3, smaller, smaller))
            choose_layer(model, smooth_noise((3, smaller, smaller), seed=1))
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError, WhycamError):
            continue
        return model, smaller
    return model, side


def examine(family: str, name: str) -> Finding:
    """Compare what follows the layer, run alone, with whole forwards, on variants of two images."""
    model, side = build(name)
    images = torch.cat([smooth_noise((3, side, side), seed=1 + number) for number in range(IMAGES)])
    layer = choose_layer(model, images).path
    with explaining(model) as live, torch.no_grad():
        found = capture(live, images, [address_of(live, layer)], suffixes=True)
        suffix = Suffix(live, Inputs.of(images), found.layers[0], found.outputs, found.recordings[0])
        _, forward = _timed(lambda: model(images))
        count = VARIANTS if forward < SLOW else FEW
        suffix.settle()
        if suffix.plan is None:
            return Finding(family, name, side, layer, trouble=suffix.reason)
        rows, variants = _variants(found.layers[0].activations(), count)
        suffix(rows, variants)  # the first run also gets its memory
        alone, quick = _timed(lambda: suffix(rows, variants))
        whole, slow = _timed(lambda: suffix.whole(rows, variants))
        one = suffix.whole(rows[:1], variants[:1])
    leaves = [leaf for step in suffix.plan.leaves for leaf in step]
    read = f"{sum(leaf.read for leaf in leaves)} of {len(leaves)}"
    noise = _distance([tensor[:1] for tensor in _floats(whole)], _floats(one))
    return Finding(
        family, name, side, layer, read, _distance(_floats(alone), _floats(whole)), noise, slow / quick
    )


def _variants(clean: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return variants of both images in turn, each without half of its channels."""
    rows = torch.arange(count) % IMAGES
    generator = torch.Generator().manual_seed(3)
    kept = torch.rand(count, clean.shape[1], generator=generator) > 0.5
    return rows, clean[rows] * kept.view(*kept.shape, *[1] * (clean.ndim - 2))


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what comes out, and the processor's seconds."""
    start = time.process_time()
    return run(), time.process_time() - start


def _floats(outputs: Any) -> list[Tensor]:
    return [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point()]


def _distance(some: list[Tensor], others: list[Tensor]) -> float:
    return max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(some, others, strict=True)
    )


def table(findings: list[Finding]) -> str:
    """Return the findings as a Markdown table."""
    lines = [
        "| family | smallest | input | layer | kept tensors read | deviation | of whole forwards | time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in findings:
        numbers = f"{found.read} | {found.error:.0e} | {found.noise:.0e} | 1/{found.times:.0f}"
        lines.append(
            f"| {found.family} | {found.model} | {found.side} x {found.side} | `{found.layer}` | "
            + (f"whole forwards: {found.trouble} | | |  |" if found.trouble else f"{numbers} |")
        )
    return "\n".join(lines)


def page(findings: list[Finding], left_out: list[str]) -> str:
    """Return the page of the docs."""
    alone = [found for found in findings if not found.trouble]
    omitted = f"Left out, as the slowest: {', '.join(left_out)}.\n\n" if left_out else ""
    times = sorted(found.times for found in alone)
    return f"""# What follows a layer, run alone

timm {timm.__version__}, torch {torch.__version__.split("+")[0]}; random weights from a fixed seed, the
smallest variant of each family, at the layer that is chosen for it. `make sweep` makes this page again.

Ablation-CAM, LIFT-CAM and Recipro-CAM change what a layer returned, and look at the score. What precedes the
layer is the same each time. So one forward records what the parts before the layer returned, and after that
they hand it back instead of running; the layer returns the changed activations, and what follows runs for
real. Once for each model, layer and input size this is proven: a random change of the layer must move the
outputs, and as much as it does in a whole forward. Where it does not, whole forwards are run, and a
warning says so and why.

It works so on {len(alone)} of {len(findings)} families. {VARIANTS} variants of {IMAGES} images ({FEW} where a
forward takes {SLOW:.0f} seconds) then take 1/{times[len(times) // 2]:.0f} of whole forwards' time (the median
of the processor's time; from 1/{times[0]:.1f} to 1/{times[-1]:.0f}).

"Kept tensors read": how many of the outputs before the layer something after them looks at; the others are
not even kept the next time. "Deviation": the outputs' largest difference from whole forwards with the layer's
output replaced, as a share of the largest output. "Of whole forwards": how much these differ from themselves
when one image is run instead of many.

{omitted}{table(findings)}
"""


def main() -> None:
    """Examine every family, print as it goes, and write the page where the command line asks for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    parser.add_argument("--only", nargs="*", default=[], help="these families alone")
    parser.add_argument("--skip", nargs="*", default=[], help="leave these families out")
    arguments = parser.parse_args()
    findings = []
    for family, name in families():
        if family in arguments.skip or (arguments.only and family not in arguments.only):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            findings.append(examine(family, name))
        found = findings[-1]
        print(
            f"{family:24} {found.side} {found.layer:32} {found.read:10} {found.error:.0e} {found.noise:.0e} "
            f"1/{found.times:.1f} {found.trouble}"
        )
        sys.stdout.flush()
        if arguments.out:
            arguments.out.write_text(page(findings, arguments.skip), encoding="utf-8")


if __name__ == "__main__":
    main()
