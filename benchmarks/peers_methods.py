"""Time and compare single methods with the older packages that have them: ``make bench``.

Each task is one piece of work that whycam and at least one other package can do, measured as in
``benchmarks.peers``. Beside time and memory stands how far the others' maps agree with ours: Pearson's
correlation of what each gives, at the images' size.
"""

import argparse
import contextlib
import functools
import io
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks import measuring
from benchmarks.measuring import Place, Run
from torch import Tensor, nn

import whycam
from whycam.methods import METHODS

TARGET = 7
FIVE_CLASSES = (7, 99, 200, 401, 950)
FIVE_METHODS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
STAGES = ("layer1", "layer2", "layer3", "layer4")
STEPS = 50
Make = Callable[[nn.Module], Run]


@dataclass(frozen=True)
class Task:
    """One piece of work: on which model and batch, by whom, ours first; ``rounds`` as many as time allows.

    ``slow`` candidates, which take thousands of forwards, run once.
    """

    title: str
    model: str
    batch: int
    candidates: Mapping[str, Make] = field(repr=False)
    rounds: int
    slow: tuple[str, ...] = ()


def ours(method: str, layer: Any = "layer4", **options: Any) -> Make:
    """Return whycam's method for one class, as heatmaps of the images' size."""

    def make(model: nn.Module) -> Run:
        return lambda images: whycam.explain(
            model, images, method=method, target=TARGET, layer=layer, **options
        ).heatmaps()

    return make


def ours_signed(method: Any) -> Make:
    """Return whycam's signed attributions of the pixels."""

    def make(model: nn.Module) -> Run:
        return lambda images: whycam.explain(model, images, method=method, target=TARGET).maps

    return make


def integrated(model: nn.Module) -> Run:
    """Return whycam's integrated gradients with the number of steps that the others get."""
    with_steps = functools.partial(METHODS["integrated"].function, steps=STEPS)
    return ours_signed(with_steps)(model)


def gradcam_package(name: str, layers: tuple[str, ...] = ("layer4",), **options: Any) -> Make:
    """Return a method of the package grad-cam; its progress bars are not printed."""

    def make(model: nn.Module) -> Run:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        parts = [model.get_submodule(layer) for layer in layers]

        def run(images: Tensor) -> Any:
            with (
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.redirect_stdout(io.StringIO()),
                getattr(pytorch_grad_cam, name)(model, parts) as explainer,
            ):
                targets = [ClassifierOutputTarget(TARGET)] * len(images)
                return torch.from_numpy(explainer(images, targets, **options))

        return run

    return make


def gradcam_flip(model: nn.Module) -> Run:
    """Return grad-cam's Grad-CAM averaged over the image and its mirror image."""
    import pytorch_grad_cam
    import ttach  # comes with grad-cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    views = ttach.Compose([ttach.HorizontalFlip()])

    def run(images: Tensor) -> Any:
        parts = [model.get_submodule("layer4")]
        with pytorch_grad_cam.GradCAM(model, parts) as explainer:
            explainer.tta_transforms = views  # by default it takes three brightnesses of each, too
            targets = [ClassifierOutputTarget(TARGET)] * len(images)
            return torch.from_numpy(explainer(images, targets, aug_smooth=True))

    return run


def torchcam_package(name: str, layers: Any = "layer4") -> Make:
    """Return a method of the package torchcam, at the images' size."""

    def make(model: nn.Module) -> Run:
        import torchcam.methods

        def run(images: Tensor) -> Any:
            with getattr(torchcam.methods, name)(model, target_layer=layers) as extractor:
                maps = extractor([TARGET] * len(images), model(images.requires_grad_()))
                found = extractor.fuse_cams(maps) if len(maps) > 1 else maps[0]
            return _resized(found, images)

        return run

    return make


def five_classes(model: nn.Module) -> Run:
    """Return whycam's Grad-CAM of five classes in one call."""
    return lambda images: torch.cat(
        [one.heatmaps() for one in whycam.explain_targets(model, images, FIVE_CLASSES, layer="layer4")]
    )


