"""Which method is recommended, and when none is: on made-up figures, on random weights, on noise."""

import math

import numpy as np
import pytest
import torch

import whycam
from whycam.errors import UsageError
from whycam.evaluation import CONTROLS, Evaluation, evaluate, find_metric
from whycam.evaluation.measurements import Measured, Measurement
from whycam.evaluation.plan import Plan
from whycam.evaluation.recommend import recommend

pytestmark = pytest.mark.usefixtures("one_thread")

CONTROL = {"srg": 0.2, "contrast": 0.0, "randomisation": 0.0}
GOOD = {"srg": 2.0, "contrast": 0.5, "randomisation": 0.8}


def made(
    methods: dict[str, dict[str, float]],
    *,
    images: int = 30,
    evidence: float = 0.8,
    controls: dict[str, dict[str, float]] | None = None,
    metrics: tuple[str, ...] = ("srg", "contrast", "randomisation"),
) -> Evaluation:
    """An evaluation whose figures lie around the given means, 0.05 to both sides."""
    draws = np.random.default_rng(1).uniform(-0.05, 0.05, images)
    known = {**methods, **dict.fromkeys(CONTROLS, CONTROL), **(controls or {})}
    rows = []
    for number, draw in enumerate(draws):
        for method, means in known.items():
            srg = {
                f"srg_{fill}_logit": means.get(fill, means["srg"]) + float(draw)
                for fill in ("blur", "push-pull")
            }
            others = {name: means[name] for name in metrics if name != "srg"}
            rows.append(
                Measurement(number, str(number), method, {**srg, **others}, 0.0, False, False, evidence)
            )
    return Evaluation(Plan(tuple(map(find_metric, metrics)), len(known)), Measured(rows))


def better(srg: float, **others: float) -> dict[str, float]:
    return {**GOOD, "srg": srg, **others}


def test_a_method_that_is_ahead_of_all_others_is_recommended_with_its_figures():
    found = recommend(made({"gradcam": better(1.0), "gradient": better(3.0)}))
    assert (found.method, found.leaders) == ("gradient", ("gradient",))
    assert [standing.method for standing in found.standings] == ["gradient", "gradcam"]
    assert found.reason.startswith("gradient is recommended (2 F + B, about 4 forwards): no other candidate")
    srg = found.standings[0].srg
    assert f"Its SRG on the logit is {srg.text()} on 30 images" in found.reason
    assert "It moves by 0.500 (0.500 to 0.500) when the likeliest other class is explained" in found.reason


def test_of_leaders_that_can_t_be_told_apart_the_cheapest_is_recommended_and_the_sentence_says_so():
    found = recommend(
        made({"gradient": better(3.0), "gradcam": better(2.99), "layercam": better(2.98), "dff": better(1)})
    )
    assert found.method == "gradcam"
    assert found.leaders == ("gradient", "gradcam", "layercam")
    assert found.reason.startswith("gradient, gradcam, layercam can't be told apart; of them gradcam is")
    assert "of those of its cost it has the highest mean" in found.reason


def test_a_cost_that_grows_with_the_layer_counts_by_its_channels():
    close = made({"ablationcam": better(3.0), "gradient": better(3.0)})
    assert recommend(close, channels=20.0).method == "ablationcam"
    assert recommend(close, channels=200.0).method == "gradient"
    assert recommend(close).method == "gradient"


def test_methods_with_the_same_maps_count_as_one_and_are_named_once():
    found = recommend(
        made({name: better(3.0) for name in ("cam", "gradcam", "hirescam")}),
        same=[("cam", "gradcam", "hirescam")],
    )
    assert (found.method, found.leaders) == ("gradcam", ("gradcam",))
    assert found.standings[0].same == ("cam", "hirescam")
    assert found.reason.startswith("gradcam, whose maps here are those of cam, hirescam, is recommended")


@pytest.mark.parametrize("fill", ["blur", "push-pull"])
def test_a_method_that_a_control_equals_under_one_fill_is_no_candidate(fill):
    centre = {**CONTROL, fill: 2.9}
    evaluation = made({"gradcam": better(2.9)}, controls={"centre": centre})
    found = recommend(evaluation)
    assert found.method is None
    assert found.leaders == ()
    assert found.reason.startswith("no method beats the controls on this model: the first of 1, gradcam")
    assert f"doesn't beat the control centre under the fill {fill}" in found.reason


