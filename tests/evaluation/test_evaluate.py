"""A whole evaluation: what it costs, that nothing depends on the batches, and what it concludes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evaluation.beds import Counted, Small, Weighted, noise, square

import whycam
from whycam.errors import RunError, UsageError
from whycam.evaluation import CONTROLS, METRICS, evaluate
from whycam.evaluation.evaluate import scored_targets
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import find_metric
from whycam.targets import ClassIndex, Value

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise(5, 3, 8, 8)
MASKS = torch.stack([square(8, top, 2) for top in range(5)])
SCALES = ("logit", "probability")
EVERYTHING = [name for name in METRICS if name not in ("gridpg", "difull")]


@pytest.fixture(scope="module")
def network() -> Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Small()


@pytest.mark.parametrize(
    "metrics",
    [["srg"], ["insertion", "deletion", "srg"], ["srg", "road", "tilecorr"], ["averagedrop"], ["sparsity"]],
)
def test_the_plan_says_how_many_forwards_there_will_be(network, metrics):
    counted = Counted(network)
    evaluate(counted, IMAGES, ["centre"], layer="network.features", metrics=metrics, steps=6)
    explained = len(IMAGES)  # one forward for the predictions
    plan = Plan(tuple(find_metric(name) for name in metrics), len(CONTROLS), 6)
    assert counted.seen == explained + plan.forwards(len(IMAGES))


def test_three_curve_metrics_cost_what_one_does_and_a_fill_at_most_2_s_less_1():
    def planned(*names: str, methods: int = 1, steps: int = 20) -> int:
        return Plan(tuple(find_metric(name) for name in names), methods, steps).forwards(1)

    assert planned("insertion") == planned("insertion", "deletion", "srg") == 1 + 2 * (2 * 20 - 1)
    assert planned("road") == 1 + 2 * 20 - 1
    # what does not depend on the map is paid once for all methods
    assert planned("srg", "tilecorr", methods=7) == 1 + 2 + 16 + 7 * 2 * 2 * 19


def test_a_metric_itself_is_measured_under_the_fills_that_it_has(network):
    linear = replace(METRICS["srg"], fills=("linear",))
    found = evaluate(network, IMAGES, ["gradcam"], metrics=["road", linear], steps=6)
    assert set(found.columns) == {f"{name}_linear_{scale}" for name in ("road", "srg") for scale in SCALES}
    for scale in SCALES:  # both curves begin and end alike: the area is the mean gap of the steps between
        area, gap = (np.array(found.values("gradcam", f"{name}_linear_{scale}")) for name in ("srg", "road"))
        np.testing.assert_allclose(area, 2 * gap * 5 / 6, atol=1e-6)


def test_an_evaluation_does_not_go_on_behind_one_of_other_fills(network, tmp_path):
    place, zero = tmp_path / "log", replace(METRICS["srg"], fills=("zero",))
    evaluate(network, IMAGES, ["gradcam"], metrics=["srg"], steps=3, keep=place)
    with pytest.raises(RunError, match="other settings: metrics was"):
        evaluate(network, IMAGES, ["gradcam"], metrics=[zero], steps=3, keep=place)


def test_no_figure_depends_on_the_batch_size(network):
    one, five = (
        evaluate(network, IMAGES, ["gradcam"], metrics=EVERYTHING, masks=MASKS, steps=4, batch_size=size)
        for size in (2, 5)
    )
    assert one.methods == five.methods == ("gradcam", *CONTROLS)
    for method in five.methods:
        row, other = five.measured.of(method), one.measured.of(method)
        assert list(row.numbers) == list(other.numbers) == list(range(5))
        for column, values in row.figures.items():
            assert values == pytest.approx(other.figures[column], abs=1e-6, nan_ok=True)
        for name, curves in row.curves.items():
            assert curves == pytest.approx(other.curves[name], abs=1e-6)
        assert (row.ties == other.ties).all()
        assert (row.blank == other.blank).all()
        assert (row.broken == other.broken).all()
        assert row.evidence == pytest.approx(other.evidence, abs=1e-9)


def test_every_image_is_scored_and_not_the_first_batch_alone(network):
    found = evaluate(network, IMAGES, ["gradcam"], metrics=["srg", "road"], steps=4, batch_size=2)
    assert list(found.measured.images) == list(range(5))
    for column in found.columns:
        values = found.values("gradcam", column)
        assert len(set(values)) == 5
        assert found.figure("gradcam", column).mean == pytest.approx(sum(values) / 5)


def test_all_metrics_run_on_colour_images_and_keep_to_their_range(network):
    found = evaluate(network, IMAGES, ["gradcam", "gradient"], metrics=EVERYTHING, masks=MASKS, steps=4)
    assert found.methods == ("gradcam", "gradient", *CONTROLS)
    for method in found.methods:
        for column, values in found.measured.of(method).figures.items():
            metric = METRICS[column.partition("@")[0].partition("_")[0]]
            assert np.isfinite(values).all()
            assert metric.low is None or (metric.low - 1e-9 <= values).all()
            assert metric.high is None or (values <= metric.high + 1e-9).all()


def test_controls_do_not_move_with_the_weights_or_the_class(network):
    found = evaluate(network, IMAGES, ["gradient"], metrics=["randomisation", "contrast", "stability"])
    for control in CONTROLS:
        assert max(found.values(control, "randomisation")) < 1e-9
        assert max(found.values(control, "contrast")) < 1e-9
    assert max(found.values("centre", "stability")) == 0
    assert min(found.values("gradient", "contrast")) > 0.01


def test_a_blank_and_a_broken_map_are_counted_and_score_as_chance():
    dead = Weighted(torch.zeros(8, 8))

    found = evaluate(
        dead, IMAGES, ["gradient"], metrics=["srg", "enrichment", "pointing"], masks=MASKS, steps=4
    )
    note = found.note("gradient")
    assert (note.n, note.blank, note.broken, note.ties) == (5, 5, 0, 1.0)
    assert found.values("gradient", "enrichment") == [1.0] * 5
    assert found.values("gradient", "pointing") == pytest.approx([9 / 64] * 5)
    assert set(found.values("gradient", "srg_blur_logit")) == {0.0}


def test_iou_is_measured_on_the_images_that_its_threshold_was_not_tuned_on(network):
    found = evaluate(network, IMAGES, ["gradcam"], metrics=["iou"], masks=MASKS)
    assert found.figure("gradcam", "iou").n == 2  # of numbers 1 and 3; 0, 2 and 4 tuned it


def test_an_object_that_a_trained_model_reads_is_found_and_the_sentence_says_so():
    from PIL import Image

    from whycam.demo import demo_images, demo_masks

    masks = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in demo_masks()])
    found = evaluate(whycam.load("demo"), demo_images(), metrics=["enrichment"], masks=masks)
    verdict = found.verdict("enrichment")
    assert verdict.best == ("gradcam",)
    assert "gradcam beats all controls" in verdict.sentence
    assert found.measured.images[0].endswith("00-zero.png")


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    from whycam.demo import demo_images

    return whycam.load("demo").prepare(demo_images()[:8]).images


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_on_random_weights_nothing_can_be_concluded(draw, photographs):
    from whycam.demo.network import DemoNet

    torch.manual_seed(draw)
    small = photographs[:, :, ::2, ::2]
    found = evaluate(
        DemoNet(), small, ["gradcam", "layercam"], metrics=["srg", "energy"], steps=3, masks=ANYWHERE
    )
    assert found.evidence.mean < 0.1
    for column in found.columns:
        assert found.verdict(column).best == ()
        assert found.verdict(column).sentence.startswith("nothing can be concluded")


ANYWHERE = torch.stack([square(48, top, top, 12) for top in range(0, 32, 4)])


def test_from_maps_of_random_nothing_can_be_concluded(photographs):
    model = whycam.load("demo").module
    found = evaluate(model, photographs, ["random"], metrics=["srg"], steps=3)
    assert found.evidence.mean > 0.5
    for column in found.columns:
        assert found.verdict(column).sentence.startswith("nothing can be concluded")


def test_a_target_without_classes_has_one_scale_and_no_evidence(network):
    found = evaluate(network, IMAGES, ["gradient"], target=Value(1), metrics=["srg"], steps=4)
    assert list(found.columns) == ["srg_blur_logit", "srg_push-pull_logit"]
    assert found.evidence is None
    with pytest.raises(UsageError, match="need a class's probability"):
        evaluate(network, IMAGES, ["gradient"], target=Value(1), metrics=["gain"])


def test_the_probability_is_that_of_the_explained_class_by_softmax_or_of_a_single_logit_by_sigmoid():
    many, one = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0]])
    assert torch.equal(scored_targets(ClassIndex(1), many)[1](many), many.softmax(1)[:, 1])
    assert torch.equal(scored_targets(ClassIndex(0), one)[1](one), one.sigmoid()[:, 0])


def test_the_model_is_left_as_it_came(network):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    evaluate(network, IMAGES[:2], ["gradcam"], metrics=["srg", "randomisation", "adcc"], steps=3)
    assert network.training
    assert not network._forward_hooks
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"methods": []}, "expected a sequence of at least one name"),
        ({"methods": "gradcam"}, "expected a sequence of at least one name"),
        ({"steps": 1}, "1 steps; a curve needs at least 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"masks": MASKS[:2]}, r"masks are \[2, 8, 8\] for images \[5, 3, 8, 8\]"),
        ({"metrics": ["gridpg"]}, "a metric needs cells"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(network, given, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        evaluate(network, IMAGES, **{"methods": ["gradcam"], **given})
    assert "\n" not in str(caught.value)


def test_the_document_is_plain_json_with_a_sentence_a_column(network):
    found = evaluate(network, IMAGES, ["gradcam"], metrics=["srg", "energy", "gain"], masks=MASKS, steps=3)
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert document["columns"]["gain"]["standing"] == "legacy"
    assert document["controls"] == list(CONTROLS)
    assert all(column["conclusion"] for column in document["columns"].values())
    assert document["columns"]["energy"]["figures"]["gradcam"]["n"] == 5


def test_a_kept_evaluation_goes_on_behind_what_is_there_and_measures_nothing_twice(network, tmp_path):
    keep = tmp_path / "figures.jsonl"
    asked = {"metrics": ["srg"], "steps": 4, "batch_size": 2, "layer": "network.features", "keep": keep}
    whole = evaluate(Counted(network), IMAGES, ["gradcam"], **asked)
    lines = keep.read_bytes().splitlines(keepends=True)
    keep.write_bytes(b"".join(lines[:3]) + lines[3][:-200])  # two images, and a third that is cut off
    counted = Counted(network)
    again = evaluate(counted, IMAGES, ["gradcam"], **asked)
    assert again.figures == whole.figures
    assert len(again.measured) == len(whole.measured) == 5
    assert counted.seen == 3 + whole.plan.forwards(3)


def test_figures_of_another_evaluation_are_refused(network, tmp_path):
    keep = tmp_path / "figures.jsonl"
    other = Small()
    evaluate(network, IMAGES, ["gradcam"], metrics=["srg"], steps=4, keep=keep)
    with pytest.raises(RunError, match=r"other settings: steps was 4, now 5"):
        evaluate(network, IMAGES, ["gradcam"], metrics=["srg"], steps=5, keep=keep)
    with pytest.raises(RunError, match="other settings: model weights was"):
        evaluate(other, IMAGES, ["gradcam"], metrics=["srg"], steps=4, keep=keep)
    with pytest.raises(RunError, match="other settings: pictures was"):
        evaluate(network, IMAGES + 1, ["gradcam"], metrics=["srg"], steps=4, keep=keep)
    keep.write_bytes(b"not a line of figures\n")
    with pytest.raises(RunError, match="is damaged"):
        evaluate(network, IMAGES, ["gradcam"], metrics=["srg"], steps=4, keep=keep)


KILLED = """
    import os, signal, sys, torch
    from pathlib import Path
    from tests.evaluation.test_evaluate import IMAGES
    from tests.evaluation.beds import Small
    from whycam.evaluation import evaluate

    def end(finished, planned):
        if finished >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.manual_seed(3)
    asked = {"metrics": ["srg"], "steps": 4, "batch_size": 1, "keep": Path(sys.argv[1])}
    evaluate(Small(), IMAGES, ["gradcam"], progress=end, **asked)