def five_classes_gradcam(model: nn.Module) -> Run:
    """Return grad-cam's Grad-CAM, called for each class."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def run(images: Tensor) -> Any:
        with pytorch_grad_cam.GradCAM(model, [model.get_submodule("layer4")]) as explainer:
            found = [explainer(images, [ClassifierOutputTarget(c)] * len(images)) for c in FIVE_CLASSES]
        return torch.cat([torch.from_numpy(maps) for maps in found])

    return run


def five_classes_torchcam(model: nn.Module) -> Run:
    """Return torchcam's Grad-CAM: one forward, whose graph is kept for five backwards."""
    import torchcam.methods

    def run(images: Tensor) -> Any:
        with torchcam.methods.GradCAM(model, target_layer="layer4") as extractor:
            scores = model(images.requires_grad_())
            found = [extractor([c] * len(images), scores, retain_graph=True)[0] for c in FIVE_CLASSES]
        return torch.cat([_resized(maps, images) for maps in found])

    return run


def five_classes_captum(model: nn.Module) -> Run:
    """Return captum's Grad-CAM, called for each class."""
    from captum.attr import LayerGradCam

    explainer = LayerGradCam(model, model.get_submodule("layer4"))

    def run(images: Tensor) -> Any:
        found = [explainer.attribute(images, target=c, relu_attributions=True) for c in FIVE_CLASSES]
        return torch.cat([_resized(maps[:, 0], images) for maps in found])

    return run


def five_methods(model: nn.Module) -> Run:
    """Return five gradient CAMs of one class in one call of whycam."""
    from whycam.explainer import explain_methods

    def run(images: Tensor) -> Any:
        found = explain_methods(model, images, FIVE_METHODS, target=TARGET, layer="layer4")
        return torch.cat([one.heatmaps() for one in found])

    return run


def five_methods_gradcam(model: nn.Module) -> Run:
    """Return the same five of grad-cam, each on its own."""
    names = ("GradCAM", "GradCAMPlusPlus", "XGradCAM", "HiResCAM", "LayerCAM")
    runs = [gradcam_package(name)(model) for name in names]
    return lambda images: torch.cat([run(images) for run in runs])


def captum_integrated(model: nn.Module) -> Run:
    """Return captum's integrated gradients, 8 points at once so that memory stays near ours."""
    from captum.attr import IntegratedGradients

    explainer = IntegratedGradients(model)

    def run(images: Tensor) -> Any:
        return explainer.attribute(images, target=TARGET, n_steps=STEPS, internal_batch_size=8).sum(1)

    return run


def captum_guided(model: nn.Module) -> Run:
    """Return captum's guided backprop."""
    from captum.attr import GuidedBackprop

    explainer = GuidedBackprop(model)
    return lambda images: explainer.attribute(images.requires_grad_(), target=TARGET).sum(1)


def gradcam_guided(model: nn.Module) -> Run:
    """Return grad-cam's guided backprop; of a batch it explains the first image only."""
    from pytorch_grad_cam import GuidedBackpropReLUModel

    explainer = GuidedBackpropReLUModel(model, "cpu")

    def run(images: Tensor) -> Any:
        found = torch.from_numpy(explainer(images, TARGET).copy())
        return found.movedim(-1, 0).sum(0, keepdim=True)

    return run