def test_a_method_that_is_blind_to_the_class_is_not_recommended_though_it_is_first():
    blind = better(5.0, contrast=1e-7)
    both = recommend(made({"eigencam": blind, "gradcam": better(3.0)}))
    assert (both.method, both.leaders) == ("gradcam", ("gradcam",))
    assert "eigencam" in both.reason
    assert "is blind to the class" in both.standings[0].objection
    alone = recommend(made({"eigencam": blind, "gradcam": better(0.2)}))
    assert alone.method is None
    assert alone.reason.startswith("no method is recommended: what beats the controls")
    # where contrast was not measured, nobody can know
    assert recommend(made({"eigencam": blind}, metrics=("srg",))).method == "eigencam"


def test_a_map_that_random_weights_hardly_move_earns_a_caution():
    caution = "much of this map is the image's and not the weights'"
    assert caution in recommend(made({"guidedbackprop": better(3.0, randomisation=0.1)})).reason
    assert caution not in recommend(made({"gradcam": better(3.0)})).reason


def test_masks_are_reported_and_never_decide():
    metrics = ("srg", "energy")
    outside, inside = {"srg": 3.0, "energy": 0.1}, {"srg": 1.0, "energy": 0.9}
    control = {"srg": 0.2, "energy": 0.5}
    found = recommend(
        made(
            {"gradcam": outside, "layercam": inside},
            metrics=metrics,
            controls=dict.fromkeys(CONTROLS, control),
        )
    )
    assert found.method == "gradcam"
    assert (
        "0.100 (0.100 to 0.100) of its positive mass is inside the masks, which didn't decide" in found.reason
    )


def test_nothing_is_recommended_where_the_model_does_not_depend_on_its_images():
    found = recommend(made({"gradcam": better(3.0)}, evidence=0.02))
    assert found.method is None
    assert found.reason.startswith("nothing can be concluded: the model's probability falls by only 0.02")


def test_nothing_is_recommended_without_methods_or_from_one_image():
    assert (
        recommend(made({})).reason == "nothing can be concluded: no method was measured beside the controls"
    )
    one = recommend(made({"gradcam": better(3.0)}, images=1, evidence=math.nan))
    assert one.method is None
    assert "no method has a figure of two images or more" in one.reason


def test_few_images_are_said_to_be_few():
    assert "take this as a hint" in recommend(made({"gradcam": better(3.0)}, images=5)).reason
    assert "take this as a hint" not in recommend(made({"gradcam": better(3.0)}, images=30)).reason


def test_an_evaluation_without_srg_is_refused():
    with pytest.raises(UsageError, match="a recommendation needs 'srg_blur_logit', which was not measured"):
        recommend(Evaluation(Plan((find_metric("sparsity"),), 0), Measured()))


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    from whycam.demo import demo_images

    return whycam.load("demo").prepare(demo_images()[:16]).images


ASKED = {"metrics": ["srg", "contrast"], "steps": 4}


def test_on_the_demo_s_model_a_method_is_recommended(photographs):
    found = recommend(evaluate(whycam.load("demo").module, photographs, ["gradcam", "eigencam"], **ASKED))
    assert found.method == "gradcam"
    assert {standing.method: bool(standing.objection) for standing in found.standings} == {
        "gradcam": False,
        "eigencam": True,
    }


def test_on_random_weights_nothing_is_recommended(photographs):
    from whycam.demo.network import DemoNet

    torch.manual_seed(0)
    found = recommend(evaluate(DemoNet(), photographs[:, :, ::2, ::2], ["gradcam", "layercam"], **ASKED))
    assert found.method is None
    assert found.reason.startswith("nothing can be concluded: the model's probability")


def test_maps_of_random_alone_recommend_nothing(photographs):
    found = recommend(evaluate(whycam.load("demo").module, photographs, ["random"], **ASKED))
    assert found.method is None
    assert found.standings == ()
