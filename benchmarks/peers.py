"""Time Grad-CAM and LayerCAM against a bare forward, here and in the older packages: ``make bench``.

All candidates of a setting run in turn in one process, in a new order each round, and every time is divided
by that of the bare forward of the same round: what disturbs the machine disturbs both. Peak memory is taken
in a process of its own for each candidate. Weights are random; speed doesn't depend on them.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import timm
import torch
from torch import Tensor, nn

import whycam

Run = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Setting:
    """A model, the layer that every package is given, and how its tokens become a grid (None: NCHW)."""

    title: str
    name: str
    layer: str
    tokens: tuple[int, int] | None = None


SETTINGS = (
    Setting("ResNet-50", "resnet50", "layer4"),
    Setting("MobileNetV3-L", "mobilenetv3_large_100", "blocks.6"),
    Setting("ViT-S/16", "vit_small_patch16_224", "blocks.10", (14, 14)),
)
BATCHES = (1, 8)
TARGET = 7


def bare(model: nn.Module, setting: Setting) -> Run:
    """Return a forward without autograd, as a prediction is made."""

    def run(images: Tensor) -> Any:
        with torch.no_grad():
            return model(images)

    return run


def channels_last(model: nn.Module, setting: Setting) -> Run:
    """Return a forward without autograd on images whose channels are put last in memory.

    whycam does the same with a large batch, and part of its speed comes from there; this shows how much.
    """

    def run(images: Tensor) -> Any:
        with torch.no_grad():
            return model(images.contiguous(memory_format=torch.channels_last))

    return run


def ours(method: str) -> Callable[[nn.Module, Setting], Run]:
    """Return whycam's method, heatmaps at the images' size included."""

    def make(model: nn.Module, setting: Setting) -> Run:
        return lambda images: whycam.explain(
            model, images, method=method, target=TARGET, layer=setting.layer
        ).heatmaps()

    return make


def gradcam_package(name: str) -> Callable[[nn.Module, Setting], Run]:
    """Return the method of the package grad-cam."""

    def make(model: nn.Module, setting: Setting) -> Run:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def to_grid(tokens: Tensor) -> Tensor:
            assert setting.tokens is not None
            rows, columns = setting.tokens
            return tokens[:, 1:].reshape(len(tokens), rows, columns, -1).permute(0, 3, 1, 2)

        layers, reshape = [model.get_submodule(setting.layer)], to_grid if setting.tokens else None

        def run(images: Tensor) -> Any:
            # As a context, so that its hooks don't stay on the model that all candidates share.
            with getattr(pytorch_grad_cam, name)(model, layers, reshape) as explainer:
                return explainer(images, [ClassifierOutputTarget(TARGET)] * len(images))

        return run

    return make


def torchcam_package(name: str) -> Callable[[nn.Module, Setting], Run]:
    """Return the method of the package torchcam; its maps stay at the layer's resolution."""

    def make(model: nn.Module, setting: Setting) -> Run:
        import torchcam.methods

        def run(images: Tensor) -> Any:
            with getattr(torchcam.methods, name)(model, target_layer=setting.layer) as extractor:
                return extractor([TARGET] * len(images), model(images.requires_grad_()))

        return run

    return make


def captum_package(model: nn.Module, setting: Setting) -> Run:
    """Return captum's Grad-CAM; its maps stay at the layer's resolution."""
    from captum.attr import LayerGradCam

    explainer = LayerGradCam(model, model.get_submodule(setting.layer))
    return lambda images: explainer.attribute(images, target=TARGET)


CANDIDATES: dict[str, Callable[[nn.Module, Setting], Run]] = {
    "forward": bare,
    "forward, channels last": channels_last,
    "whycam gradcam": ours("gradcam"),
    "grad-cam GradCAM": gradcam_package("GradCAM"),
    "torchcam GradCAM": torchcam_package("GradCAM"),
    "captum LayerGradCam": captum_package,
    "whycam layercam": ours("layercam"),
    "grad-cam LayerCAM": gradcam_package("LayerCAM"),
    "torchcam LayerCAM": torchcam_package("LayerCAM"),
}
# These two read the middle axes of NLC tokens as channels: they run, but what they give is no map.
WITHOUT_TOKENS = ("torchcam GradCAM", "torchcam LayerCAM", "captum LayerGradCam")


