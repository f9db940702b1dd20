"""Time Grad-CAM and LayerCAM against a bare forward, here and in the older packages: ``make bench``.

All candidates of a setting run in turn in one process, in a new order each round, and every time is divided
by that of the bare forward of the same round: what disturbs the machine disturbs both. Peak memory is taken
in a process of its own for each candidate. Weights are random; speed doesn't depend on them. With
``--device cuda`` and ``--dtype bfloat16`` it does the same on an accelerator.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks import measuring
from benchmarks.measuring import Place, Run
from torch import Tensor, nn

import whycam


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
    return measuring.bare(model)


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


def ratios(place: Place, setting: Setting, batch: int, rounds: int) -> dict[str, list[float]]:
    """Return each candidate's times over the bare forward's; those of the forward itself in seconds."""
    model, images = place.model(setting.name), place.images(batch)
    names = [name for name in candidates(setting) if name != "forward"]
    runs = {name: CANDIDATES[name](model, setting) for name in names}
    found, forwards = measuring.ratios(place, model, images, runs, rounds)
    return {"forward": forwards, **found}


def lines(place: Place, rounds: int) -> Iterator[str]:
    """Measure every setting; give the page's lines, first the times of all, then the memory at batch 8."""
    yield "| model | batch | what | time / forward, median | quartiles |"
    yield "| --- | --- | --- | --- | --- |"
    for setting in SETTINGS:
        for batch in BATCHES:
            for name, values in ratios(place, setting, batch, rounds).items():
                low, middle, high = statistics.quantiles(values, n=4)
                time_taken = f"1 ({middle * 1000:.0f} ms)" if name == "forward" else f"{middle:.3f}"
                spread = "" if name == "forward" else f"{low:.3f} to {high:.3f}"
                yield f"| {setting.title} | {batch} | {name} | {time_taken} | {spread} |"
    yield ""
    yield "| model | batch | what | peak memory, MB |"
    yield "| --- | --- | --- | --- |"
    for setting in SETTINGS:
        for name in candidates(setting):
            memory = measuring.peak_in_process("benchmarks.peers", [setting.name, name, *place.options()])
            yield f"| {setting.title} | {BATCHES[-1]} | {name} | {memory:.0f} |"


def main() -> None:
    """Measure, print, and put the table into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="a Markdown file with <!-- peers --> around the table")
    parser.add_argument("--memory", nargs=2, metavar=("MODEL", "CANDIDATE"), help=argparse.SUPPRESS)
    measuring.add_place(parser)
    arguments = parser.parse_args()
    place = measuring.place_of(arguments)
    warnings.simplefilter("ignore")
    if arguments.memory:
        model_name, name = arguments.memory
        setting = next(setting for setting in SETTINGS if setting.name == model_name)
        run = CANDIDATES[name](place.model(model_name), setting)
        measuring.print_peak(place, run, place.images(BATCHES[-1]))
        return
    made = [place.describe(), ""]
    print(made[0])
    for line in lines(place, arguments.rounds):
        print(line, flush=True)
        made.append(line)
    if arguments.out:
        measuring.put_into(arguments.out, "peers", made)


if __name__ == "__main__":
    main()
