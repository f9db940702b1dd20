"""Time and compare deletion curves and ROAD with the packages that have them: ``make bench``.

The maps are explained once, before anything is timed. All candidates of a turn (a few images) run in one
process, in a new order each time, each right before or after as many bare forwards as it needs: what disturbs
the machine disturbs both. Weights are random; neither speed nor agreement depends on them.
"""

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from benchmarks import measuring
from benchmarks.measuring import Place, Run
from torch import Tensor, nn

import whycam
from whycam.engine import Inputs, explaining
from whycam.engine.variants import images_at_once
from whycam.evaluation import Plan, fills
from whycam.evaluation.curves import Curves, clean_scores, curves_of, deletion, removed_scores, road
from whycam.evaluation.evaluate import score_of
from whycam.evaluation.fills import Filled, Filler, Kept
from whycam.evaluation.measuring import LOGIT, PROBABILITY, Batch
from whycam.evaluation.ranking import correlation, importance, removal_ranks
from whycam.evaluation.registry import Metric, find_metrics
from whycam.targets import ClassPerImage, Probability
from whycam.types import Heatmaps, Images, Map, Rows

SIZE = 224
TARGET = 7
SCALES = (LOGIT, PROBABILITY)
THREE = ("insertion", "deletion", "srg")
ONE_FILL, TWO_FILLS = ("blur",), ("blur", "push-pull")
ROAD_STEPS = 10
PERCENTILES = [10, 20, 30, 40, 50, 60, 70, 80, 90]
"""grad-cam's own for ROAD; the shares that ten steps remove between the ends."""
FEW = 4
"""Images of a turn: a candidate and its bare forwards must follow each other soon."""
SLOW_TURNS = 2
"""Turns of what takes seconds an image."""
SOME = 8
"""Images for the agreement."""
LONGER = 20
"""Times our iterations, until the imputed pixels change by less than 0.001."""
BARE = "bare forwards, the usual memory order"
OURS = "whycam: insertion, deletion, SRG; blur"
FLIPPING = "Quantus PixelFlipping, its minimum"
ROAD, THEIR_ROAD = "whycam: ROAD", "grad-cam ROADCombined"


@dataclass(frozen=True, eq=False)
class Part:
    """Images with their maps, explained beforehand, and the model; everybody scores the same class."""

    place: Place
    model: nn.Module
    images: Images
    maps: Map
    heatmaps: Heatmaps

    def first(self, count: int) -> "Part":
        """Return the first images alone."""
        cut = slice(count)
        return replace(self, images=self.images[cut], maps=self.maps[cut], heatmaps=self.heatmaps[cut])

    @property
    def important(self) -> Heatmaps:
        """The signed maps at the images' size, as whycam ranks them."""
        return importance(self.maps, self.images.shape[2:])

    @property
    def targets(self) -> tuple[ClassPerImage, Probability]:
        """The class's score and its probability."""
        of_class = ClassPerImage(torch.full((len(self.images),), TARGET, device=self.images.device))
        return of_class, Probability(of_class)


def make_parts(place: Place, model: nn.Module, layer: str, count: int, at_once: int) -> list[Part]:
    """Explain noise images by Grad-CAM; cut them into turns."""
    parts = []
    for images in torch.split(place.images(count, SIZE), at_once):
        found = whycam.explain(model, images, method="gradcam", target=TARGET, layer=layer)
        parts.append(Part(place, model, images, found.maps, found.heatmaps()))
    return parts


# --- whycam


def metrics_of(names: Sequence[str], under: tuple[str, ...]) -> tuple[Metric, ...]:
    """Return the metrics under these fills alone."""
    return tuple(replace(metric, fills=under) for metric in find_metrics(names, masks=False))


