"""Explain the smallest variant of every timm family and write the table: ``make sweep``."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import timm
import torch
from benchmarks.layer_checks import Case, Finding, draw_anew, sweep
from torch import nn

FAMILIES = Path(__file__).with_name("timm_families.csv")


def families() -> Iterator[tuple[str, str]]:
    """Give (family, model name) for every family in the list."""
    with FAMILIES.open(newline="", encoding="utf-8") as file:
        yield from ((row["family"], row["model"]) for row in csv.DictReader(file))


def build(name: str, side: int | None = None, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a model with random weights from a fixed seed; return it with its input's size [C, H, W].

    ``side`` is another size in pixels than its own; ``options`` are timm's, such as fewer blocks.
    """
    torch.manual_seed(0)
    if side is not None:
        options["img_size"] = side
    model = draw_anew(timm.create_model(name, **options))
    channels, *size = cast(Any, model).pretrained_cfg["input_size"]
    return model, (channels, *(size if side is None else (side, side)))


def cases() -> Iterator[Case]:
    """Give every family's smallest member."""
    for family, name in families():
        yield family, name, lambda name=name: build(name)  # type: ignore[misc]


def page(findings: list[Finding], said: str) -> str:
    """Return the page of the docs."""
    return f"""# The layer chosen on every timm family

timm {timm.__version__}, torch {torch.__version__.split("+")[0]}; random weights from a fixed seed, the
smallest variant of each family. `make sweep` makes this page again.

{said}"""


if __name__ == "__main__":
    sweep(cases(), __doc__, page)
