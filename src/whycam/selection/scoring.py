"""One pass of a network over images that are ready: accuracy, loss, macro-F1, time an image."""

import math
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from whycam.engine.capture import faster_channels_last, run_on_a_copy
from whycam.errors import EngineError, UsageError, WhycamError
from whycam.models import LoadedModel
from whycam.models.messages import one_line
from whycam.targets import logits_of

Pixels = Float[Tensor, "images channels height width"]
Classes = Int[Tensor, "images"]

_WARM_UP = 2


@dataclass(frozen=True)
class Score:
    """How good a network is on ``images`` images.

    ``loss`` is the mean cross-entropy (nats); ``macro_f1``, 0 to 1, the mean of the classes' F1;
    ``seconds_an_image`` the time of a forward on images that are on the device already, the median over the
    batches.
    """

    images: int
    correct: int
    loss: float
    macro_f1: float
    seconds_an_image: float

    @property
    def accuracy(self) -> float:
        """The share of images whose highest class score is their label's."""
        return self.correct / self.images


def evaluate(model: LoadedModel, images: Pixels, labels: Classes, batch_size: int) -> Score:
    """Put all images through the network once. ``labels`` are outputs' indices, on the CPU.

    What is summed over images is summed in float64 and in their order, so that it does not depend on how they
    are cut into batches. Raises EngineError where the model fails or its outputs are no finite numbers,
    UsageError where a batch is too large for the memory.
    """
    predictions = torch.empty_like(labels)
    losses = torch.empty(len(labels), dtype=torch.float64)
    seconds = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        logits, taken = _timed_forward(model, images[part])
        _refuse_bad_numbers(logits)
        predictions[part] = logits.argmax(1)
        losses[part] = F.cross_entropy(logits, labels[part], reduction="none")
        seconds.append(taken / len(logits))
    # the last batch is mostly a smaller one, and takes longer an image
    whole = seconds[: max(1, len(images) // batch_size)]
    return Score(
        images=len(labels),
        correct=int((predictions == labels).sum()),
        loss=math.fsum(losses.tolist()) / len(labels),
        macro_f1=macro_f1(predictions, labels),
        seconds_an_image=statistics.median(whole),
    )


def warm_up(model: LoadedModel, images: Pixels, batch_size: int) -> None:
    """Run the first batch, so that what happens only once is in no measured time."""
    for _ in range(_WARM_UP):
        _timed_forward(model, images[:batch_size])


def output_count(model: LoadedModel) -> int:
    """Return how many class scores the network gives an image. Raises TargetError where it gives none."""
    height, width = model.preprocessing.size
    logits, _ = _timed_forward(model, torch.zeros(1, model.preprocessing.channels, height, width))
    return logits.shape[1]


def macro_f1(predictions: Classes, labels: Classes) -> float:
    """Return the mean of F1 over the classes that are predicted or are a label, as scikit-learn's is.

    It is counted here, in four lines, so that ranking needs none of the packages that training needs.
    """
    count = int(torch.maximum(predictions, labels).max()) + 1
    hits = torch.bincount(labels[predictions == labels], minlength=count)
    both = torch.bincount(labels, minlength=count) + torch.bincount(predictions, minlength=count)
    return float((2 * hits[both > 0] / both[both > 0].double()).mean())


def _timed_forward(model: LoadedModel, views: Pixels) -> tuple[Float[Tensor, "images classes"], float]:
    """Return class scores in float64 on the CPU, and the seconds of the forward alone."""
    try:
        images = model.as_input(views)
        if not faster_channels_last(images):  # the views' own channels may be last
            images = images.contiguous()
        with torch.inference_mode():
            _wait(model.device)
            start = time.perf_counter()
            outputs = run_on_a_copy(model.module, images, model.module)
            _wait(model.device)
            taken = time.perf_counter() - start
            return logits_of(outputs).cpu().double(), taken
    except WhycamError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UsageError(
            f"{len(views)} images at once do not fit into the memory of {model.device}; give a smaller "
            "--batch-size"
        ) from error
    except Exception as error:  # the model's own code may raise anything
        size = " x ".join(map(str, views.shape[1:]))
        raise EngineError(
            f"the model failed on {len(views)} images of {size}: {type(error).__name__}: {one_line(error)}; "
            "check --size and the model's own code"
        ) from error


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _refuse_bad_numbers(logits: Tensor) -> None:
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise EngineError(
            f"its outputs for {bad} of {len(logits)} images hold NaN or infinity; expected finite class "
            "scores; the training diverged: use an earlier checkpoint"
        )
