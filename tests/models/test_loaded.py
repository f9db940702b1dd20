import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whycam.errors import ImageError, UsageError
from whycam.models import LoadedModel, Preprocessing, Provenance

PLAIN = Preprocessing((8, 8), "squash", (8, 8), "nearest", (0.0,) * 3, (1.0,) * 3)


def _model(module: nn.Module | None = None, preprocessing: Preprocessing = PLAIN) -> LoadedModel:
    return LoadedModel(
        module or nn.Flatten(), preprocessing, None, "a:b", Provenance("random"), torch.device("cpu")
    )


def _saved(folder: Path, name: str, colour: str) -> Path:
    Image.new("RGB", (20, 10), colour).save(folder / name)
    return folder / name


def test_files_and_pictures_are_prepared_together(tmp_path: Path) -> None:
    red, blue = _saved(tmp_path, "red.png", "red"), _saved(tmp_path, "blue.png", "blue")
    prepared = _model().prepare([red, str(blue), Image.new("RGB", (6, 4), "lime")])
    assert prepared.images.shape == (3, 3, 8, 8)
    assert prepared.images.mean((2, 3)).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert [geometry.original for geometry in prepared.geometries] == [(10, 20), (10, 20), (4, 6)]
    assert prepared.names == (str(red), str(blue), "picture 2")
    assert [picture.size for picture in prepared.pictures] == [(20, 10), (20, 10), (6, 4)]


@pytest.mark.parametrize("pixels", [torch.zeros(2, 3, 8, 8), torch.zeros(1), np.zeros((2, 8, 8, 3))])
def test_pixels_are_refused_with_what_takes_them(pixels: Any) -> None:
    prepare = getattr(LoadedModel.prepare, "__wrapped__", LoadedModel.prepare)  # without type checks
    with pytest.raises(UsageError, match=r"given a tensor \(.*\); give files .* explain model.module"):
        prepare(_model(), pixels)


def test_views_of_several_sizes_are_refused_together_and_taken_one_at_a_time(refused: Any) -> None:
    model = _model(preprocessing=replace(PLAIN, resize="bounded"))
    wide, tall = Image.new("RGB", (8, 4)), Image.new("RGB", (4, 8))
    assert model.prepare([wide]).images.shape == (1, 3, 4, 8)
    assert model.prepare([tall, tall]).images.shape == (2, 3, 8, 4)
    with refused(UsageError, "'picture 0' becomes 4 x 8", "'picture 1' 8 x 4", "one at a time", "squash"):
        model.prepare([wide, tall])


def test_an_opened_picture_is_named_by_its_file(tmp_path: Path) -> None:
    file = _saved(tmp_path, "red.png", "red")
    with Image.open(file) as picture:
        assert _model().prepare([picture]).names == (str(file),)


@pytest.mark.parametrize(
    "changed",
    [
        lambda p: p.convert("P"),
        lambda p: p.convert("L"),
        lambda p: p.rotate(90, expand=True),
        lambda p: Image.merge("RGBA", (*p.split(), Image.linear_gradient("L").resize(p.size))),
        lambda p: p.quantize(4),
    ],
)
def test_an_opened_picture_is_seen_as_its_file_is(
    tmp_path: Path, changed: Callable[[Image.Image], Image.Image]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    changed(Image.fromarray(noise)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        both = _model().prepare([tmp_path / "a.png", opened]).images
    assert torch.equal(both[0], both[1])


def test_an_opened_picture_is_turned_upright_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        prepared = _model().prepare([tmp_path / "a.png", opened])
    assert prepared.geometries[0].original == prepared.geometries[1].original == (7, 9)
    assert torch.equal(prepared.images[0], prepared.images[1])


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_an_opened_picture_of_unknown_range_is_refused_not_clamped(mode: str, refused: Any) -> None:
    with refused(ImageError, f"'{mode}'", "8 bits"):
        _model().prepare([Image.new(mode, (4, 4))])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_images_have_the_networks_number_type(dtype: torch.dtype) -> None:
    prepared = _model(nn.Linear(2, 2).to(dtype)).prepare([Image.new("RGB", (6, 4))])
    assert prepared.images.dtype == dtype


def test_an_unreadable_image_is_an_image_error(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with refused(ImageError, "a.png"):
        _model().prepare([tmp_path / "a.png"])


@pytest.mark.parametrize("sources", ["cat.jpg", Path("cat.jpg"), Image.new("RGB", (2, 2))])
def test_a_single_source_is_refused_before_its_letters_are_read(sources: Any, refused: Any) -> None:
    # past the tests' type checks, which would answer first
    prepare = getattr(LoadedModel.prepare, "__wrapped__", LoadedModel.prepare)
    with refused(UsageError, "expected a list"):
        prepare(_model(), sources)


def test_nothing_to_prepare_is_wrong_usage(refused: Any) -> None:
    with refused(UsageError, "no picture"):
        _model().prepare([])


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        (
            Provenance("random", notes=("seed 0",)),
            ("random weights", "--weights FILE or --download", "seed 0"),
        ),
        (Provenance("file", "best.pth", "ab" * 32, ("n", "m")), ("best.pth", "abababababab)", "; n; m")),
        (
            Provenance("file", "best.pth", "ab" * 32, ("2 keys left random",), loaded=(60, 62)),
            ("partly random weights: 60 of 62 loaded; weights of best.pth", "; 2 keys left random"),
        ),
        (Provenance("pretrained", "timm resnet50.a1_in1k"), ("timm resnet50.a1_in1k",)),
        (Provenance("demo"), ("demo network",)),
        (Provenance("factory", "net.py:make"), ("net.py:make", "not known")),
    ],
)
def test_a_provenance_is_told_in_one_line_and_kept_as_plain_data(
    provenance: Provenance, words: tuple[str, ...]
) -> None:
    described = provenance.describe()
    assert described.isprintable()
    assert all(word in described for word in words)
    data = json.loads(json.dumps(provenance.to_dict()))
    loaded = data["loaded"] and tuple(data["loaded"])
    assert Provenance(**{**data, "notes": tuple(data["notes"]), "loaded": loaded}) == provenance
