"""The engine of a run on one machine."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from whycam.data import find_images
from whycam.errors import RunError, UsageError
from whycam.methods import find_method
from whycam.models import LoadedModel
from whycam.rows import SHEET_NAME, device_text, png_of, versions
from whycam.runs.batch import BatchExplainer
from whycam.runs.overview import count, sheet_of
from whycam.runs.probe import SEED, first_images, settle_layer
from whycam.runs.reading import Planned, chunks, read_ahead, reader
from whycam.runs.request import Existing, Progress, RunRequest, RunSummary
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, RunWriter, read_run
from whycam.store.files import run_errors
from whycam.store.folder import RunFolder, refuse_foreign, refuse_run

_WORKERS = 8


def check_places(sources: Sequence[str | Path], folder: Path, existing: Existing) -> None:
    """Refuse sources without images and a folder that is taken, before a model is loaded for them.

    Raises UsageError or RunError.
    """
    find_images(sources)
    with run_errors(f"look into run folder {str(folder)!r}"):
        refuse = refuse_run if existing == "refuse" else refuse_foreign
        refuse(RunFolder(folder))


def run_explain(request: RunRequest, *, progress: Progress = lambda finished, planned: None) -> RunSummary:
    """Explain all images of the sources by all methods into a run folder.

    Rows are committed a batch at a time: what a killed run has committed stays, and a resumed one
    (``existing="resume"``) goes on behind it without decoding those images again. An image that cannot be
    read or explained has an error in its rows, and the run goes on. Before the folder is touched the first
    image is put through everything, so that what is wrong with the model, the layer, the target or a method
    is said at once. Memory is bounded by the batch size, not by the number of images.

    Raises UsageError, RunError, LayerError, TargetError, MethodError or EngineError.
    """
    check_places(request.sources, request.folder, request.existing)
    image_count = sum(1 for _ in _plan(request))
    if not image_count:
        raise UsageError(
            f"the sources hold no image but those in {str(request.folder)!r}, where this run is written; "
            "name others, or choose another --out"
        )
    layer = settle_layer(request, first_images(request, _plan(request)), _earlier_layer(request))
    manifest = _manifest(request, layer, image_count)
    opened = RunWriter.resume if request.existing == "resume" else RunWriter.create
    with opened(request.folder, manifest) as writer, ThreadPoolExecutor(_workers()) as executor:
        batches = BatchExplainer(request, layer, writer, executor, at_most=request.batch_size)
        reused = _explain_rest(request, batches, image_count, progress)
        return _finish(request, batches, reused)


def _plan(request: RunRequest) -> Iterator[Planned]:
    """Number the images of the sources; without those of the run folder, or a run would feed on itself."""
    own = os.path.realpath(request.folder)
    real = lru_cache(os.path.realpath)
    items = (i for i in find_images(request.sources) if not _is_inside(real(str(i.path.parent)), own))
    return (Planned(index, item) for index, item in enumerate(items))


def _is_inside(folder: str, own: str) -> bool:
    return folder == own or folder.startswith(os.path.join(own, ""))


def _workers() -> int:
    return min(_WORKERS, os.cpu_count() or 1)


def _earlier_layer(request: RunRequest) -> LayerRecord | None:
    """Return the layer of the run that is resumed: tracing another image might choose another one."""
    if request.existing != "resume" or not RunFolder(request.folder).manifest.exists():
        return None
    manifest = read_run(request.folder).manifest
    # another model's layer says nothing; that it is another one is the writer's to refuse
    return manifest.layer if manifest.model.reference == request.model.reference else None


def _manifest(request: RunRequest, layer: LayerRecord, image_count: int) -> Manifest:
    model = request.model
    smoothing = {} if request.smoothing is None else {"smoothing": repr(request.smoothing)}
    return Manifest(
        command=request.command,
        versions=versions(),
        device=device_text(model.device),
        seed=SEED,
        model=ModelRecord(
            reference=model.reference,
            provenance=model.provenance.describe(),
            weights_sha256=model.provenance.sha256,
        ),
        preprocessing=model.preprocessing.to_dict(),
        class_names=model.class_names,
        methods=tuple(
            MethodRecord(name=name, parameters={**find_method(name).parameters, **smoothing})
            for name in request.methods
        ),
        target=request.target.describe(),
        layer=layer,
        sources=tuple(map(str, request.sources)),
        image_count=image_count,
        style=request.style.describe(),
        settings={
            "smoothing": None if request.smoothing is None else repr(request.smoothing),
            "layers": list(request.layers),
            "recipe": request.recipe,
            "batch_size": request.batch_size,
            "max_pixels": request.max_pixels,
            "weights": _weights(model),
        },
    )


def _weights(model: LoadedModel) -> dict[str, object]:
    """Tell apart what a file's SHA-256 does not: no file, a file that fits in part, another head."""
    loaded = model.provenance.loaded
    return {
        "kind": model.provenance.kind,
        "loaded": None if loaded is None else list(loaded),
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
    }


def _explain_rest(request: RunRequest, batches: BatchExplainer, image_count: int, progress: Progress) -> int:
    """Explain what is not finished, batch by batch; return how many images were."""
    finished, target = batches.writer.finished, request.target.describe()
    reused = 0

    def unfinished() -> Iterator[list[Planned]]:
        nonlocal reused
        for chunk in chunks(_plan(request), request.batch_size):
            keys = [[(p.item.id, method, target) for method in request.methods] for p in chunk]
            left = [p for p, own in zip(chunk, keys, strict=True) if not all(k in finished for k in own)]
            reused += len(chunk) - len(left)
            if left:
                yield left

    explained = 0
    read = reader(request.model.preprocessing, request.max_pixels)
    progress(0, image_count)
    for batch in read_ahead(unfinished(), read, batches.executor):
        rows = batches.rows(batch)
        batches.writer.write(row for row in rows if row.key not in finished)
        explained += len(batch)
        progress(reused + explained, image_count)
    return reused


def _finish(request: RunRequest, batches: BatchExplainer, reused: int) -> RunSummary:
    """Draw the sheet, close the run, and sum it up."""
    writer, place = batches.writer, None
    picture = sheet_of(read_run(writer.folder), request.style)
    if picture is not None:
        place = writer.folder / writer.save_picture(SHEET_NAME, png_of(picture))
    images = len({name for name, _, _ in writer.finished})
    manifest = writer.finish()
    counts = count(read_run(writer.folder))
    if manifest.layer is None:
        raise RunError(
            f"the manifest of {str(writer.folder)!r} has lost its layer; explain into another --out"
        )
    return RunSummary(
        folder=writer.folder,
        images=images,
        failed=manifest.failures,
        reused=reused,
        blank=counts.blank,
        methods=tuple(method.name for method in manifest.methods),
        target=manifest.target,
        layer=manifest.layer,
        sheet=place,
        failures=counts.failures,
        diagnoses=dict(batches.diagnoses.most_common()),
        warnings=(*batches.warnings, *_told(batches)),
    )


def _told(batches: BatchExplainer) -> list[str]:
    """Say once for all images what of their files was not seen."""
    return [
        f"of {images} {'image' if images == 1 else 'images'} {note}"
        for note, images in batches.notes.most_common()
    ]
