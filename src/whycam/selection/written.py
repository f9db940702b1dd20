"""What a selection leaves beside the results: ``ranking.csv``, ``ranking.json`` and ``images.csv``."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from whycam.rows import device_text, versions
from whycam.selection.ranking import Ranking, Result

if TYPE_CHECKING:
    from whycam.selection.select import Selection

COLUMNS = (
    "rank",
    "checkpoint",
    "number",
    "accuracy",
    "loss",
    "macro_f1",
    "seconds_an_image",
    "correct",
    "images",
)


def csv_bytes(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write a comma-separated table, as UTF-8; a path's undecodable bytes stay what they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def ranking_csv(ranking: Ranking) -> bytes:
    """Write the ranking as a table, the best first; numbers in full."""
    rows = ([entry[key] for key in (*COLUMNS, "sha256")] for entry in ranking_entries(ranking))
    return csv_bytes((*COLUMNS, "sha256"), rows)


def ranking_entries(ranking: Ranking) -> list[dict[str, Any]]:
    """Give each ranked checkpoint as plain data."""
    return [_entry(place, one) for place, one in enumerate(ranking.results, 1)]


def _entry(place: int, one: Result) -> dict[str, Any]:
    score = one.score
    return {
        "rank": place,
        "checkpoint": one.name,
        "number": one.number,
        "accuracy": score.accuracy,
        "loss": score.loss,
        "macro_f1": score.macro_f1,
        "seconds_an_image": score.seconds_an_image,
        "correct": score.correct,
        "images": score.images,
        "sha256": one.sha256,
    }


def document_of(selection: "Selection") -> dict[str, Any]:
    """Give all there is to say of a selection as plain data."""
    request, ranking = selection.request, selection.ranking
    return {
        "schema_version": "1.0",
        "created": selection.created,
        "command": list(request.command),
        "versions": versions(),
        "device": device_text(selection.device),
        "weights": str(request.weights),
        "pattern": request.pattern,
        "from": request.first,
        "to": request.last,
        "data": str(request.data),
        "settings": dict(selection.settings),
        "kept_in": selection.kept_in,
        "ranking": ranking_entries(ranking),
        "best": ranking.best.name,
        "ties": [{"checkpoints": list(tie.names), "settled_by": tie.settled_by} for tie in ranking.ties],
        "summary": {
            "median_accuracy": ranking.median_accuracy,
            "standard_error_of_best": ranking.standard_error,
            "within_one_standard_error": ranking.close,
        },
        "reused": selection.reused,
        "skipped": [{"checkpoint": name, "reason": reason} for name, reason in selection.skipped],
        "missing_numbers": [list(gap) for gap in selection.missing],
        "unreadable_images": [{"id": name, "reason": reason} for name, reason in selection.unreadable],
        "explained_images": [
            {"index": one.index, "id": one.id, "path": one.path, "label": one.label}
            for one in selection.chosen
        ],
        "warnings": list(selection.warnings),
    }


def ranking_json(selection: "Selection") -> bytes:
    """Write ``document_of`` as indented JSON."""
    return (json.dumps(document_of(selection), indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()
