"""Model, images and methods in; figures, intervals and what may be concluded out."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from whycam.engine import Inputs, StageChoice, explaining
from whycam.engine.inputs import with_shared
from whycam.engine.variants import scores_of_images
from whycam.errors import TargetError, UsageError
from whycam.evaluation.controls import CONTROLS, Drawing, control_maps
from whycam.evaluation.curves import Make, Score
from whycam.evaluation.localisation import THRESHOLDS as IOU_THRESHOLDS
from whycam.evaluation.localisation import Masks
from whycam.evaluation.measurements import Measured, Measurement, MeasurementLog, digest
from whycam.evaluation.measuring import LOGIT, PROBABILITY, Batch
from whycam.evaluation.mosaics import Cells
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import Metric, find_metrics
from whycam.evaluation.sanity import randomised
from whycam.evaluation.summary import Evaluation
from whycam.evaluation.twins import Maps, twins_of
from whycam.explainer import Preparing, explain_methods, ready
from whycam.explanation import Explanation
from whycam.methods import Smoothing
from whycam.targets import ClassPerImage, Probability, Target, TargetLike, TopClass, as_target, logits_of
from whycam.types import Classes, Images, Map, Rows

Progress: TypeAlias = Callable[[int, int], None]
LayerPaths: TypeAlias = str | Sequence[str] | StageChoice | None
BATCH = 16


@dataclass(frozen=True)
class Settings:
    """How an evaluation measures: metrics, steps of the curves, the seed of controls, noise and intervals."""

    metrics: tuple[Metric, ...]
    steps: int = 20
    seed: int = 0


def evaluate(
    model: nn.Module | Preparing,
    images: Any,
    methods: Sequence[str] = ("gradcam",),
    *,
    target: TargetLike = None,
    layer: str | Sequence[str] | None = None,
    metrics: Sequence[str | Metric] | None = None,
    masks: Masks | None = None,
    cells: Cells | None = None,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = BATCH,
    keep: Path | None = None,
    progress: Progress = lambda finished, planned: None,
) -> Evaluation:
    """Explain images by methods and by the controls, and measure how far the maps can be trusted.

    ``model``, ``images``, ``target`` and ``layer`` (paths) as for ``explain``; ``masks`` [B, *size] are
    nonzero on the object, in the images as the model sees them. ``metrics`` are names from ``METRICS``,
    or metrics themselves, such as ``dataclasses.replace(METRICS["srg"], fills=("zero",))``; without them the
    usual ones. All curves, fills and scales come from shared forwards: ``Evaluation.plan`` says how many.
    With ``keep``, figures are written to that file as they are made, and an evaluation that was killed goes
    on behind them. Nothing depends on ``batch_size`` but the memory. Raises a WhycamError.
    """
    module, inputs, prepared = ready(model, images)
    _check(methods, inputs, masks, batch_size)
    settings = Settings(find_metrics(metrics, masks=masks is not None), steps, seed)
    names = (
        [str(name) for name in prepared.names] if prepared else [f"image {at}" for at in range(len(inputs))]
    )
    asked = [name for name in methods if name not in CONTROLS]
    plan = Plan(settings.metrics, len(asked) + len(CONTROLS), steps, inputs.images.ndim - 2)
    whole = as_target(target, len(inputs))
    log_of = _log(keep, settings, asked, names, whole, layer, module, (inputs.images, masks, cells))
    with explaining(module) as live, log_of as log:
        inputs = with_shared(live, inputs)
        subject = Subject(live, asked, layer, settings)
        measured = log.known if log else Measured()
        progress(len(measured), len(inputs))
        for start in range(len(measured), len(inputs), batch_size):
            stop = min(len(inputs), start + batch_size)
            numbers = range(start, stop)
            part = Part(numbers, names[start:stop], inputs.part(start, stop), whole.part(start, stop))
            part = replace(part, masks=_cut(masks, start, stop), cells=_cut(cells, start, stop))
            (log or measured).add(subject.measure(part, plan))
            progress(stop, len(inputs))
    return Evaluation(plan, measured, seed)


def _check(methods: Sequence[str], inputs: Inputs, masks: Masks | None, batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; expected at least 1")
    if isinstance(methods, str) or not all(isinstance(name, str) for name in methods) or not methods:
        raise UsageError(
            f"methods are {methods!r}; expected a sequence of at least one name, such as ['gradcam']"
        )
    if masks is not None and tuple(masks.shape) != (len(inputs), *inputs.images.shape[2:]):
        raise UsageError(
            f"masks are {list(masks.shape)} for images {list(inputs.images.shape)}; expected one mask an "
            f"image of the size that the model sees, {[len(inputs), *inputs.images.shape[2:]]}"
        )


def _cut(values: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if values is None else values[start:stop]


def _log(
    keep: Path | None,
    settings: Settings,
    methods: Sequence[str],
    names: Sequence[str],
    target: Target,
    layer: str | Sequence[str] | None,
    module: nn.Module,
    given: Sequence[Tensor | None],
) -> Any:
    """Return the log of these settings, of this model's weights and of these images; none without a place."""
    if keep is None:
        return nullcontext()
    told = {
        "model weights": digest([*module.parameters(), *module.buffers()]),
        "pictures": digest(each for each in given if each is not None),
        "metrics": [metric.told for metric in settings.metrics],
        "steps": settings.steps,
        "seed": settings.seed,
        "methods": list(methods),
        "images": list(names),
        "target": target.describe(),
        "layer": layer if layer is None or isinstance(layer, str) else list(layer),
    }
    return MeasurementLog(keep, told)


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the images: their numbers in the run, their names, and what goes with them."""

    numbers: Sequence[int]
    names: Sequence[str]
    inputs: Inputs
    target: Target
    masks: Masks | None = None
    cells: Cells | None = None


@dataclass(eq=False)
class Subject:
    """What is evaluated: a model, methods and their layer. ``module`` comes from ``explaining``."""

    module: nn.Module
    methods: Sequence[str]
    layer: LayerPaths
    settings: Settings
    smoothing: Smoothing | None = None
    _random: nn.Module | None = field(default=None, repr=False)

    def measure(self, part: Part, plan: Plan) -> list[Measurement]:
        """Explain and measure one part; a measurement an image and method."""
        explained = self.explanations(self.module, part.inputs, part.target)
        return self.measure_maps(
            part, plan, {one.method: one.maps for one in explained}, explained[0].outputs
        )

    def measure_maps(self, part: Part, plan: Plan, maps: Maps, outputs: Any) -> list[Measurement]:
        """Measure maps that are there already, beside the controls' ones."""
        images = part.inputs.images
        grid = next((tuple(each.shape[1:]) for each in maps.values()), tuple(images.shape[2:]))
        drawing = Drawing(grid, part.numbers, self.settings.seed)
        own = {name: each for name, each in maps.items() if name not in CONTROLS}
        targets = scored_targets(part.target.pin(outputs), outputs)
        controls = control_maps(images, drawing)
        again = ExplainedAgain(self, part, own, drawing, targets[0], outputs)
        batch = Batch(
            images,
            {**own, **controls},
            score_of(self.module, part.inputs, targets),
            (LOGIT, PROBABILITY)[: len(targets)],
            masks=part.masks,
            cells=part.cells,
            again=again,
            steps=self.settings.steps,
            seed=self.settings.seed,
            twins=twins_of({**own, **controls}),
        )
        return _on_the_host(batch, part, plan)

    def explanations(self, module: nn.Module, inputs: Inputs, target: Target) -> list[Explanation]:
        """Explain by all methods; by a control where there is none, for its outputs."""
        methods = list(self.methods) or ["centre"]
        return explain_methods(
            module, inputs, methods, target=target, layer=self.layer, smoothing=self.smoothing
        )

    def random_copy(self) -> nn.Module:
        """Return the copy of the model with random weights, made at its first use."""
        if self._random is None:
            self._random = randomised(self.module, seed=self.settings.seed)
        return self._random


