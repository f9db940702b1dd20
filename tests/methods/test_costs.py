"""A cost's text as a number of forwards: every registered one can be read, and the order is the right one."""

import dataclasses
import math

import pytest

from whycam.errors import MethodError
from whycam.methods import METHODS
from whycam.methods.costs import FEW, forwards_of


@pytest.mark.parametrize(
    ("method", "forwards"),
    [
        ("eigencam", 1),
        ("gradcam", 1.05),
        ("liftcam", 1 + 2 * 0.05 + 0.05),
        ("refinecam", 1 + 2),  # back through all stages
        ("fullgrad", 2 + 2),
        ("guidedgradcam", 2 + 2 + 0.05),
        ("scorecam", 1 + 64),
        ("iscam", 1 + 10 * 64),
        ("ablationcam", 1 + 64 * 0.05),
        ("reciprocam", 1 + 49 * 0.05),
        ("extremal", 1 + 800 * 3),
        ("legrad", 2 + 2 + 2),
    ],
)
def test_a_cost_comes_to_so_many_forwards(method, forwards):
    assert forwards_of(METHODS[method], channels=64.0, positions=49.0) == pytest.approx(forwards)


def test_every_registered_cost_can_be_read_and_what_grows_with_the_layer_is_not_known_without_it():
    costs = {name: forwards_of(method) for name, method in METHODS.items()}
    assert {name for name, cost in costs.items() if math.isinf(cost)} == {
        *("scorecam", "sscam", "iscam", "ablationcam", "reciprocam")
    }
    dear = {"occlusion", "rise", "sobol", "extremal", "opticam", "smoothgrad", "integrated", "blurig"}
    assert all(costs[name] > FEW for name in dear)
    assert all(costs[name] < FEW for name in ("gradcam", "layercam", "gradient", "fullgrad", "chefer"))


def test_an_unknown_cost_is_infinite_and_a_text_that_is_no_sum_is_refused():
    method = METHODS["gradcam"]
    assert math.isinf(forwards_of(dataclasses.replace(method, cost="unknown")))
    for text in ("quick", "F + ", "F plus B", "(F + B"):
        with pytest.raises(MethodError, match="can't be read; write a sum such as"):
            forwards_of(dataclasses.replace(method, cost=text))