def _resized(maps: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(maps[:, None].float(), size=images.shape[2:], mode="bilinear", align_corners=False)[
        :, 0
    ]


TASKS = (
    Task(
        "Grad-CAM++",
        "resnet50",
        8,
        {
            "whycam": ours("gradcam++"),
            "grad-cam": gradcam_package("GradCAMPlusPlus"),
            "torchcam": torchcam_package("GradCAMpp"),
        },
        9,
    ),
    Task(
        "five gradient CAMs of one image",
        "resnet50",
        1,
        {"whycam": five_methods, "grad-cam": five_methods_gradcam},
        15,
    ),
    Task(
        "Grad-CAM of five classes",
        "resnet50",
        1,
        {
            "whycam": five_classes,
            "grad-cam": five_classes_gradcam,
            "torchcam": five_classes_torchcam,
            "captum": five_classes_captum,
        },
        15,
    ),
    Task(
        "LayerCAM of four layers, fused",
        "resnet50",
        8,
        {
            "whycam": ours("layercam", STAGES),
            "grad-cam": gradcam_package("LayerCAM", STAGES),
            "torchcam": torchcam_package("LayerCAM", list(STAGES)),
        },
        9,
    ),
    Task(
        "Grad-CAM, flip smoothing",
        "resnet50",
        8,
        {"whycam": ours("gradcam", smoothing=whycam.FlipAverage()), "grad-cam": gradcam_flip},
        9,
    ),
    Task(
        "Ablation-CAM",
        "resnet50",
        1,
        {"whycam": ours("ablationcam"), "grad-cam": gradcam_package("AblationCAM")},
        9,
        ("grad-cam",),
    ),
    Task(
        "Score-CAM",
        "resnet18",
        1,
        {
            "whycam": ours("scorecam"),
            "grad-cam": gradcam_package("ScoreCAM"),
            "torchcam": torchcam_package("ScoreCAM"),
        },
        3,
    ),
    Task("FullGrad", "resnet50", 1, {"whycam": ours("fullgrad"), "grad-cam": gradcam_package("FullGrad")}, 9),
    Task(
        f"integrated gradients, {STEPS} steps",
        "resnet18",
        1,
        {"whycam": integrated, "captum": captum_integrated},
        5,
    ),
    Task(
        "guided backprop",
        "resnet50",
        8,
        {"whycam": ours_signed("guidedbackprop"), "captum": captum_guided, "grad-cam": gradcam_guided},
        5,
    ),
)


def _keeping(maps: dict[str, Any], name: str, run: Run) -> Run:
    """Return the run that also puts what it gives where it is asked to."""

    def kept(images: Tensor) -> Any:
        maps[name] = run(images)
        return maps[name]

    return kept


def agreement(maps: Mapping[str, Tensor]) -> dict[str, float]:
    """Return how far each candidate's maps agree with ours, of as many images as it gives."""
    values = {name: found.detach().cpu().double() for name, found in maps.items()}
    return {name: _correlation(found, values["whycam"][: len(found)]) for name, found in values.items()}


def _correlation(maps: Tensor, ours: Tensor) -> float:
    """Return Pearson's correlation of each map with ours, averaged over the maps."""
    pairs = torch.stack([maps.flatten(1), ours.flatten(1)], 1)
    found = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    return float(found.nanmean())  # a constant map, such as one without any evidence, correlates with nothing


def lines(place: Place, tasks: tuple[Task, ...]) -> Iterator[str]:
    """Measure every task; give the table's lines."""
    yield "| task | model | batch | what | time / forward | quartiles | peak memory, MB | maps agree |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for task in tasks:
        model, images = place.model(task.model), place.images(task.batch)
        maps: dict[str, Any] = {}
        runs = {name: _keeping(maps, name, make(model)) for name, make in task.candidates.items()}
        quick = {name: run for name, run in runs.items() if name not in task.slow}
        found, _ = measuring.ratios(place, model, images, quick, task.rounds)
        found |= measuring.ratios(place, model, images, {n: runs[n] for n in task.slow}, 1)[0]
        agree = agreement(maps)
        for name, values in found.items():
            middle = statistics.median(values)
            quartiles = "once"
            if len(values) > 1:
                low, _, high = statistics.quantiles(values, n=4)
                quartiles = f"{low:.3g} to {high:.3g}"
            memory = "not measured"
            if name not in task.slow:
                arguments = [task.title, name, *place.options()]
                memory = f"{measuring.peak_in_process('benchmarks.peers_methods', arguments):.0f}"
            what = f"| {task.title} | {task.model} | {task.batch} | {name} "
            time = f"| {middle:.3g} | {quartiles} "
            yield f"{what}{time}| {memory} | {agree[name]:.4f} |"


def main() -> None:
    """Measure, print, and put the table into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="titles of tasks")
    parser.add_argument("--out", type=Path, help="a Markdown file with <!-- methods --> around the table")
    parser.add_argument("--memory", nargs=2, metavar=("TASK", "CANDIDATE"), help=argparse.SUPPRESS)
    measuring.add_place(parser)
    arguments = parser.parse_args()
    place = measuring.place_of(arguments)
    warnings.simplefilter("ignore")
    if arguments.memory:
        title, name = arguments.memory
        task = next(task for task in TASKS if task.title == title)
        run = task.candidates[name](place.model(task.model))
        measuring.print_peak(place, run, place.images(task.batch), times=1 if task.rounds <= 3 else 3)
        return
    chosen = tuple(task for task in TASKS if not arguments.only or task.title in arguments.only)
    if not chosen:
        sys.exit(f"no such task; there are {', '.join(repr(task.title) for task in TASKS)}")
    made = [place.describe(), ""]
    for line in lines(place, chosen):
        print(line, flush=True)
        made.append(line)
    if arguments.out:
        measuring.put_into(arguments.out, "methods", made)


if __name__ == "__main__":
    main()
