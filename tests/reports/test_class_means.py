import csv
import io
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.reports.made_runs import failed_row, made_facts, made_row, made_run, peak

from whycam.reports.class_means import AT_ONCE, LARGEST_GRID, ClassMean, class_means, class_means_csv
from whycam.reports.class_means_picture import CLASSES_SHOWN, class_means_png, view_aspect
from whycam.reports.facts import facts_of
from whycam.store import MethodRecord, Run

Maps = np.ndarray[Any, np.dtype[np.float64]]


def means_of(folder: Path, rows: list[Any], **changes: Any) -> dict[tuple[str, str], ClassMean]:
    """Give the means of a run by (method, class)."""
    found = class_means(made_facts(folder, rows, **changes))
    return {(mean.group.method, mean.group.class_name): mean for mean in found.means}


def rectified_and_divided(values: Maps) -> list[list[float]]:
    """Prepare a map in plain loops: below 0 is 0, then everything by the highest."""
    rows = [[max(0.0, float(value)) for value in row] for row in values]
    highest = max(max(row) for row in rows)
    return [[value / highest for value in row] for row in rows]


def mean_in_loops(maps: list[list[list[float]]]) -> list[list[float]]:
    height, width = len(maps[0]), len(maps[0][0])
    return [[sum(one[y][x] for one in maps) / len(maps) for x in range(width)] for y in range(height)]


def consistency_in_loops(maps: list[list[list[float]]]) -> float:
    """Correlate each map with the mean of the others, in plain loops, and average."""
    found = []
    for place, one in enumerate(maps):
        others = mean_in_loops([other for at, other in enumerate(maps) if at != place])
        a, b = [v for row in one for v in row], [v for row in others for v in row]
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
        sizes = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
        found.append(top / math.sqrt(sizes))
    return sum(found) / len(found)


def test_mean_and_consistency_match_plain_loops(tmp_path: Path) -> None:
    draws = np.random.default_rng(4)
    maps = [draws.normal(size=(5, 6)).astype(np.float16).astype(np.float32) for _ in range(6)]
    rows = [made_row(at, map=values, label="cat" if at < 4 else "dog") for at, values in enumerate(maps)]
    found = means_of(tmp_path / "run", rows)
    for name, own in (("cat", maps[:4]), ("dog", maps[4:])):
        prepared = [rectified_and_divided(values) for values in own]
        mean = found["gradcam", name]
        np.testing.assert_allclose(mean.mean, mean_in_loops(prepared), atol=1e-6)
        assert mean.consistency == pytest.approx(consistency_in_loops(prepared), abs=1e-6)
        assert mean.maps == len(own)


def test_maps_that_agree_are_consistent_and_maps_that_lie_apart_are_not(tmp_path: Path) -> None:
    same = [made_row(at, map=peak(1, 1) * (at + 1)) for at in range(5)]
    apart = [made_row(at, label="dog", map=peak(*divmod(2 * at - 10, 4))) for at in range(5, 9)]
    found = means_of(tmp_path / "run", same + apart)
    assert found["gradcam", "cat"].consistency == pytest.approx(1.0)
    assert (found["gradcam", "dog"].consistency or 1.0) < 0.1


def test_maps_of_other_grids_are_brought_to_the_methods_finest(tmp_path: Path) -> None:
    coarse, fine = np.ones((2, 2), np.float32), peak(0, 0, (4, 6))
    coarse[0, 0] = 0.5
    rows = [made_row(0, map=coarse), made_row(1, map=fine), made_row(0, "cam", map=coarse)]
    methods = (MethodRecord(name="gradcam"), MethodRecord(name="cam"))
    found = means_of(tmp_path / "run", rows, methods=methods)
    assert found["gradcam", "cat"].mean.shape == (4, 6)
    assert found["cam", "cat"].mean.shape == (2, 2)


