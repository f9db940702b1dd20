"""Rank the checkpoints of a folder on one split, and settle which images the best one is explained on."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from whycam.models import LoadedModel, Preprocessing, load
from whycam.selection.checkpoints import FoundCheckpoints, find_checkpoints, gaps_text
from whycam.selection.chosen import ChosenImage, choose_images, images_csv
from whycam.selection.network import Network, open_network
from whycam.selection.ranking import Ranking, rank
from whycam.selection.request import SelectRequest
from whycam.selection.results import SelectionFolder
from whycam.selection.round import Round
from whycam.selection.split import Split, read_split
from whycam.selection.views import Views, views_of
from whycam.selection.written import ranking_csv, ranking_json
from whycam.store.manifest import utc_now

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

IMAGES_NAME = "images.csv"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What became of a selection.

    ``skipped`` are checkpoints that could not be ranked, as (name, reason); ``missing`` the gaps in the range
    that was asked for; ``unreadable`` the images that no checkpoint was ranked on, as (id, reason).
    ``model``, ``preprocessing`` and ``class_names``, one an output, hold for all of them. ``reused`` counts
    the results of an earlier call. ``chosen`` are the images in ``images_list``.
    ``settings`` is what the results hold for, ``kept_in`` where the views were; ``created`` is in UTC.
    """

    request: SelectRequest
    split: Split
    ranking: Ranking
    best_path: Path
    model: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    device: torch.device
    settings: Mapping[str, Any]
    chosen: tuple[ChosenImage, ...]
    skipped: tuple[tuple[str, str], ...]
    missing: tuple[tuple[int, int], ...]
    unreadable: tuple[tuple[str, str], ...]
    reused: int
    kept_in: str
    warnings: tuple[str, ...]
    created: str = field(default_factory=utc_now)

    @property
    def images_list(self) -> Path:
        """The list of the chosen images, which ``whycam explain`` takes."""
        return self.request.folder / IMAGES_NAME

    def open_best(self) -> LoadedModel:
        """Load the best checkpoint as it was ranked, with a name for each output.

        It is built anew: what a network keeps of passes in inference mode is of no use to autograd.
        """
        model = load(
            self.model,
            weights=self.best_path,
            num_classes=self.request.load_options.get("num_classes"),
            preprocessing=self.preprocessing,
            device=self.device,
        )
        return replace(model, class_names=self.class_names)


def select_checkpoints(
    request: SelectRequest, *, progress: Progress = lambda what, done, planned: None
) -> Selection:
    """Rank the checkpoints of a folder; write the ranking, and the list of the images to be explained.

    Each checkpoint's result is on the disk as soon as it is known; with ``existing="resume"`` those of an
    earlier call count, where the checkpoint's SHA-256, the images and the settings are the same. Images that
    cannot be read are left out for all checkpoints alike, checkpoints that cannot be ranked are skipped.

    Raises UsageError, WeightsError (where no checkpoint is left), ModelError, EngineError or RunError.
    """
    folder = SelectionFolder(request.folder)
    found = find_checkpoints(request.weights, request.pattern, request.first, request.last)
    folder.check(request.existing)
    split = read_split(request.data, request.split, found.checkpoints)
    network = open_network(request, found.checkpoints, split.folders)
    settings = _settings(request, network, split)
    folder.check_settings(settings)  # before thousands of images are read
    with folder.opened(), _views(request, network, split, folder, progress) as views:
        settings["image_contents"] = views.digest
        folder.check_settings(settings)
        folder.begin(settings)
        labels = torch.tensor([network.match.outputs[split.classes[place]] for place in views.places])
        tour = Round(network, views, labels, request.batch_size)
        tour.go_through(found.checkpoints, folder, partial(progress, "ranking checkpoints"))
        selection = _summed_up(request, split, found, tour, settings)
        folder.write(Path(IMAGES_NAME), images_csv(selection.chosen))
        folder.write(Path("ranking.csv"), ranking_csv(selection.ranking))
        folder.write(Path("ranking.json"), ranking_json(selection))
    return selection


def _summed_up(
    request: SelectRequest, split: Split, found: FoundCheckpoints, tour: Round, settings: Mapping[str, Any]
) -> Selection:
    network, views, ranking = tour.network, tour.views, rank(tour.results)
    chosen, doubts = choose_images(request, split, views, ranking.best)
    paths = {one.name: one.path for one in found.checkpoints}
    return Selection(
        request=request,
        split=split,
        ranking=ranking,
        best_path=paths[ranking.best.name],
        model=network.model.reference,
        preprocessing=network.model.preprocessing,
        class_names=network.match.names,
        device=network.model.device,
        settings=settings,
        chosen=chosen,
        skipped=tuple(tour.skipped),
        missing=found.missing,
        unreadable=tuple((split.items[place].id, reason) for place, reason in views.unreadable),
        reused=tour.reused,
        kept_in=views.kept_in,
        warnings=(*_warnings(split, network, views, found.missing), *doubts),
    )


def _views(
    request: SelectRequest, network: Network, split: Split, folder: SelectionFolder, progress: Progress
) -> AbstractContextManager[Views]:
    return views_of(
        split.items,
        network.model.preprocessing,
        memory=request.memory,
        scratch=folder.scratch,
        max_pixels=request.max_pixels,
        progress=partial(progress, "reading images"),
    )


def _settings(request: SelectRequest, network: Network, split: Split) -> dict[str, Any]:
    """Give what a result depends on beside its checkpoint, but for what is in the images' files."""
    return {
        "model": network.model.reference,
        "preprocessing": network.model.preprocessing.to_dict(),
        "class_names": list(network.match.names),
        "classes": {"matched_by": network.match.how, "outputs_of_folders": list(network.match.outputs)},
        "split": split.describe(),
        "device": network.model.device.type,
        "batch_size": request.batch_size,
    }


def _warnings(
    split: Split, network: Network, views: Views, missing: tuple[tuple[int, int], ...]
) -> list[str]:
    said = []
    if split.name == "test":
        said.append(
            "the best checkpoint is chosen on the test split, so its accuracy there is too good an estimate "
            "for new images; choose with --split val, and report the test split's once"
        )
    said += [text for text in (split.doubt, network.match.note) if text is not None]
    if missing:
        said.append(f"there is no checkpoint with the number {gaps_text(missing)}")
    if views.unreadable:
        said.append(
            f"{len(views.unreadable)} of {len(split.items)} images cannot be read and are left out for all "
            "checkpoints"
        )
    return [
        *said,
        *(f"of {count} {'image' if count == 1 else 'images'} {note}" for note, count in views.notes),
    ]