def ours(part: Part, metrics: tuple[Metric, ...], steps: int) -> dict[str, list[float]]:
    """Measure everything but the explanation: ranking, filling, scoring, and the figures on the host."""
    with explaining(part.model) as module:
        score = score_of(module, Inputs.of(part.images), part.targets)
        found = Batch(part.images, {"gradcam": part.maps}, score, SCALES, steps=steps).figures(metrics)
    columns = found["gradcam"]
    table = torch.stack(list(columns.values())).tolist()
    return dict(zip(columns, table, strict=True))


def our_curves(part: Part, filler: Filler, ranks: Tensor, steps: int) -> Curves:
    """Return whycam's curves for any ranking of what the filler removes, pixels or single features."""
    images = part.images
    with explaining(part.model) as module:
        score = score_of(module, Inputs.of(images), part.targets)
        ends = clean_scores(score, images), removed_scores(score, filler, images)
        rows = torch.arange(len(images), device=images.device)
        return curves_of(score, filler, ranks, rows, *ends, steps)


def filled_from(images: Images, ready: Images) -> Filler:
    """Fill from images that are ready [B, channels, *size]; whole pixels, or single features of them."""

    def fill(rows: Rows, kept: Kept) -> Filled:
        known = kept if kept.ndim == images.ndim else kept.unsqueeze(1)
        return torch.where(known, images[rows], ready[rows])

    return fill


def minimum(images: Images) -> Filler:
    """Fill with each image's smallest value, as Quantus' "black" does."""
    return filled_from(images, images.amin((1, 2, 3), keepdim=True).expand_as(images))


def quiet_linear(images: Images) -> Filler:
    """Return the fill of ROAD without its noise."""
    with patch.object(fills, "NOISE", 0.0):
        return fills.linear(images)


def patient_linear(images: Images) -> Filler:
    """Return the fill of ROAD without its noise, solved until nothing changes."""
    filler = quiet_linear(images)

    def fill(rows: Rows, kept: Kept) -> Filled:
        with patch.object(fills, "ITERATIONS", LONGER * fills.ITERATIONS):
            return filler(rows, kept)

    return fill


# --- Quantus


