"""Means with intervals, whatever the order and the batches."""

import math
import random

import numpy as np
import pytest

from whycam.evaluation.figures import Figure, summarise

VALUES = np.random.default_rng(0).normal(3.0, 1.0, 200).tolist()


def test_the_mean_is_exact_and_the_interval_covers_it_as_wide_as_theory_has_it():
    figure = summarise(VALUES)
    assert figure.mean == math.fsum(VALUES) / 200
    assert figure.low < figure.mean < figure.high
    expected = 2 * 1.96 * float(np.std(VALUES)) / math.sqrt(200)
    assert figure.high - figure.low == pytest.approx(expected, rel=0.1)
    assert figure.n == 200


def test_no_order_of_the_images_changes_a_digit_and_the_seed_settles_the_interval():
    shuffled = VALUES.copy()
    random.Random(1).shuffle(shuffled)
    assert summarise(shuffled) == summarise(VALUES)
    assert summarise(VALUES, seed=1).low != summarise(VALUES).low


def test_undefined_values_are_counted_and_never_averaged():
    figure = summarise([1.0, math.nan, 3.0, math.inf])
    assert (figure.mean, figure.n, figure.undefined) == (2.0, 2, 2)
    none = summarise([math.nan])
    assert (math.isnan(none.mean), none.n, none.undefined) == (True, 0, 1)


def test_a_single_image_has_no_interval_and_overlaps_everything():
    one = summarise([5.0])
    assert (one.mean, one.n) == (5.0, 1)
    assert math.isnan(one.low)
    assert one.overlaps(summarise(VALUES))


def test_intervals_overlap_where_they_touch():
    one = Figure(2.0, 1.0, 3.0, 10)
    assert one.overlaps(Figure(4.0, 3.0, 5.0, 10))
    assert not one.overlaps(Figure(4.0, 3.1, 5.0, 10))


def test_many_values_are_drawn_in_bounded_pieces(monkeypatch):
    whole = summarise(VALUES)
    monkeypatch.setattr("whycam.evaluation.figures._VALUES_AT_ONCE", 1000)
    assert summarise(VALUES) == whole
