"""Networks of transformers and open_clip from the command line, end to end."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import transformers
from tests.models.hf_folders import change_json, saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit")
    saved("vit", path, transformers.ViTImageProcessor(size={"height": 32, "width": 32}))
    names = ("cat", "dog", "fox", "owl", "猫")
    change_json(path / "config.json", id2label={str(index): name for index, name in enumerate(names)})
    return path


def test_a_folder_of_transformers_is_explained(
    whycam: Any, folder: Path, photograph: Path, tmp_path: Path
) -> None:
    done = whycam(
        *("explain", f"hf:{folder}", photograph, "--out", tmp_path / "run", "--device", "cpu"),
        *("--target", "猫", "--json"),
    )
    assert (done.code, done.err) == (0, "")
    assert done.json["model"]["weights"] == "file"
    assert len(done.json["model"]["weights_sha256"]) == 64
    assert done.json["target"] == "class 4"
    assert done.json["layer"]["paths"] == ["vit.layers.0"]
    (row,) = pq.read_table(tmp_path / "run" / "explanations.parquet").to_pylist()
    assert len(row["map"]) == 4 * 4
    assert (tmp_path / "run" / row["overlay"]).is_file()


def test_the_layers_of_a_folder_of_transformers_are_listed(whycam: Any, folder: Path) -> None:
    said = whycam("layers", f"hf:{folder}", "--json", "--device", "cpu").json
    assert (said["path"], said["grid"], said["input"]) == ("vit.layers.0", [4, 4], [3, 32, 32])


def test_an_image_text_model_is_asked_about_words(whycam: Any, photograph: Path, tmp_path: Path) -> None:
    reference = ("explain", "open_clip:ViT-S-32-alt", photograph, "--device", "cpu", "--out")
    done = whycam(*reference, tmp_path / "run", "--target", "text:a cat")
    assert done.code == 0, done.err
    assert "a cat" in next(line for line in done.out.splitlines() if line.startswith("  target"))
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["warning"]
    refused = whycam(*reference, tmp_path / "other")
    assert refused.code == 2
    assert "an image-text model has none" in refused.error_line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("timm:test_resnet", "--target", "text:a cat"), "needs an image-text model"),
        (("torchvision:r3d_18",), "takes no single pictures"),
        (("hf:someone/net",), "--download"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], said: str, whycam: Any, photograph: Path, tmp_path: Path
) -> None:
    model, *options = arguments
    done = whycam("explain", model, photograph, "--out", tmp_path / "run", "--device", "cpu", *options)
    assert done.code == 2
    assert said in done.error_line
    assert not (tmp_path / "run").exists()
