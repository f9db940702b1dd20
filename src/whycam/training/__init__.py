"""Fine-tuning: a folder of images by class -> a checkpoint an epoch, with all that each needs beside it."""

from whycam.training.folder import check_folder
from whycam.training.history import EpochRecord, best_of
from whycam.training.packages import check_packages
from whycam.training.settings import OPTIMIZERS, PRECISIONS, TrainingSettings
from whycam.training.training import Listener, TrainingRequest, TrainingSummary, start_of, train

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "EpochRecord",
    "Listener",
    "TrainingRequest",
    "TrainingSettings",
    "TrainingSummary",
    "best_of",
    "check_folder",
    "check_packages",
    "start_of",
    "train",
]