"""


def test_an_evaluation_that_was_killed_loses_no_finished_image(tmp_path):
    keep = tmp_path / "figures.jsonl"
    code = textwrap.dedent(KILLED)
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])}
    ended = subprocess.run([sys.executable, "-c", code, str(keep)], env=place, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    torch.manual_seed(3)
    network, progress = Small(), []
    found = evaluate(
        network,
        IMAGES,
        ["gradcam"],
        metrics=["srg"],
        steps=4,
        keep=keep,
        progress=lambda finished, planned: progress.append(finished),
    )
    assert progress == [2, 5]
    whole = evaluate(network, IMAGES, ["gradcam"], metrics=["srg"], steps=4)
    assert found.figures["srg_blur_logit"]["gradcam"].mean == pytest.approx(
        whole.figures["srg_blur_logit"]["gradcam"].mean, abs=1e-9
    )


def test_the_kept_curves_are_those_that_the_figures_were_read_from(network):
    found = evaluate(
        network, IMAGES, ["gradcam"], metrics=["srg", "deletion", "energy"], masks=MASKS, steps=4
    )
    row = found.measured.of("gradcam")
    least, most = row.curves["least_push-pull"], row.curves["most_push-pull"]
    assert least.shape == (5, 5)
    areas = [np.trapezoid(curve, dx=1 / 4, axis=1) for curve in (least, most)]
    assert areas[1] == pytest.approx(row.figures["deletion_push-pull_probability"], abs=1e-6)
    assert areas[0] - areas[1] == pytest.approx(row.figures["srg_push-pull_probability"], abs=1e-6)
    told = found.to_document()["curves"]
    assert (told["scale"], told["steps"], set(told["fills"])) == ("probability", 4, {"blur", "push-pull"})
    band = told["fills"]["push-pull"]["gradcam"]["most"]
    assert band["mean"] == pytest.approx(most.mean(0), abs=1e-6)
    assert all(
        low <= mean <= high
        for low, mean, high in zip(*(band[k] for k in ("low", "mean", "high")), strict=True)
    )


def test_without_curves_there_are_none_to_draw(network):
    found = evaluate(network, IMAGES, ["gradcam"], metrics=["energy"], masks=MASKS)
    assert found.to_document()["curves"] is None