def candidates(setting: Setting) -> list[str]:
    """Return the candidates that can do this model."""
    return [name for name in CANDIDATES if not (setting.tokens and name in WITHOUT_TOKENS)]


def build(setting: Setting) -> nn.Module:
    """Return the model with random weights, in eval mode."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(setting.name).eval()
    return model


def ratios(setting: Setting, batch: int, rounds: int) -> dict[str, list[float]]:
    """Return each candidate's times divided by the bare forward's of the same round."""
    model = build(setting)
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    runs = {name: CANDIDATES[name](model, setting) for name in candidates(setting)}
    for run in runs.values():
        for _ in range(2):
            run(images.clone())
    found: dict[str, list[float]] = {name: [] for name in runs}
    shuffle = random.Random(0)
    for _ in range(rounds):
        order = [name for name in runs if name != "forward"]
        shuffle.shuffle(order)
        for name in order:  # each is paired with a forward of its own, now before it and now after it
            pair = ["forward", name]
            shuffle.shuffle(pair)
            taken = {each: _seconds(runs[each], images.clone()) for each in pair}
            found[name].append(taken[name] / taken["forward"])
            found["forward"].append(taken["forward"])
    return found


def _seconds(run: Run, images: Tensor) -> float:
    start = time.perf_counter()
    run(images)
    return time.perf_counter() - start


def peak_memory(setting: Setting, batch: int, name: str) -> float:
    """Return by how many MB the process grew at most above the loaded model, measured in a new process."""
    command = [sys.executable, "-m", "benchmarks.peers", "--memory", setting.name, str(batch), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _memory_here(model_name: str, batch: int, name: str) -> float:
    setting = next(setting for setting in SETTINGS if setting.name == model_name)
    model = build(setting)
    run = CANDIDATES[name](model, setting)
    images = torch.randn(batch, 3, 224, 224)
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        run(images.clone())
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return float(peak - before) / 2**20


def lines(rounds: int) -> Iterator[str]:
    """Measure every setting; give the page's lines, first the times of all, then the memory at batch 8."""
    yield "| model | batch | what | time / forward, median | quartiles |"
    yield "| --- | --- | --- | --- | --- |"
    for setting in SETTINGS:
        for batch in BATCHES:
            for name, values in ratios(setting, batch, rounds).items():
                low, middle, high = statistics.quantiles(values, n=4)
                time_taken = f"1 ({middle * 1000:.0f} ms)" if name == "forward" else f"{middle:.3f}"
                spread = "" if name == "forward" else f"{low:.3f} to {high:.3f}"
                yield f"| {setting.title} | {batch} | {name} | {time_taken} | {spread} |"
    yield ""
    yield "| model | batch | what | peak memory, MB |"
    yield "| --- | --- | --- | --- |"
    for setting in SETTINGS:
        for name in candidates(setting):
            memory = peak_memory(setting, BATCHES[-1], name)
            yield f"| {setting.title} | {BATCHES[-1]} | {name} | {memory:.0f} |"


def machine() -> str:
    """Name the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1] for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0].strip() if names else cpu
    packages = ("torch", "timm", "grad-cam", "torchcam", "captum")
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in packages)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; {torch.get_num_threads()} threads; "
        f"{platform.system()}, Python {platform.python_version()}; {versions}."
    )


def main() -> None:
    """Measure, print, and put the table into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="a Markdown file with <!-- peers --> around the table")
    parser.add_argument("--memory", nargs=3, metavar=("MODEL", "BATCH", "CANDIDATE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.memory:
        model, batch, name = arguments.memory
        print(json.dumps(_memory_here(model, int(batch), name)))
        return
    made = [machine(), ""]
    print(made[0])
    for line in lines(arguments.rounds):
        print(line, flush=True)
        made.append(line)
    if arguments.out:
        page = arguments.out.read_text(encoding="utf-8")
        before, _, rest = page.partition("<!-- peers -->")
        _, _, after = rest.partition("<!-- peers -->")
        table = "\n".join(made)
        arguments.out.write_text(f"{before}<!-- peers -->\n{table}\n<!-- peers -->{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
