from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whycam.rows import jpeg_of
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, Run, RunWriter, read_run

NAMES = ("cat", "dog", "owl")
TRAINED = ModelRecord(
    reference="demo", provenance="weights of a/model-3.pth (SHA-256 abababababab)", weights_sha256="ab" * 32
)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Write a run folder: one image a size, all black, each with a row a method and target.

    ``change(row)`` gives each row its last form; ``maps(index)`` its map.
    """

    def write(
        *,
        sizes: tuple[tuple[int, int], ...] = ((48, 64), (64, 48)),
        methods: tuple[str, ...] = ("gradcam",),
        targets: tuple[str, ...] = ("top class",),
        names: tuple[str, ...] | None = NAMES,
        model: ModelRecord = TRAINED,
        maps: Callable[[int], Any] = lambda index: np.eye(4, dtype=np.float32),
        change: Callable[[Row], Row] = lambda row: row,
        picture: Callable[[int, int], Image.Image] = lambda high, wide: Image.new("RGB", (wide, high)),
    ) -> Run:
        folder = tmp_path_factory.mktemp("runs") / "run"
        manifest = Manifest(
            command=("whycam", "explain"),
            versions={"whycam": "0.1.0"},
            device="cpu",
            seed=0,
            model=model,
            preprocessing={},
            class_names=names,
            methods=tuple(MethodRecord(name=name) for name in methods),
            target=targets[0],
            layer=LayerRecord(paths=("layer4",), reason="the deepest"),
            sources=("images",),
            image_count=len(sizes),
        )
        with RunWriter.create(folder, manifest) as writer:
            for index, (high, wide) in enumerate(sizes):
                name = f"{index}.jpg"
                kept = writer.save_picture(f"pictures/{name}", jpeg_of(picture(high, wide)))
                known = Row(
                    index=index,
                    id=name,
                    path=name,
                    label=names[index % len(names)] if names else None,
                    prediction=index % len(names) if names else None,
                    prediction_name=names[index % len(names)] if names else None,
                    probability=0.5 + index / 100,
                    target_class=index % len(names) if names else None,
                    score=1.0,
                    layer="layer4",
                    map=maps(index),
                    original=(high, wide),
                    box=(0.0, 0.0, float(high), float(wide)),
                    picture=kept,
                )
                writer.write(
                    change(replace(known, method=method, target=target))
                    for method in methods
                    for target in targets
                )
            writer.finish()
        return read_run(folder)

    return write
