"""One batch of a run: explained by all methods in one forward, drawn, and turned into rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from math import ceil

import torch

from whycam.errors import AbsentError, LayerError, MethodError, RunError, TargetError, UsageError, WhycamError
from whycam.explainer import explain_methods
from whycam.explanation import Explanation, caution_in
from whycam.models.messages import one_line
from whycam.models.source import fixed_seed
from whycam.render import overlay, with_caution
from whycam.rows import are_finite, jpeg_of, overlay_name, picture_name, png_of, rows_of
from whycam.runs.probe import layers_for
from whycam.runs.reading import Read, Seen, Unreadable
from whycam.runs.request import RunRequest
from whycam.store import LayerRecord, Row, RunWriter

_OF_THE_WHOLE_RUN = (LayerError, MethodError, RunError, TargetError, UsageError)


@dataclass
class BatchExplainer:
    """Turns batches that were read into rows, and counts what was odd on the way.

    ``at_most`` is how many images go through the model at once; it sinks when the memory runs out.
    """

    request: RunRequest
    layer: LayerRecord
    writer: RunWriter
    executor: Executor
    at_most: int
    diagnoses: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def rows(self, batch: Sequence[Read]) -> list[Row]:
        """Return a row for each image and method; an image that fails has an error in each of its rows.

        Raises the errors that concern the whole run: an unwritable folder, a layer that does not exist.
        """
        broken = [row for one in batch if isinstance(one, Unreadable) for row in self._failed(one)]
        seen = [one for one in batch if isinstance(one, Seen)]
        self.notes.update(note for one in seen for note in one.notes)
        rows: list[Row] = []
        for alike in _of_one_size(seen):
            while alike:
                part, alike = alike[: self.at_most], alike[self.at_most :]
                rows += self._rows_or_errors(part)
        order = {method: place for place, method in enumerate(self.request.methods)}
        return sorted(broken + rows, key=lambda row: (row.index, order[row.method or ""]))

    def _rows_or_errors(self, seen: Sequence[Seen]) -> list[Row]:
        """Explain a batch; where it fails, its halves, down to the one image that is at fault."""
        try:
            return self._rows(seen)
        # the model's own code and its libraries may raise anything; it costs the one image it is about
        except Exception as error:
            if isinstance(error, _OF_THE_WHOLE_RUN) and not isinstance(error, AbsentError):
                raise
            if len(seen) == 1:
                return self._failed(Unreadable(seen[0].subject, self._reason(error)))
            if _is_out_of_memory(error):
                self._shrink_batches(len(seen))
        # outside of the handler: the error's frames would keep the failed batch in memory
        _release_memory()
        middle = ceil(len(seen) / 2)
        return self._rows_or_errors(seen[:middle]) + self._rows_or_errors(seen[middle:])

    def _rows(self, seen: Sequence[Seen]) -> list[Row]:
        request = self.request
        with fixed_seed():  # a model that draws must not depend on which images came before
            explanations = explain_methods(
                request.model.module,
                request.model.as_input(torch.stack([one.view for one in seen])),
                request.methods,
                target=request.target,
                layer=layers_for(request, self.layer),
                smoothing=request.smoothing,
            )
        pictures = list(self.executor.map(self._save_picture, seen))
        drawn = [self._draw(explanation, seen, pictures) for explanation in explanations]
        self.diagnoses.update(reason for explanation in explanations for reason in _blank(explanation))
        return [row for rows in drawn for row in rows]

    def _save_picture(self, one: Seen) -> str:
        return self.writer.save_picture(picture_name(one.subject.id), jpeg_of(one.picture))

    def _draw(self, explanation: Explanation, seen: Sequence[Seen], pictures: Sequence[str]) -> list[Row]:
        heatmaps = explanation.heatmaps().cpu()
        style = self.request.style
        caution = caution_in(self.request.model.provenance.describe())

        finite = are_finite(explanation)

        def draw(position: int) -> str | None:
            if not finite[position]:
                return None  # its row has an error; zeros in the place of NaN would look like an answer
            one = seen[position]
            picture = overlay(
                one.picture,
                heatmaps[position],
                geometry=one.geometry,
                opacity=style.opacity,
                colormap=style.colormap,
            )
            name = overlay_name(one.subject.id, explanation.method)
            return self.writer.save_picture(name, png_of(with_caution(picture, caution)))

        overlays = list(self.executor.map(draw, range(len(seen))))
        described = replace(
            explanation,
            geometries=tuple(one.geometry for one in seen),
            class_names=self.request.model.class_names,
        )
        subjects = [one.subject for one in seen]
        target = self.request.target.describe()
        return rows_of(described, subjects, target=target, overlays=overlays, pictures=pictures)

    def _failed(self, one: Unreadable) -> list[Row]:
        subject = one.subject
        return [
            Row(
                index=subject.index,
                id=subject.id,
                path=subject.path,
                content_hash=subject.content_hash,
                label=subject.label,
                target=self.request.target.describe(),
                method=method,
                error=one.error,
            )
            for method in self.request.methods
        ]

    def _reason(self, error: Exception) -> str:
        if _is_out_of_memory(error):
            return (
                f"one image does not fit into the memory of {self.request.model.device}; use a smaller --size"
            )
        if isinstance(error, WhycamError):
            return str(error)
        return f"the model failed on this image: {type(error).__name__}: {one_line(error)}"

    def _shrink_batches(self, failed: int) -> None:
        self.at_most = min(self.at_most, ceil(failed / 2))
        self.warnings.append(
            f"{failed} images at once did not fit into the memory of {self.request.model.device}; "
            f"went on with {self.at_most} (--batch-size {self.at_most})"
        )


def _of_one_size(seen: Sequence[Seen]) -> Iterable[list[Seen]]:
    """Put together what can go through the model at once: a preprocessing may keep the pictures' shapes."""
    groups: dict[torch.Size, list[Seen]] = {}
    for one in seen:
        groups.setdefault(one.view.shape, []).append(one)
    return groups.values()


def _blank(explanation: Explanation) -> list[str]:
    """Return why pictures show nothing; of a map that is no numbers its row's error says so."""
    reasons = zip(explanation.diagnosis(), are_finite(explanation), strict=True)
    return [reason for reason, finite in reasons if reason and finite]


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch's allocator on the CPU raises a plain RuntimeError
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said


def _release_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