def test_fine_maps_are_averaged_down_and_lose_no_peak(tmp_path: Path) -> None:
    fine = np.zeros((2 * LARGEST_GRID, 2 * LARGEST_GRID), np.float32)
    fine[1::2, 1::2] = 1.0
    fine[0, 0] = 1.0
    mean = means_of(tmp_path / "run", [made_row(0, map=fine)])["gradcam", "cat"]
    assert mean.mean.shape == (LARGEST_GRID, LARGEST_GRID)
    assert mean.mean[0, 0] == pytest.approx(1.0)
    assert mean.mean[5, 7] == pytest.approx(0.5)


def test_maps_that_show_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [made_row(0), made_row(1, map=np.zeros((3, 4), np.float32), blank=True), failed_row(2)]
    mean = means_of(tmp_path / "run", rows)["gradcam", "cat"]
    assert (mean.maps, mean.empty, mean.consistency) == (1, 1, None)
    assert mean.note == "fewer than 5 maps; 1 left out, which show nothing"


def test_five_maps_need_no_note(tmp_path: Path) -> None:
    assert means_of(tmp_path / "run", [made_row(at) for at in range(5)])["gradcam", "cat"].note == ""


def test_without_any_label_the_classes_are_those_predicted(tmp_path: Path) -> None:
    rows = [made_row(0, label=None), made_row(1, label=None, prediction=2, prediction_name="犬")]
    assert {name for _, name in means_of(tmp_path / "run", rows)} == {"cat", "犬"}


def test_a_label_that_counts_the_class_is_called_by_its_name(tmp_path: Path) -> None:
    found = means_of(tmp_path / "run", [made_row(0, label="0"), made_row(1, label="1", target_class=1)])
    assert {name: mean.other_class for (_, name), mean in found.items()} == {"cat": 0, "dog": 0}


def test_maps_of_another_class_than_the_label_are_counted(tmp_path: Path) -> None:
    rows = [made_row(0), made_row(1, prediction=1, prediction_name="dog", target_class=1)]
    mean = means_of(tmp_path / "run", rows)["gradcam", "cat"]
    assert mean.other_class == 1
    assert "1 explain another class" in mean.note


def test_the_table_has_a_line_a_run_class_and_method(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name, [made_row(at, label="a,b") for at in range(3)]) for name in "xy"]
    lines = list(csv.DictReader(io.StringIO(class_means_csv(class_means(facts_of(runs))))))
    assert [(line["run"], line["class"], line["maps"]) for line in lines] == [
        ("x", "a,b", "3"),
        ("y", "a,b", "3"),
    ]
    assert lines[0]["class_from"] == "label"
    assert lines[0]["grid"] == "3 x 4"


def test_rows_go_by_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def rows(self: Run) -> Iterator[Any]:
        nonlocal most
        for at in range(5 * AT_ONCE):
            row = made_row(at)
            alive.add(row)
            most = max(most, len(alive))
            yield row

    facts = made_facts(tmp_path / "run")
    monkeypatch.setattr(Run, "rows", rows)
    monkeypatch.setattr(Run, "table", None)
    assert class_means(facts).means[0].maps == 5 * AT_ONCE
    assert most <= 2 * AT_ONCE + 1  # those at hand, and those that are being read


def test_the_picture_is_as_wide_as_asked_and_nothing_reaches_its_border(tmp_path: Path) -> None:
    names = [f"a class with a long name {at}" for at in range(CLASSES_SHOWN + 3)]
    rows = [made_row(at, label=name) for at, name in enumerate(names)]
    methods = ("gradcam", "layercam", "smoothgradcam++")
    records = tuple(MethodRecord(name=name) for name in methods)
    facts = made_facts(
        tmp_path / "run",
        [made_row(r.index, m, label=r.label) for r in rows for m in methods],
        methods=records,
    )
    with Image.open(io.BytesIO(class_means_png(class_means(facts), 3.5, "inferno", 0.75))) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=1)
    assert pixels.shape[1] == 1050
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


def test_cells_have_the_aspect_of_the_networks_view() -> None:
    assert view_aspect([150, 200]) == 0.75
    assert view_aspect(None) == 1.0
    assert view_aspect({"height": 3}) == 1.0
