"""What `make verify` claims, on the same networks: the known right answers and the known weaknesses."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import beds
from benchmarks import metrics_reliability as reliability
from benchmarks.known_answers import (
    CASES,
    CHECKS,
    CLAIMS,
    Check,
    Claim,
    Figure,
    mosaics,
    path_gap,
    whole_forwards,
)
from benchmarks.metrics_reliability import Measured
from benchmarks.verify import BEDS_MARK, MARK, lines, put_between_marks
from PIL import Image

import whycam
from whycam.demo import demo_images, demo_labels, demo_masks
from whycam.evaluation import CONTROLS, METRICS
from whycam.methods import METHODS
from whycam.testbeds import make_bed
from whycam.testbeds.workshop import Effort

MEASURE = {case.name: case.measure for case in CASES}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.case}-{claim.method}")
def test_a_claim_of_the_verification_page_holds(claim: Claim) -> None:
    figure = MEASURE[claim.case](claim.method)
    assert claim.holds(figure), figure


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.title)
def test_a_check_of_the_verification_page_holds(check: Check) -> None:
    value = check.measure()
    assert check.holds(value), value


def test_integrated_gradients_come_closer_as_steps_grow() -> None:
    assert path_gap(300) < path_gap(50) < path_gap(10)


def test_the_mosaics_show_four_classes_each() -> None:
    chosen = mosaics()
    assert chosen.images.shape == (40, 3, 192, 192)
    assert all(len(set(classes.tolist())) == 4 for classes in chosen.classes)


def test_the_table_has_every_method_and_says_what_did_not_hold() -> None:
    found = {(case.name, method): Figure(9.0) for case in CASES for method in METHODS}
    text = "\n".join(lines(found))
    assert all(f"| `{method}` |" in text for method in METHODS)
    assert text.count("**no**") == len(CLAIMS)


def test_a_cost_in_words_tells_how_many_forwards() -> None:
    assert whole_forwards("gradcam") == 1
    assert whole_forwards("smoothgradcam++") == 17


ALL_COLUMNS = [column for columns, _ in beds.MEASURED.values() for column in columns]


@pytest.fixture(scope="module")
def mosaics_beds(one_thread_a_module: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small beds that need no training."""
    folder = tmp_path_factory.mktemp("beds")
    for name in ("gridpg", "difull"):
        make_bed(name, folder / name, effort=Effort(tested=40, shown=8))
    return folder


def test_the_beds_tables_have_every_method_twice_and_say_what_did_not_hold() -> None:
    found = {(column, method): Figure(9.0) for column in ALL_COLUMNS for method in METHODS}
    text = "\n".join(beds.lines(found, {}, 0.05))
    assert all(text.count(f"\n| `{method}` |") == 2 for method in METHODS)
    assert text.count("**no**") == len(beds.CLAIMS) + len(beds.ELSEWHERE)
    assert "digits cover 5.0 % of a picture here" in text
    assert beds.broken(found) == list(beds.CLAIMS)
    assert set(beds.FIRST) | set(beds.SECOND) == set(ALL_COLUMNS)


def test_the_beds_tables_are_quiet_where_everything_holds_and_show_what_cannot_run() -> None:
    found: dict[tuple[str, str], Figure | None] = dict.fromkeys(
        ((column, method) for column in ALL_COLUMNS for method in METHODS), None
    )
    found |= {(one.case, one.method): Figure(one.value) for one in (*beds.ELSEWHERE, *beds.CLAIMS)}
    text = "\n".join(beds.lines(found, {}, 0.05))
    twice = {(one.case, one.method) for one in beds.ELSEWHERE}
    assert text.count("**no**") <= len(beds.ELSEWHERE) - len(twice)  # two figures, of which one may be off
    assert beds.broken(found) == []
    assert "| `rollout` | - | - | - | - | - | - | - |" in text


def test_a_figure_whose_interval_reaches_chance_is_named() -> None:
    found: dict[tuple[str, str], Figure | None] = dict.fromkeys((("BAM", method) for method in METHODS), None)
    found["BAM", "gradcam"] = Figure(0.3, 200, 0.2, 0.4)
    found["BAM", "deconvnet"] = Figure(0.3, 200, -0.1, 0.7)
    found["BAM", "random"] = Figure(0.0)
    assert beds.not_above(found, "BAM", 0.0) == ["`deconvnet`", "`random`"]


def test_a_costly_method_gets_fewer_pictures() -> None:
    counted = {name: beds.forwards(name) for name in ("gradcam", "guidedbackprop", "scorecam", "extremal")}
    assert counted == {"gradcam": 1, "guidedbackprop": 4, "scorecam": 97, "extremal": 2401}
    assert [beds.count_for(name).pictures for name in counted] == [200, 200, 20, 2]


def test_what_holds_on_any_mosaics_holds_on_small_beds(mosaics_beds: Path) -> None:
    def figure(bed: str, method: str) -> float:
        (found,) = beds.measure(mosaics_beds, bed, method).values()
        assert found is not None
        return found.value

    assert figure("difull", "hirescam") == pytest.approx(1, abs=1e-6)
    assert figure("difull", "gradcam") < 0.95
    assert figure("gridpg", "eigencam") == pytest.approx(0.25, abs=0.01)
    assert figure("gridpg", "gradcam") > figure("gridpg", "layercam") > 0.3
    assert beds.measure(mosaics_beds, "difull", "rollout") == {"DiFull bed": None}


