"""What may be concluded, and when nothing may."""

import math

import pytest

from whycam.evaluation.figures import Figure
from whycam.evaluation.verdict import judge


def figure(mean: float, low: float, high: float, n: int = 50) -> Figure:
    return Figure(float(mean), float(low), float(high), n)


CONTROLS = {"random": figure(0, -0.1, 0.1), "edges": figure(0.2, 0.1, 0.3)}
GOOD, BETTER, NEAR = figure(0.6, 0.5, 0.7), figure(0.9, 0.8, 1.0), figure(0.85, 0.75, 0.95)
EVIDENCE = figure(0.8, 0.7, 0.9)


def test_the_best_is_named_where_its_interval_is_apart_from_all_others():
    verdict = judge("srg", {"a": GOOD, "b": BETTER, **CONTROLS}, "higher", EVIDENCE)
    assert verdict.best == ("b",)
    assert verdict.concludes
    assert verdict.sentence == (
        "b is best by srg, 0.900 (0.800 to 1.00) on 50 images, before a, 0.600 (0.500 to 0.700), and beats "
        "all controls (the first of them edges, 0.200 (0.100 to 0.300))"
    )


def test_the_best_is_withheld_where_intervals_overlap():
    verdict = judge("srg", {"a": NEAR, "b": BETTER, "c": GOOD, **CONTROLS}, "higher", EVIDENCE)
    assert verdict.best == ("b", "a")
    assert not verdict.concludes
    assert "b, a can't be told apart by srg" in verdict.sentence
    assert "the best is withheld" in verdict.sentence


@pytest.mark.parametrize(
    ("control", "how"), [(figure(0.55, 0.4, 0.6), "can't be told from it"), (BETTER, "wins")]
)
def test_nothing_is_concluded_where_a_control_is_not_beaten(control, how):
    verdict = judge("srg", {"a": GOOD, **CONTROLS, "centre": control}, "higher", EVIDENCE)
    assert verdict.best == ()
    assert verdict.sentence.startswith("nothing can be concluded from srg on 50 images: no method beats")
    assert f"the control centre, {control.text()}, {how}" in verdict.sentence


def test_a_control_with_a_wide_interval_is_not_beaten_though_its_mean_is_not_the_first():
    wide = figure(0.1, -1, 1)
    verdict = judge("srg", {"a": GOOD, **CONTROLS, "centre": wide}, "higher", EVIDENCE)
    assert verdict.best == ()
    assert "centre" in verdict.sentence


def test_low_is_good_where_the_metric_says_so():
    figures = {"a": figure(-0.6, -0.7, -0.5), "b": figure(0.6, 0.5, 0.7), **CONTROLS}
    assert judge("deletion", figures, "lower", EVIDENCE).best == ("a",)


def test_no_map_of_a_model_that_does_not_look_at_its_images_is_right_or_wrong():
    for evidence in (figure(0.01, 0.009, 0.011), figure(0.2, -0.1, 0.5)):
        verdict = judge("srg", {"a": BETTER, **CONTROLS}, "higher", evidence)
        assert verdict.best == ()
        assert verdict.sentence.startswith("nothing can be concluded: the model's probability falls by only")


def test_a_single_image_a_missing_control_or_no_figure_conclude_nothing():
    single = figure(5, math.nan, math.nan, 1)
    none = Figure(math.nan, math.nan, math.nan, 0, 50)
    assert judge("srg", {"a": single, **CONTROLS}, "higher").best == ()
    assert "no control has a figure" in judge("srg", {"a": GOOD}, "higher").sentence
    assert "no method has a figure" in judge("srg", {"a": none, **CONTROLS}, "higher").sentence
    assert "no method has a figure" in judge("srg", CONTROLS, "higher").sentence


def test_a_descriptor_names_no_best():
    assert judge("sparsity", {"a": BETTER, **CONTROLS}, "neither").best == ()


def test_one_method_alone_is_said_to_beat_the_controls_and_nothing_more():
    verdict = judge("srg", {"a": GOOD, **CONTROLS}, "higher")
    assert verdict.best == ("a",)
    assert "no other method was compared" in verdict.sentence
