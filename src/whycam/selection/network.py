"""The one network that every checkpoint is put into, and which checkpoints are of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whycam.errors import ModelError, UsageError, WeightsError
from whycam.models import LoadedModel, Provenance, load
from whycam.models.messages import one_line
from whycam.models.references import model_of
from whycam.models.sidecar import Sidecar, sidecar_beside, sidecar_path
from whycam.selection.checkpoints import Checkpoint
from whycam.selection.classes import ClassMatch, match_classes
from whycam.selection.request import SelectRequest
from whycam.selection.scoring import output_count


@dataclass(frozen=True)
class Network:
    """A network built for one of the checkpoints, how its classes match the data's, and what it is of."""

    model: LoadedModel
    match: ClassMatch
    beside: Sidecar | None
    given_model: str | None

    def fill(self, checkpoint: Path) -> Provenance:
        """Put a checkpoint's weights into the network.

        Raises WeightsError where the file is broken, does not fit, or is of something else.
        """
        try:
            beside = sidecar_beside(checkpoint)
        except UsageError as error:
            raise WeightsError(str(error)) from error
        if beside is not None and self.beside is not None:
            self._check_same(checkpoint, beside, self.beside)
        if self.model.refill is None:
            raise ModelError(
                f"{self.model.reference} takes no other weights; expected a model with --weights"
            )
        return self.model.refill(checkpoint)

    def _check_same(self, checkpoint: Path, beside: Sidecar, others: Sidecar) -> None:
        name = one_line(sidecar_path(checkpoint).name, 80)
        if self.given_model is None and beside.model != others.model:
            raise WeightsError(
                f"{name} says it is of {one_line(beside.model, 80)}; expected {one_line(others.model, 80)}, "
                "as the others; rank it in a folder of its own"
            )
        if beside.class_names != others.class_names:
            raise WeightsError(
                f"{name} has other class names than the others; rank it in a folder of its own"
            )
        if beside.preprocessing != others.preprocessing:
            raise WeightsError(
                f"{name} says {beside.preprocessing.describe()}; expected that of the others, "
                f"{others.preprocessing.describe()}; rank it in a folder of its own"
            )


def open_network(
    request: SelectRequest, checkpoints: Sequence[Checkpoint], folders: Sequence[str]
) -> Network:
    """Build the network for the first checkpoint that fits; those with training's file beside them first.

    Raises WeightsError, which gives the reason of the first one tried, where none does.
    """
    reasons: list[str] = []
    # those that say what they are come first; the sort keeps the order among each of both
    for checkpoint in sorted(checkpoints, key=lambda one: not sidecar_path(one.path).is_file()):
        try:
            return _opened(request, checkpoint.path, folders)
        except (ModelError, UsageError) as error:
            reasons.append(f"{checkpoint.name}: {error}")
    raise WeightsError(
        f"none of {len(checkpoints)} checkpoints can be ranked; the first one tried, {reasons[0]}"
    )


def _opened(request: SelectRequest, checkpoint: Path, folders: Sequence[str]) -> Network:
    reference = request.model or model_of(checkpoint, "with --model")
    model = load(reference, weights=checkpoint, **request.load_options)
    model.check_takes_pictures()
    match = match_classes(folders, model.class_names, output_count(model))
    return Network(model, match, sidecar_beside(checkpoint), request.model)
