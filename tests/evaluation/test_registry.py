"""The metrics' registry: what users read, and what a function may ask for."""

import pytest
import torch

from whycam.errors import UsageError
from whycam.evaluation import METRICS, Metric, find_metric
from whycam.evaluation.measuring import PROVIDERS
from whycam.evaluation.registry import NEEDS, find_metrics

NAMES = [
    *("insertion", "deletion", "srg", "tilecorr", "energy", "enrichment", "pointing", "auprc", "iou"),
    *("randomisation", "contrast", "stability", "sparsity", "road"),
    *("averagedrop", "increase", "gain", "adcc", "gridpg", "difull"),
]


def test_the_metrics_are_these():
    assert list(METRICS) == NAMES
    assert {name for name, metric in METRICS.items() if metric.standing == "legacy"} == {
        "averagedrop",
        "increase",
        "gain",
        "adcc",
    }


def test_all_that_metrics_ask_for_is_provided():
    assert set(PROVIDERS) == set(NEEDS)
    for metric in METRICS.values():
        assert metric.needs <= set(NEEDS)


def test_an_unknown_metric_is_refused_with_those_near_it():
    with pytest.raises(UsageError, match="metric 'insertoin' is unknown; did you mean insertion"):
        find_metric("insertoin")


def test_a_metric_that_asks_for_what_nobody_has_is_refused():
    def odd(maps, weather):
        return maps

    with pytest.raises(UsageError, match="asks for 'weather', which nothing provides"):
        _ = Metric("odd", odd, "0", None, None, "higher", "nobody", "odd").needs


def test_masks_bring_their_metrics_and_are_missed_where_one_is_asked_for():
    assert "energy" in [metric.name for metric in find_metrics(None, masks=True)]
    assert "energy" not in [metric.name for metric in find_metrics(None, masks=False)]
    with pytest.raises(UsageError, match="metric 'iou' needs true masks"):
        find_metrics(["srg", "iou"], masks=False)
    with pytest.raises(UsageError, match="no metrics"):
        find_metrics([], masks=False)


def test_another_package_registers_a_metric_by_an_entry_point(monkeypatch):
    def one(maps):
        return torch.ones(len(maps))

    metric = Metric("theirs", one, "0", 0.0, 1.0, "higher", "them", "one")

    class Point:
        value = "theirs:metric"

        def load(self):
            return metric

    monkeypatch.setattr("whycam.evaluation.registry.entry_points", lambda group, name: [Point()])
    assert find_metric("theirs") is metric
