"""Explaining many images into a run folder: plan, read, explain, store, resume."""

from whycam.runs.local import check_places, run_explain
from whycam.runs.probe import stand_in_image
from whycam.runs.request import Existing, PictureStyle, Progress, RunRequest, RunSummary

__all__ = [
    "Existing",
    "PictureStyle",
    "Progress",
    "RunRequest",
    "RunSummary",
    "check_places",
    "run_explain",
    "stand_in_image",
]
