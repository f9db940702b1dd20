"""What is explained: from a model's outputs to one score an image.

A target is a value. ``pin`` fixes what depends on the outputs (the top class) to the classes of given
outputs, so that noisy or mirrored copies of an image are explained for the clean image's class.
"""

from whycam.targets.base import CustomTarget, Target
from whycam.targets.classes import ClassIndex, ClassPerImage, Contrast, Probability, Rank, TopClass
from whycam.targets.joining import PerImage, TargetLike, as_target, join_targets
from whycam.targets.outputs import Logits, Outputs, logits_of

__all__ = [
    "ClassIndex",
    "ClassPerImage",
    "Contrast",
    "CustomTarget",
    "Logits",
    "Outputs",
    "PerImage",
    "Probability",
    "Rank",
    "Target",
    "TargetLike",
    "TopClass",
    "as_target",
    "join_targets",
    "logits_of",
]
