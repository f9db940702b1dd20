from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whycam.errors import RunError
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, Run, RunWriter


def one_line(caught: pytest.ExceptionInfo[RunError]) -> str:
    """The error's text, which must be one line."""
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    manifest = Manifest(
        command=("whycam", "explain", "timm:resnet18", "cats"),
        versions={"whycam": "0.1.0", "torch": "2.6.0"},
        device="cpu",
        seed=7,
        model=ModelRecord(reference="timm:resnet18", provenance="random weights", weights_sha256="ab" * 32),
        preprocessing={"mean": (0.5, 0.25), "size": {"height": 224, "width": 224}},
        class_names=("cat", "犬"),
        methods=(MethodRecord(name="gradcam"), MethodRecord(name="layercam", parameters={"scale": 2})),
        target="top class",
        layer=LayerRecord(paths=("layer4",), reason="the deepest block with gradient at every position"),
        sources=("cats",),
        image_count=4,
        style={"colormap": "inferno"},
        settings={"batch_size": 16},
    )
    return lambda **changes: replace(manifest, **changes)


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Row]:
    def row(index: int, **changes: Any) -> Row:
        values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4) * (index + 1)
        known: dict[str, Any] = {"id": f"{index}.jpg", "path": f"cats/{index}.jpg", "method": "gradcam"}
        return Row(index=index, **{**known, "target": "top class", "map": values, **changes})

    return row


@pytest.fixture
def start(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Callable[..., RunWriter]:
    """Create a run in a new folder, or resume the one there."""

    def begin(name: str = "run", **changes: Any) -> RunWriter:
        folder, manifest = tmp_path / name, make_manifest(**changes)
        verb = RunWriter.resume if (folder / "manifest.json").exists() else RunWriter.create
        return verb(folder, manifest)

    return begin


@pytest.fixture(scope="session")
def indices() -> Callable[[Run], list[int]]:
    """The indices of all rows, in the order of reading."""
    return lambda run: [row.index for row in run.rows()]