def score_of(module: nn.Module, inputs: Inputs, targets: Sequence[Target]) -> Score:
    """Return what scores changed copies of a batch's images, all targets from one forward of each.

    No autograd; in plain no-grad mode, since what a model keeps from an inference-mode forward (a mask, a
    table of positions) could not be used in training later.
    """

    def score(rows: Rows, make: Make) -> Tensor:
        found = scores_of_images(module, inputs, targets, rows, make)
        return found if found.dtype == torch.float64 else found.float()

    return score


def scored_targets(target: Target, outputs: Any) -> tuple[Target, ...]:
    """Return the pinned target, and its class's probability where outputs are class scores."""
    if not target.of_class_scores():
        return (target,)
    try:
        classes, logits = target.classes(outputs), logits_of(outputs)
    except TargetError:
        return (target,)
    if classes is None or logits.ndim != 2:
        return (target,)
    activation: Literal["softmax", "sigmoid"] = "softmax" if logits.shape[1] > 1 else "sigmoid"
    return (target, Probability(ClassPerImage(classes), activation))


@dataclass(eq=False)
class ExplainedAgain:
    """Explains a part again after something changed; a control's map only changes with the images."""

    subject: Subject
    part: Part
    maps: Maps
    drawing: Drawing
    target: Target
    outputs: Any

    def randomised(self) -> Maps:
        """Return the maps of the copy with random weights, for the same classes."""
        return self._explained(self.subject.random_copy(), self.part.inputs, self.target)

    def rival(self) -> Maps:
        """Return the maps of the likeliest class that is not explained."""
        classes, logits = self.target.classes(self.outputs), logits_of(self.outputs)
        if classes is None or logits.shape[1] < 2:
            raise UsageError("contrast compares two classes; explain a class of a model with at least two")
        others = logits.detach().scatter(1, classes.unsqueeze(1), -torch.inf)
        return self._explained(self.subject.module, self.part.inputs, ClassPerImage(others.argmax(1)))

    def predictions(self) -> Classes:
        """Return the top classes of the images as they are."""
        return TopClass().classes(self.outputs)

    def of(self, images: Images) -> tuple[Maps, Classes]:
        """Return the maps of changed images for the same classes, and their top classes."""
        found = self.subject.explanations(self.subject.module, self._with(images), self.target)
        maps = {one.method: one.maps for one in found if one.method not in CONTROLS}
        return {**maps, **control_maps(images, self.drawing)}, TopClass().classes(found[0].outputs)

    def by(self, method: str, images: Images) -> Map:
        """Return one method's maps of changed images."""
        if method in CONTROLS:
            return CONTROLS[method](images, self.drawing)
        only = replace(self.subject, methods=[method])
        return only.explanations(self.subject.module, self._with(images), self.target)[0].maps

    def _explained(self, module: nn.Module, inputs: Inputs, target: Target) -> Maps:
        maps = control_maps(inputs.images, self.drawing)
        found = self.subject.explanations(module, inputs, target) if self.subject.methods else []
        return {**maps, **{one.method: one.maps for one in found}}

    def _with(self, images: Images) -> Inputs:
        return self.part.inputs.with_images(images)