def test_auroc_counts_pairs_and_a_tie_as_half() -> None:
    positive = torch.tensor([0.1, 0.5, 0.5, 0.9, 0.2, 0.3, 0.8, 0.4])
    negative = torch.tensor([0.5, 0.0, 0.1, 0.3, 0.2, 0.1, 0.6, 0.9])
    pairs = [(a > b) + (a == b) / 2 for a, b in product(positive.tolist(), negative.tolist())]
    found = beds.auroc(positive, negative)
    assert found.value == pytest.approx(sum(pairs) / 64)
    assert found.low is not None
    assert found.low < found.value < found.high
    assert beds.auroc(positive[:7], negative[:7]).low is None


def measured(rows: dict[str, list[float]], metric: str = "srg", direction: str = "higher") -> Measured:
    return Measured(metric, direction, tuple(rows), np.array(list(rows.values())))


def test_every_metric_is_in_the_tables_or_said_not_to_judge() -> None:
    in_tables = {column.partition("_")[0] for column in reliability.expected_columns()}
    assert in_tables | reliability.NOT_JUDGED.keys() == METRICS.keys()
    assert not in_tables & reliability.NOT_JUDGED.keys()
    covered = {metric.name for task in reliability.tasks() for metric in task.metrics}
    assert covered == in_tables
    assert set(reliability.ELSEWHERE) <= set(reliability.expected_columns())


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_beaten_is_the_share_of_pairs_by_loops(direction: str) -> None:
    rows = {
        "a": [1.0, 2.0, math.nan],
        "b": [3.0, 2.0, math.nan],
        "random": [2.0, 2.0, 1.0],
        "edges": [0.0, 5.0, 2.0],
    }
    one = measured(rows, direction=direction)
    sign = 1 if direction == "higher" else -1
    expected = []
    for at in range(2):
        pairs = [(sign * rows[m][at], sign * rows[c][at]) for m in "ab" for c in ("random", "edges")]
        expected.append(sum((ours > theirs) + (ours == theirs) / 2 for ours, theirs in pairs) / 4)
    assert reliability.beaten(one)[:2].tolist() == expected
    assert math.isnan(reliability.beaten(one)[2])
    assert reliability.image_by_image(one).value == pytest.approx(sum(expected) / 2)


def test_the_means_are_compared_over_the_images_that_have_a_figure() -> None:
    one = measured({"a": [4.0, math.nan], "b": [1.0, 1.0], "random": [0.0, 6.0], "edges": [2.0, 2.0]})
    assert reliability.on_the_means(one) == 0.5  # a 4 and b 1, against 3 and 2


def test_agreement_is_1_for_the_same_order_and_minus_1_for_the_reverse() -> None:
    one = measured({"a": [1.0, 2.0], "b": [3.0, 4.0], "random": [0.0, 0.5]})
    same = measured({"a": [10.0, 2.0], "b": [30.0, 4.0], "random": [0.0, 0.5]})
    reverse = measured({"a": [1.0, 2.0], "b": [0.0, 0.0], "random": [9.0, 9.0]})
    assert reliability.agreement(one, same) == 1
    assert reliability.agreement(one, reverse) == -1


def test_what_does_not_tell_methods_from_controls_is_named() -> None:
    good = measured({"a": [1.0] * 9, "random": [0.0] * 9})
    chance = measured({"a": [1.0, 0.0] * 4, "random": [0.0, 1.0] * 4})
    often, rarely, never = reliability.sentences(
        {"one": {"srg": good, "increase": chance}}, ["srg", "increase"]
    )
    assert often.endswith("on both networks: `srg`.")
    assert rarely.endswith(": `increase`.")
    assert never.endswith(": `increase`.")


@pytest.fixture(scope="module")
def on_the_demo(one_thread_a_module: None) -> dict[str, Measured]:
    """Some metrics of cheap methods on the demo's network, its images and its true masks."""
    model = whycam.load("demo")
    images = model.prepare(demo_images()[:8]).images
    masks = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in demo_masks()[:8]])
    names = list(model.class_names or ())
    given = beds.Shown(
        model.module, "features", images, [names.index(one) for one in demo_labels()[:8]], masks
    )
    metrics = [replace(METRICS["srg"], fills=("blur",)), METRICS["increase"], METRICS["energy"]]
    return reliability.evaluated(given, ("gradcam", "layercam", "guidedbackprop"), metrics, steps=6)


def test_srg_on_the_logit_and_energy_prefer_methods_to_controls_and_increase_does_not(
    on_the_demo: dict[str, Measured],
) -> None:
    found = {name: reliability.image_by_image(column) for name, column in on_the_demo.items()}
    for name in ("srg_blur_logit", "energy"):
        assert found[name].value > 0.75
        assert found[name].low > found["increase"].high
    assert found["increase"].low < 0.6
    assert on_the_demo["increase"].methods[-len(CONTROLS) :] == tuple(CONTROLS)


def test_a_parts_tables_are_put_between_its_own_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"a\n{MARK}\nold\n{MARK}\nb\n{BEDS_MARK}\nold\n{BEDS_MARK}\nc\n")
    put_between_marks(page, ["new"], BEDS_MARK)
    assert page.read_text() == f"a\n{MARK}\nold\n{MARK}\nb\n{BEDS_MARK}\nnew\n{BEDS_MARK}\nc\n"
