"""One's own checkpoints and preprocessing on the command line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

MODEL = ("timm:test_resnet", "--device", "cpu")


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network whose head lacks its bias."""
    import timm

    state = timm.create_model("test_resnet").state_dict()
    del state["fc.bias"]
    place = tmp_path_factory.mktemp("weights") / "best.pth"
    torch.save(state, place)
    return place


def test_a_partial_model_is_refused_and_loaded_only_when_asked_and_said_everywhere(
    whycam: Any, weights: Path, photograph: Path, tmp_path: Path
) -> None:
    command = ("explain", *MODEL, photograph, "--weights", weights, "--out", tmp_path / "run")
    refused = whycam(*command)
    assert refused.code == 2
    assert "of 77 keys 1 are missing" in refused.error_line
    assert "--allow-partial" in refused.error_line
    done = whycam(*command, "--allow-partial")
    said = "partly random weights: 76 of 77 loaded"
    assert done.code == 0, done.err
    assert f"warning: timm:test_resnet has {said}; weights of best.pth" in done.err
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["model"]["provenance"].startswith(
        said
    )
    (overlay,) = (tmp_path / "run" / "overlays").iterdir()
    with Image.open(overlay) as picture:
        assert picture.width == 451
        assert 308 < picture.height < 330
    again = whycam(*command, "--allow-partial", "--resume")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("partial", "title", "caution"),
    [
        (True, "timm:test_resnet with partly random weights: 76 of 77 loaded", True),
        (False, "timm:test_resnet with random weights", False),
    ],
)
def test_a_partial_model_is_said_on_the_sheet(
    whycam: Any,
    weights: Path,
    photograph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partial: bool,
    title: str,
    caution: bool,
) -> None:
    from whycam.render import sheet
    from whycam.runs import PictureStyle, overview
    from whycam.store import read_run

    drawn: dict[str, Any] = {}

    def draw(rows: Any, **said: Any) -> Image.Image:
        drawn.update(said, rows=rows)
        return sheet(rows, **said)

    more = ("--weights", weights, "--allow-partial") if partial else ()
    assert whycam("explain", *MODEL, photograph, "--out", tmp_path / "run", *more).code == 0
    monkeypatch.setattr(overview, "sheet", draw)
    overview.sheet_of(read_run(tmp_path / "run"), PictureStyle())
    assert drawn["title"] == title
    assert drawn["caution"] == (title.removeprefix("timm:test_resnet with ") if caution else None)
    assert drawn["rows"][0].overlays[0].size == drawn["rows"][0].picture.size


def test_preprocessing_and_class_names_come_from_one_file(
    whycam: Any, photograph: Path, tmp_path: Path
) -> None:
    (tmp_path / "prep.yaml").write_text(
        "size: [96, 128]\nmean: [0.5, 0.5, 0.5]\nstd: [0.2, 0.2, 0.2]\nresize: squash\n"
        "class_names: [cat, dog, 车]\n",
        encoding="utf-8",
    )
    out = tmp_path / "run"
    done = whycam(
        *("explain", *MODEL, photograph, "--preprocess", tmp_path / "prep.yaml", "--num-classes", 3),
        *("--target", "车", "--out", out),
    )
    assert done.code == 0, done.err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["preprocessing"]["size"] == [96, 128]
    assert manifest["preprocessing"]["resize"] == "squash"
    assert manifest["class_names"] == ["cat", "dog", "车"]
    assert "preprocessing of prep.yaml (SHA-256 " in manifest["model"]["provenance"]


def test_single_values_of_the_preprocessing_have_their_options(whycam: Any, tmp_path: Path) -> None:
    options = ("--resize", "squash", "--crop-pct", "0.5", "--interpolation", "nearest", "--channels", "1")
    done = whycam("layers", *MODEL, "--mean", "0.5", "--std", "0.5", *options, "--json")
    assert done.code == 0, done.err
    assert done.json["input"] == [1, 160, 160]
    for option, value, said in (
        ("--resize", "stretch", "'squash'"),
        ("--crop-pct", "3", "crop_pct is 3.0"),
        ("--interpolation", "cubic", "'bicubic'"),
        ("--channels", "2", "channel"),
        ("--preprocess", "absent.yaml", "'absent.yaml' cannot be read"),
    ):
        refused = whycam("layers", *MODEL, option, value)
        assert refused.code == 2
        assert said in refused.error_line


def test_convert_writes_safetensors_that_are_explained_as_the_checkpoint_is(
    whycam: Any, tmp_path: Path
) -> None:
    import timm

    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "best.pth"
    )
    done = whycam("convert", "best.pth", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out == f"{len(state)} tensors of best.pth written to 'best.safetensors'\n"
    assert done.err == "note: state dict found under 'state_dict'\n"
    assert all(
        torch.equal(value, state[key.removeprefix("module.")])
        for key, value in load_file(tmp_path / "best.safetensors").items()
    )
    assert whycam("layers", *MODEL, "--weights", tmp_path / "best.safetensors").code == 0
    again = whycam("convert", "best.pth", "--json", cwd=tmp_path)
    assert (again.code, again.json["kind"]) == (2, "UsageError")
    assert whycam("convert", "best.pth", "--force", "--json", cwd=tmp_path).json["tensors"] == len(state)


def test_a_hostile_pickle_does_nothing_until_it_is_trusted_and_that_is_said_first(
    whycam: Any, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": Hostile(marker)}, tmp_path / "odd name.pth")
    refused = whycam("convert", "odd name.pth", cwd=tmp_path)
    assert refused.code == 2
    assert ".mkdir" in refused.error_line
    assert refused.error_line.endswith("whycam convert 'odd name.pth' --trust-pickle")
    assert "runs whatever" not in refused.err
    assert not marker.exists()
    done = whycam("convert", "odd name.pth", "--trust-pickle", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.err.startswith("warning: --trust-pickle: loading 'odd name.pth' runs whatever code it holds")
    assert "was not needed" not in done.err
    assert marker.exists()
    assert load_file(tmp_path / "odd name.safetensors")["a"].tolist() == [1, 1]


def test_a_checkpoint_of_tensors_is_read_safely_also_where_it_would_be_trusted(
    whycam: Any, tmp_path: Path
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    done = whycam("convert", "w.pth", "--trust-pickle", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    assert "note: --trust-pickle was not needed" in done.err
    again = whycam("convert", "w.pth", "--trust-pickle", "--force", "--json", cwd=tmp_path)
    assert again.json["trusted_pickle"] is False


def test_a_run_is_not_resumed_with_other_weights_of_the_same_factory(
    whycam: Any, photograph: Path, tmp_path: Path
) -> None:
    def make(more: str) -> None:
        (tmp_path / "net.py").write_text(
            "from torch import nn\n"
            "def make():\n"
            "    network = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
            "nn.Flatten(), nn.Linear(16, 4))\n"
            f"    {more}\n"
            "    return network\n"
        )

    preprocessing = ("--size", "64", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    command = ("explain", "net.py:make", photograph, *preprocessing, "--device", "cpu", "--out", "run")
    make("pass")
    done = whycam(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    same = whycam(*command, "--resume", cwd=tmp_path)
    assert same.code == 0, same.err
    make("network[0].weight.data[0, 0, 0, 0] += 1e-3")
    other = whycam(*command, "--resume", cwd=tmp_path)
    assert other.code == 2
    assert "model.weights_sha256 was '" in other.error_line
    assert "choose another --out" in other.error_line
