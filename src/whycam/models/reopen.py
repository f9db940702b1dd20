"""The model of a run folder, loaded again from what its manifest says."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from whycam.errors import ModelError, UsageError
from whycam.models.loaded import LoadedModel
from whycam.models.messages import one_line
from whycam.models.preprocessing import Preprocessing
from whycam.models.references import load, runs_no_code
from whycam.store import Manifest


def reopen(
    manifest: Manifest,
    *,
    reference: str | None = None,
    weights: str | Path | None = None,
    download: bool = False,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load the model that a run was made with, with the run's preprocessing and class names.

    ``reference`` and ``weights`` go before what the manifest says; a factory, whose code would be run, and
    ``download`` must be given again. That the weights are the run's is for the caller to check. Raises
    ModelError, WeightsError or UsageError.
    """
    given = manifest.model.reference if reference is None else reference
    if reference is None and not runs_no_code(given):
        raise ModelError(
            f"the run was made with {one_line(given, 80)}, whose code would be run; where you trust it, give "
            f"it again: --model {one_line(given, 80)}"
        )
    recipe = manifest.settings.get("recipe")
    known: Mapping[str, Any] = recipe if isinstance(recipe, Mapping) else {}
    file = weights if weights is not None or download else known.get("weights")
    if file is not None and weights is None and not Path(file).is_file():
        raise UsageError(
            f"the run's weights file {one_line(file, 120)!r} is not there; give it with --weights FILE"
        )
    model = load(
        given,
        weights=file,
        download=download,
        num_classes=known.get("num_classes"),
        allow_partial=bool(known.get("allow_partial")) and file is not None,
        preprocessing=Preprocessing.from_dict(manifest.preprocessing),
        device=device,
    )
    return replace(model, class_names=manifest.class_names)
