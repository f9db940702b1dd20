"""Can a heatmap be trusted? Metrics, controls, and what may be concluded."""

from whycam.evaluation.cascade import CascadeStep, cascading_randomisation
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.evaluate import evaluate
from whycam.evaluation.figures import Figure, summarise
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import METRICS, Metric, find_metric
from whycam.evaluation.run import RunEvaluation, evaluate_run
from whycam.evaluation.summary import Evaluation
from whycam.evaluation.verdict import Verdict, judge

__all__ = [
    "CONTROLS",
    "METRICS",
    "CascadeStep",
    "Evaluation",
    "Figure",
    "Metric",
    "Plan",
    "RunEvaluation",
    "Verdict",
    "cascading_randomisation",
    "evaluate",
    "evaluate_run",
    "find_metric",
    "judge",
    "summarise",
]
