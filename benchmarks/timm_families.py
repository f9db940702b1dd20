"""Find the smallest variant of every timm family: ``python -m benchmarks.timm_families > FILE``.

A family is a module of timm.models; its smallest variant has the fewest parameters. The ``test_`` models,
which timm keeps for its own tests, are left out. Models are built without memory, on the meta device.
"""

import sys

import timm
import torch


def parameters_of(name: str) -> int:
    """Count a model's parameters without building its weights."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def smallest_variants() -> dict[str, str]:
    """Return the smallest variant's name by family."""
    smallest = {}
    for family in timm.list_modules():
        names = [name for name in timm.list_models(module=family) if not name.startswith("test_")]
        smallest[family] = min(names, key=parameters_of)
    return smallest


if __name__ == "__main__":
    for family, name in smallest_variants().items():
        sys.stdout.write(f"{family},{name}\n")