def _on_the_host(batch: Batch, part: Part, plan: Plan) -> list[Measurement]:
    """Measure, and bring a method's figures over in one transfer."""
    evidence = _evidence(batch, plan)
    rows = []
    for found in batch.each(plan.metrics):
        facts = batch.facts(found.method)
        columns = dict(_flat(found.figures))
        table = [facts.ties, facts.blank, facts.broken, evidence, *columns.values()]
        host = torch.stack([each.double() for each in table], 1).tolist()
        curves = {name: course.float().tolist() for name, course in found.courses.items()}
        rows += [
            Measurement(
                number=part.numbers[at],
                image=name,
                method=found.method,
                figures=dict(zip(columns, values[4:], strict=True)),
                ties=values[0],
                blank=bool(values[1]),
                broken=bool(values[2]),
                evidence=values[3],
                curves={order: points[at] for order, points in curves.items()},
            )
            for at, (name, values) in enumerate(zip(part.names, host, strict=True))
        ]
    return rows


def _evidence(batch: Batch, plan: Plan) -> Tensor:
    """Return the probability that is lost with the whole image [B]; NaN where there is none."""
    if PROBABILITY not in batch.scales:
        return torch.full_like(batch.clean[0], math.nan)
    return batch.probability(batch.clean) - batch.probability(batch.removed(plan.evidence_fill))


def _flat(figures: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Give a column a threshold where a metric has several."""
    found = []
    for column, values in figures.items():
        if values.ndim == 1:
            found.append((column, values))
            continue
        found += [
            (f"{column}@{share:g}", each)
            for share, each in zip(IOU_THRESHOLDS, values.unbind(1), strict=True)
        ]
    return found
