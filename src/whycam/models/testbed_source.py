"""``testbed:NAME``: the networks of the test beds, whose weights ``whycam testbed`` trains."""

from collections.abc import Callable

from torch import nn

from whycam.errors import ModelError, UsageError
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line, or_nothing_close, some_of
from whycam.models.preprocessing import Preprocessing
from whycam.models.source import (
    SEED,
    Built,
    ModelOptions,
    ModelSource,
    outline_without_data,
    refuse_other_channels,
)


def testbed_source(name: str, options: ModelOptions) -> ModelSource:
    """Give the classifier of one object (``digits``), or of four separate cells (``cells``).

    Their preprocessing is the demo's. Raises ModelError for another name, UsageError for another number of
    channels, or of classes where the cells have theirs.
    """
    from whycam.demo import demo_metadata
    from whycam.demo.network import CLASSES, DemoNet, SeparateCells

    reference = f"testbed:{name}"
    networks: dict[str, tuple[Callable[[int | None], nn.Module], int | None]] = {
        "digits": (lambda classes: DemoNet(CLASSES if classes is None else classes), CLASSES),
        "cells": (lambda classes: SeparateCells(), None),  # its outputs are not its head's
    }
    if name not in networks:
        raise ModelError(
            f"there is no test bed network '{one_line(name, 80)}'{or_nothing_close(name, list(networks))}; "
            f"expected one of {some_of(networks, 9)}"
        )
    make, classes = networks[name]
    refuse_other_channels(options, reference)
    if classes is None and options.num_classes is not None:
        raise UsageError(f"{reference} has its own classes; leave num_classes out")
    metadata = demo_metadata()
    scale = 1 if name == "digits" else 2
    height, width = (scale * length for length in metadata["input"][-2:])
    own = Preprocessing.for_size((height, width), metadata["mean"], metadata["std"])

    def build(num_classes: int | None) -> Built:
        return Built(make(num_classes), own)

    return ModelSource(
        build=build,
        outline=outline_without_data(build),
        unweighted=Provenance("random", name=reference, notes=(f"seed {SEED}",), downloadable=False),
        default_classes=classes,
    )
