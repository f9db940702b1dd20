"""Who takes the pictures: TensorBoard, Weights & Biases, MLflow, a folder. None of them is imported here."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL.Image import Image

from whycam.callbacks.drawing import Drawn
from whycam.rows import png_of
from whycam.store.files import make_folders, write_atomically

Taker: TypeAlias = Callable[[Drawn], None]


def to_tensorboard(writer: Any, drawn: Drawn) -> None:
    """Give a ``SummaryWriter`` a picture an image, and let it write them."""
    for name, picture in zip(drawn.names, drawn.pictures, strict=True):
        writer.add_image(f"{drawn.tag}/{name}", np.asarray(picture), drawn.step, dataformats="HWC")
    writer.flush()


def to_wandb_logger(logger: Any, drawn: Drawn) -> None:
    """Give Lightning's ``WandbLogger`` all pictures under one key, with their captions."""
    pictures, captions = list(drawn.pictures), list(drawn.captions)
    logger.log_image(key=drawn.tag, images=pictures, step=drawn.step, caption=captions)


def to_wandb(wandb: Any, drawn: Drawn) -> None:
    """Log all pictures to the active run of ``wandb``, on the axis that the HF Trainer's numbers have."""
    pairs = zip(drawn.pictures, drawn.captions, strict=True)
    pictures = [wandb.Image(picture, caption=caption) for picture, caption in pairs]
    # no step=: W&B's own steps only rise, and the Trainer logs the same number as a value
    wandb.log({drawn.tag: pictures, "train/global_step": drawn.step})


def to_mlflow(log_image: Callable[..., Any], drawn: Drawn) -> None:
    """Log a picture an image by MLflow's ``log_image``, of an active run or of a client and a run's id."""
    for name, picture in zip(drawn.names, drawn.pictures, strict=True):
        # MLflow takes no other characters; slashes it takes, but not all of its servers find them again
        key = re.sub(r"[^A-Za-z0-9_.\- ]", "_", f"{drawn.tag}/{name}")
        log_image(image=picture, key=key, step=drawn.step)


def to_folder(folder: Path, drawn: Drawn) -> None:
    """Write ``FOLDER/METHOD/NAME/step-00000120.png``; a file of that name is replaced. Raises OSError."""
    for name, picture in zip(drawn.names, drawn.pictures, strict=True):
        place = folder / drawn.tag.removeprefix("heatmaps/") / name
        make_folders(place)
        write_atomically(place / f"step-{drawn.step:08d}.png", place, partial(_write_png, picture))


def _write_png(picture: Image, file: BinaryIO) -> None:
    file.write(png_of(picture))


def takers_of_loggers(loggers: list[Any]) -> Iterator[Taker]:
    """Give what takes the pictures in a Lightning Trainer's loggers; others are passed over."""
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(logger, "log_image"):
            yield partial(to_wandb_logger, logger)
        elif hasattr(logger, "run_id") and hasattr(experiment, "log_image"):
            yield partial(to_mlflow, partial(experiment.log_image, logger.run_id))
        elif hasattr(experiment, "add_image"):
            yield partial(to_tensorboard, experiment)
