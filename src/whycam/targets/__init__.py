"""What is explained: from a model's outputs to one score an image.

A target is a value. ``pin`` fixes what depends on the outputs (the top class, the pixels of a class, a
detection) to that of given outputs, so that noisy or mirrored copies of an image are explained for what the
model said of the clean image.
"""

from whycam.targets.base import CustomTarget, Target
from whycam.targets.boxes import BoxCoordinate, BoxScore, Side
from whycam.targets.classes import Binary, ClassIndex, ClassPerImage, Contrast, Probability, Rank, TopClass
from whycam.targets.dense import SegmentationClass
from whycam.targets.finer import Finer
from whycam.targets.given import TargetLike, as_target
from whycam.targets.joining import PerImage, join_targets
from whycam.targets.outputs import Logits, Outputs, logits_of
from whycam.targets.similarity import Similarity
from whycam.targets.values import Value

__all__ = [
    "Binary",
    "BoxCoordinate",
    "BoxScore",
    "ClassIndex",
    "ClassPerImage",
    "Contrast",
    "CustomTarget",
    "Finer",
    "Logits",
    "Outputs",
    "PerImage",
    "Probability",
    "Rank",
    "SegmentationClass",
    "Side",
    "Similarity",
    "Target",
    "TargetLike",
    "TopClass",
    "Value",
    "as_target",
    "join_targets",
    "logits_of",
]