def features_in_step(pixels: int, channels: int, steps: int) -> tuple[int, int]:
    """Return the features a step and the number of steps nearest to ``steps`` that Quantus accepts.

    A step must divide the number of pixels, while every channel of every pixel counts as a feature.
    """
    sizes = [size for size in range(1, pixels + 1) if pixels % size == 0]
    best = min(sizes, key=lambda size: abs(channels * pixels // size - steps))
    return best, channels * pixels // best


def distinct(values: Tensor) -> Tensor:
    """Return values [B, ...] in the same order of which no two are equal: the last to be removed has 1."""
    return (values[0].numel() - removal_ranks(values)[1]).to(torch.float32)


def pixel_flipping(part: Part, values: Tensor, steps: int, **options: Any) -> Tensor:
    """Return Quantus' curves [B, steps]: the scores after each step, the most important first."""
    import quantus

    softmax = options.pop("softmax", False)
    size, _ = features_in_step(part.images[0, 0].numel(), part.images.shape[1], steps)
    settings = {"features_in_step": size, "normalise": False, "disable_warnings": True, **options}
    found = quantus.PixelFlipping(**settings)(
        model=part.model,
        x_batch=part.images.cpu().numpy(),
        y_batch=np.full(len(part.images), TARGET),
        a_batch=values.cpu().numpy(),
        softmax=softmax,
        device=part.place.device,
        batch_size=len(part.images),
    )
    return torch.tensor(found)


def own_blur(part: Part) -> Callable[..., Any]:
    """Return Quantus' own blur for its pixel flipping, which hands over flat rows and needs an adapter."""
    from quantus.functions.perturb_func import baseline_replacement_by_blur

    shape = tuple(part.images.shape[1:])

    def perturb(arr: Any, indices: Any, **ignored: Any) -> Any:
        done = [
            baseline_replacement_by_blur(
                arr=row.reshape(shape), indices=at, indexed_axes=[0, 1, 2], blur_kernel_size=[1, 15, 15]
            )
            for row, at in zip(arr, indices, strict=True)
        ]
        return np.stack(done).reshape(arr.shape)

    return perturb


def taken_from(ready: Images) -> Callable[..., Any]:
    """Return a perturbation for Quantus that takes removed features from images that are ready."""
    values = ready.flatten(1).cpu().numpy()

    def perturb(arr: Any, indices: Any, **ignored: Any) -> Any:
        changed, rows = arr.copy(), np.arange(len(arr))[:, None]
        changed[rows, indices] = values[rows, indices]
        return changed

    return perturb


def on_one_channel(part: Part) -> Tensor:
    """Return the maps [B, channels, *size] on the first channel, with all others last.

    Quantus' ROAD ranks every channel of every pixel, but reads the places as those of pixels.
    """
    values = torch.full_like(part.images, -torch.inf)
    values[:, 0] = part.important
    return values


def quantus_road(
    part: Part,
    values: Tensor,
    *,
    percentages: Sequence[float] = PERCENTILES,
    labels: Any = None,
    batch_size: int = SOME,
) -> list[float]:
    """Return Quantus' ROAD: at each percentage of pixels, the share of images of the label; one order."""
    import quantus

    metric = quantus.ROAD(
        percentages=[share / values.shape[1] for share in percentages],  # it counts all values as pixels
        normalise=False,
        disable_warnings=True,
    )
    found = metric(
        model=part.model,
        x_batch=part.images.cpu().numpy(),
        y_batch=np.full(len(part.images), TARGET) if labels is None else labels,
        a_batch=values.cpu().numpy(),
        device=part.place.device,
        batch_size=batch_size,
    )
    return [float(share) for share in found.values()]


# --- grad-cam


def gradcam_road(part: Part, values: Heatmaps, noise: float = 0.01) -> Tensor:
    """Return grad-cam's ROADCombined [B]: half the gap between the orders, averaged over its percentiles."""
    from pytorch_grad_cam.metrics import perturbation_confidence as confidence
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def scored(remove: Callable[..., Any]) -> Callable[[int], Any]:
        def at(percentile: int) -> Any:
            return confidence.PerturbationConfidenceMetric(remove(percentile, NoisyLinearImputer(noise)))

        return at

    metric = ROADCombined(PERCENTILES)
    metric.morf_averager.imputer = scored(confidence.RemoveMostRelevantFirst)
    metric.lerf_averager.imputer = scored(confidence.RemoveLeastRelevantFirst)
    targets = [ClassifierOutputTarget(TARGET)] * len(part.images)
    return torch.from_numpy(metric(part.images, values.cpu().numpy(), targets, part.model))


def share_removed(values: Heatmaps, percentile: int) -> list[list[float]]:
    """Return the share that grad-cam removes of each map, the least and the most relevant first."""
    from pytorch_grad_cam.metrics.perturbation_confidence import (
        RemoveLeastRelevantFirst,
        RemoveMostRelevantFirst,
    )

    def removed(image: Tensor, kept: Tensor) -> float:
        return 1 - float(kept.mean())

    both = (RemoveLeastRelevantFirst(percentile, removed), RemoveMostRelevantFirst(percentile, removed))
    return [[float(order(one, one)) for order in both] for one in values.cpu()]


# --- time


@dataclass(frozen=True, eq=False)
class Candidate:
    """One piece of work on a turn's images: how often each goes through the model, and whether it is slow."""

    forwards: int
    run: Run
    slow: bool = False


def bare(part: Part, count: int, layout: torch.memory_format) -> Run:
    """Return forwards of so many images that are ready, without autograd, as many at once as whycam takes."""
    size = images_at_once(part.images)
    rows = torch.arange(size, device=part.images.device) % len(part.images)
    ready = part.images[rows].contiguous(memory_format=layout)

    def run(images: Tensor) -> None:
        with torch.no_grad():
            for start in range(0, count, size):
                part.model(ready[: count - start])

    return run


def candidates(part: Part, steps: int) -> dict[str, Candidate]:
    """Return everything that is timed on a turn's images."""
    one, two = metrics_of(THREE, ONE_FILL), metrics_of(THREE, TWO_FILLS)
    by_road = metrics_of(("road",), ("linear",))
    values = part.important.unsqueeze(1)
    _, flips = features_in_step(SIZE * SIZE, part.images.shape[1], steps)
    needed = Plan(one, 1, steps).forwards(1)
    blur, ranked = own_blur(part), on_one_channel(part)
    shares = len(PERCENTILES)
    return {
        BARE: Candidate(needed, bare(part, len(part.images) * needed, torch.contiguous_format)),
        OURS: Candidate(needed, lambda _: ours(part, one, steps)),
        "whycam: the same; blur and push-pull": Candidate(
            Plan(two, 1, steps).forwards(1), lambda _: ours(part, two, steps), slow=True
        ),
        FLIPPING: Candidate(flips, lambda _: pixel_flipping(part, values, steps)),
        "Quantus PixelFlipping, its blur": Candidate(
            flips, lambda _: pixel_flipping(part, values, steps, perturb_func=blur), slow=True
        ),
        ROAD: Candidate(
            Plan(by_road, 1, ROAD_STEPS).forwards(1), lambda _: ours(part, by_road, ROAD_STEPS), slow=True
        ),
        THEIR_ROAD: Candidate(4 * shares, lambda _: gradcam_road(part, values[:, 0]), slow=True),
        "Quantus ROAD, one order": Candidate(shares, lambda _: quantus_road(part, ranked), slow=True),
    }


@dataclass(frozen=True)
class Taken:
    """The seconds an image of a candidate, and of the bare forwards beside it that it needs."""

    seconds: float
    forwards: float


def times(place: Place, parts: Sequence[Part], steps: int, rounds: int) -> dict[str, list[Taken]]:
    """Return each candidate's times, turn by turn; the slow ones' of the first turns alone."""
    for layout in (torch.contiguous_format, torch.channels_last):
        for _ in range(2):
            bare(parts[0], images_at_once(parts[0].images), layout)(parts[0].images)
    ours(parts[0].first(1), metrics_of(THREE, TWO_FILLS), 2)
    shuffle = Random(0)
    found: dict[str, list[Taken]] = {name: [] for name in candidates(parts[0], steps)}
    for turn, part in enumerate(list(parts) * rounds):
        runs = [
            (name, one) for name, one in candidates(part, steps).items() if turn < SLOW_TURNS or not one.slow
        ]
        shuffle.shuffle(runs)
        for name, one in runs:
            count = len(part.images)
            pair = [one.run, bare(part, count * one.forwards, torch.channels_last)]
            order = [0, 1]
            shuffle.shuffle(order)
            taken = {which: place.seconds(pair[which], part.images) for which in order}
            found[name].append(Taken(taken[0] / count, taken[1] / count))
            print(
                f"turn {turn}, {name}: {taken[0]:.1f} s, forwards {taken[1]:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    return found


def spread(values: Sequence[float]) -> str:
    """Write a median with its quartiles, or a single value."""
    if len(values) < 2:
        return f"{values[0]:.3g} (once)"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def time_table(found: Mapping[str, Sequence[Taken]], forwards: Mapping[str, int]) -> Iterator[str]:
    """Write the times: an image's seconds, over the bare forwards that it needs, and over whycam's.

    The last is by way of the bare forwards beside each: the two were not run right after each other.
    """
    yield (
        "| what | turns | forwards an image | s an image | time / bare forwards it needs | time / whycam's |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    ratios = {name: [one.seconds / one.forwards for one in values] for name, values in found.items()}

    def needed(name: str) -> float:
        return forwards[name] * statistics.median(ratios[name])

    for name, values in found.items():
        base = ROAD if "ROAD" in name else OURS
        taken = f"{forwards[name]} | {statistics.median(one.seconds for one in values):.3g}"
        by_ours = "" if name == BARE else f"{needed(name) / needed(base):.2f}"
        yield (f"| {name} | {len(values)} | {taken} | {spread(ratios[name])} | {by_ours} |")


# --- agreement


def agreement(what: str, theirs: Tensor, mine: Tensor) -> str:
    """Write how far two sets of curves [B, points] are alike, beside how far ours move."""
    theirs, mine = theirs.double().cpu(), mine.double().cpu()
    moves = float((mine.amax(1) - mine.amin(1)).mean())
    alike = float(correlation(theirs, mine).mean())
    return f"| {what} | {float((theirs - mine).abs().max()):.2g} | {moves:.2g} | {alike:.6f} |"


def curve_lines(part: Part, steps: int) -> Iterator[str]:
    """Compare Quantus' pixel flipping with our curves: first where the definitions agree, then where not."""
    images, value = part.images, part.important
    _, flips = features_in_step(SIZE * SIZE, images.shape[1], steps)
    wide = value.unsqueeze(1).expand_as(images).contiguous()
    features = distinct(wide)
    entire = our_curves(part, minimum(images), removal_ranks(features), flips)
    single = entire.most[..., 1:]
    whole = our_curves(part, minimum(images), removal_ranks(value), flips).most[..., 1:]
    theirs = pixel_flipping(part, features, steps)
    yield agreement("every feature a value of its own: logit", theirs, single[0])
    soft = pixel_flipping(part, features, steps, softmax=True)
    yield agreement("the same: probability (its default)", soft, single[1])
    scaled = pixel_flipping(part, features, steps, normalise=True)
    yield agreement("the same, its maps normalised (its default)", scaled, single[0])
    blurred = fills.blurred(images)
    mine = our_curves(part, filled_from(images, blurred), removal_ranks(features), flips).most[0, :, 1:]
    yield agreement(
        "the same, our blurred image as the fill",
        pixel_flipping(part, features, steps, perturb_func=taken_from(blurred)),
        mine,
    )
    untied = distinct(value)
    apart = our_curves(part, minimum(images), removal_ranks(untied), flips).most[0, :, 1:]
    yield agreement(
        "a value a pixel, none tied with another pixel; it takes single channels of a pixel, we whole pixels",
        pixel_flipping(part, untied.unsqueeze(1), steps),
        apart,
    )
    as_they_are = pixel_flipping(part, value.unsqueeze(1), steps)
    yield agreement("the maps as they are, whose ties its sort breaks in no set order", as_they_are, whole[0])
    zero = pixel_flipping(part, features, steps, perturb_baseline=0.0)
    yield agreement(
        "every feature a value of its own, filled with 0 and not with its minimum", zero, single[0]
    )
    area = torch.trapezoid(theirs, dx=1 / (flips - 1)).unsqueeze(0)
    yield agreement(
        "area: of its points, which begin after the first step, and of ours with the clean image",
        area,
        deletion(entire)[:1],
    )


def road_lines(part: Part) -> Iterator[str]:
    """Compare grad-cam's ROAD with ours, an image a figure."""
    images, value = part.images, part.important
    untied = distinct(value) / 2**16  # exact, also one minus it, which grad-cam takes

    def mine(filler: Filler, values: Heatmaps) -> Tensor:
        return road(our_curves(part, filler, removal_ranks(values), ROAD_STEPS))[0]

    def row(what: str, theirs: Tensor, own: Tensor) -> str:
        return agreement(what, theirs.unsqueeze(0), own.unsqueeze(0))

    quiet, noisy = mine(quiet_linear(images), untied), mine(fills.linear(images), untied)
    theirs = gradcam_road(part, untied, noise=0.0)
    yield row("ROAD, no ties, no noise", theirs, quiet)
    patient = mine(patient_linear(images), untied)
    yield row(f"the same, ours iterated {LONGER} times longer", theirs, patient)
    torch.manual_seed(0)
    yield row("ROAD, no ties, each with its own noise", gradcam_road(part, untied), noisy)
    yield row("whycam's ROAD with noise and without", noisy, quiet)
    signed = mine(quiet_linear(images), value)
    yield row("the signed maps as they are, no noise", gradcam_road(part, value, noise=0.0), signed)
    shown = gradcam_road(part, part.heatmaps.float(), noise=0.0)
    odd = int((~shown.isfinite()).sum())
    left = f", {odd} images without a figure left out" if odd else ""
    good = shown.isfinite()
    yield row(f"rectified heatmaps for grad-cam, no noise{left}", shown[good], signed.cpu()[good])


def imputed_lines(part: Part) -> Iterator[str]:
    """Compare removed pixels as each package imputes them, without noise, at all shares in both orders."""
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from quantus.functions.perturb_func import noisy_linear_imputation

    ranks = removal_ranks(part.important)
    pixels = ranks[0, 0].numel()
    filler, imputer = quiet_linear(part.images), NoisyLinearImputer(noise=0.0)
    masks = [ranks[order] >= pixels * share // 100 for order in (0, 1) for share in PERCENTILES]
    rows = torch.arange(len(part.images), device=part.images.device)
    kept = torch.cat(masks)
    at = rows.repeat(len(masks))
    mine: list[Tensor] = []

    def fill(images: Images) -> None:
        mine[:] = [filler(at, kept).cpu()]

    filler(at, kept)
    ours_taken = part.place.seconds(fill, part.images)
    images = part.images.cpu()
    theirs: list[Tensor] = []

    def impute(ignored: Images) -> None:
        pairs = zip(at.tolist(), kept.cpu(), strict=True)
        theirs[:] = [imputer(images[row], mask.float()) for row, mask in pairs]

    their_taken = part.place.seconds(impute, part.images)
    quantus_gives = [
        torch.from_numpy(
            noisy_linear_imputation(
                images[row].numpy().copy(), (~mask).flatten().nonzero()[:, 0].numpy(), 0.0
            )
        )
        for row, mask in zip(at.tolist(), kept.cpu(), strict=True)
    ]
    to_the_end = patient_linear(part.images)(at, kept).cpu()
    asked = (
        ("grad-cam's against ours", theirs, mine[0]),
        (f"grad-cam's against ours iterated {LONGER} times longer", theirs, to_the_end),
        ("Quantus' against grad-cam's", quantus_gives, torch.stack(theirs)),
    )
    for name, found, own in asked:
        difference = (torch.stack(found).reshape_as(own) - own).abs()
        yield (
            f"- Imputed pixels of {len(at)} copies at the same masks, {name}: largest difference "
            f"{float(difference.max()):.2g}, mean {float(difference.mean()):.2g} (the pixels' standard "
            "deviation is 1)."
        )
    yield (
        f"- Imputing alone: ours {1000 * ours_taken / len(at):.1f} ms a copy, grad-cam's "
        f"{1000 * their_taken / len(at):.1f} ms, {their_taken / ours_taken:.1f} times ours."
    )


def said_by(run: Callable[[], Any]) -> str:
    """Return how a call ends: "runs", or its error."""
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "runs"


def facts(part: Part, steps: int) -> Iterator[str]:
    """Say what else was seen of the packages here, each by running it."""
    pixels, channels = part.images[0, 0].numel(), part.images.shape[1]
    size, flips = features_in_step(pixels, channels, steps)
    cut = sum(1 for step in range(1, flips) if step * size % channels)
    yield (
        f"- Steps: Quantus takes {flips} of {size} features, the nearest to {steps} that it accepts for "
        f"{pixels} pixels; {cut} of them end within a pixel."
    )
    one = part.first(2)
    tied = float(whycam.evaluation.ranking.tied_share(part.important).mean())
    yield f"- Tied pixels of the maps as they are: {tied:.1%}."
    auc = said_by(lambda: pixel_flipping(one, one.important.unsqueeze(1), 2, return_auc_per_sample=True))
    yield f"- Quantus' own area under the curve (`return_auc_per_sample`): {auc}."
    blur = said_by(lambda: pixel_flipping(one, one.important.unsqueeze(1), 2, perturb_func=_plain_blur()))
    yield f"- Quantus' own blur put into its pixel flipping without an adapter: {blur}."
    crash = said_by(lambda: quantus_road(one, one.important.unsqueeze(1)))
    yield f"- Quantus' ROAD on colour images with one value a pixel: {crash}."
    yield from _first_batch(part.first(4))
    yield from _ties(part)


def _plain_blur() -> Callable[..., Any]:
    from quantus.functions.perturb_func import baseline_replacement_by_blur

    found: Callable[..., Any] = baseline_replacement_by_blur
    return found


def _first_batch(part: Part) -> Iterator[str]:
    """Say which images Quantus' ROAD counts: the labels of the second half are wrong."""
    half = len(part.images) // 2
    with torch.no_grad():
        labels = part.model(part.images).argmax(1).cpu().numpy()
    labels[half:] += 1
    values = on_one_channel(part)
    at_once, by_half = (
        quantus_road(part, values, percentages=[1], labels=labels, batch_size=size)[0]
        for size in (len(part.images), half)
    )
    yield (
        f"- Quantus' ROAD where half of the images have a wrong label, 1 % removed: {at_once:.2f} in one "
        f"batch, {by_half:.2f} in two batches, of which it counts the first."
    )


def _ties(part: Part) -> Iterator[str]:
    """Say what grad-cam removes of rectified maps where a tenth is asked for."""
    shares = torch.tensor([share_removed(part.heatmaps.float(), p) for p in (90, 10)])
    zero = float((part.heatmaps == 0).float().mean())
    yield (
        f"- grad-cam on rectified heatmaps ({zero:.0%} of the pixels are 0): asked to remove 10 %, it "
        f"removes up to {float(shares[0].max()):.0%} of an image; asked for 90 %, up to "
        f"{float(shares[1].max()):.0%}."
    )


# --- page


def time_lines(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Time everything; give the page's lines."""
    model = place.model(arguments.model)
    parts = make_parts(place, model, arguments.layer, arguments.images, FEW)
    yield (
        f"{arguments.model}, {arguments.images} images of {SIZE} x {SIZE} pixels, {arguments.steps} steps, "
        f"{arguments.rounds * len(parts)} turns."
    )
    yield ""
    needs = {name: one.forwards for name, one in candidates(parts[0], arguments.steps).items()}
    yield from time_table(times(place, parts, arguments.steps, arguments.rounds), needs)


def agreement_lines(place: Place, arguments: argparse.Namespace) -> Iterator[str]:
    """Compare curves, figures and imputed pixels; give the page's lines."""
    model = place.model(arguments.model)
    (some,) = make_parts(place, model, arguments.layer, SOME, SOME)
    yield f"| curves of {len(some.images)} images | largest difference | ours move by | correlation |"
    yield "| --- | --- | --- | --- |"
    yield from curve_lines(some, arguments.steps)
    yield from road_lines(some)
    yield ""
    yield from imputed_lines(some.first(2))
    yield from facts(some, arguments.steps)


PARTS = {"times": time_lines, "agreement": agreement_lines}


def main() -> None:
    """Measure, print, and put the tables into the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50", help="a model of timm")
    parser.add_argument("--layer", default="layer4")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, help="make this part alone")
    parser.add_argument("--out", type=Path, help="a Markdown file with each part's marks around its tables")
    measuring.add_place(parser)
    arguments = parser.parse_args()
    place = measuring.place_of(arguments)
    if place.dtype != torch.float32:
        sys.exit("Quantus and grad-cam's ROAD give the model float32; leave --dtype out")
    warnings.simplefilter("ignore")
    for name in [arguments.only] if arguments.only else PARTS:
        made = [place.describe(), ""]
        print(made[0])
        for line in PARTS[name](place, arguments):
            print(line, flush=True)
            made.append(line)
        if arguments.out:
            measuring.put_into(arguments.out, f"evaluation {name}", made)


if __name__ == "__main__":
    main()
