"""Folders as they were released: a backbone of timm that is named alone is described, and nobody is asked."""

import json
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.models.hf_folders import change_json, saved

from whycam.errors import ModelError
from whycam.models import load

GIVEN: dict[str, Any] = {"size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDTHS = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
SMALL = {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 5, "num_labels": 5, **HEADS, **WIDTHS}
# the names that the released files have for what transformers 5 calls otherwise
RELEASED = (
    ("backbone.model.", "backbone.conv_encoder.model."),
    ("o_proj.", "out_proj."),
    ("mlp.fc", "fc"),
)
FORMS: dict[str, dict[str, Any]] = {
    "first releases": {"use_timm_backbone": True, "use_pretrained_backbone": True},
    "later releases": {
        "use_timm_backbone": True,
        "use_pretrained_backbone": True,
        "backbone_config": None,
        "backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]},
    },
    "not told to be of timm": {"use_timm_backbone": False, "backbone_kwargs": {}},
}


@pytest.fixture(autouse=True)
def knocks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note every look-up on the hub and every try to reach the network, also a swallowed one."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        tried.append(arguments)
        raise OSError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("repo_exists", "model_info", "file_exists"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, refuse)
    return tried


def _released(kind: str, folder: Path, form: dict[str, Any], **changes: Any) -> Any:
    """Save a tiny detector on timm's resnet18 as its kind was released; give the network in eval mode."""
    width = {"hidden_size" if kind == "DabDetr" else "d_model": 32}
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(backbone="resnet18", **SMALL, **width, **changes)
    network = getattr(transformers, f"{kind}ForObjectDetection")(config).eval()
    network.save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text())
    del told["backbone_config"]
    (folder / "config.json").write_text(json.dumps({**told, "backbone": "resnet18", **form}))
    return network


def _assert_same(folder: Path, network: Any) -> None:
    model = load(f"hf:{folder}", **GIVEN)
    with torch.no_grad():
        found, expected = model.module(IMAGES), network(IMAGES)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_released_detector_answers_offline_as_it_did(form: str, tmp_path: Path, knocks: list[Any]) -> None:
    network = _released("Detr", tmp_path, FORMS[form])
    _assert_same(tmp_path, network)
    assert knocks == []


@pytest.mark.parametrize("kind", ["ConditionalDetr", "DeformableDetr", "DabDetr", "TableTransformer"])
def test_its_kin_are_described_as_their_own_configurations_would(
    kind: str, tmp_path: Path, knocks: list[Any]
) -> None:
    # without out_indices what is left open is the class's: three stages for DeformableDetr, four elsewhere
    network = _released(kind, tmp_path, {"use_timm_backbone": True, "backbone_kwargs": {"in_chans": 3}})
    _assert_same(tmp_path, network)
    assert knocks == []


def test_dilation_is_kept(tmp_path: Path, knocks: list[Any]) -> None:
    network = _released("Detr", tmp_path, FORMS["first releases"], dilation=True)
    assert network.config.backbone_config.output_stride == 16
    _assert_same(tmp_path, network)
    assert knocks == []


def test_weights_under_the_released_names_are_loaded(tmp_path: Path) -> None:
    network = _released("Detr", tmp_path, FORMS["first releases"])
    tensors = load_file(tmp_path / "model.safetensors")
    for old, new in RELEASED:
        tensors = {key.replace(old, new): value for key, value in tensors.items()}
    assert any(".conv_encoder.model." in key for key in tensors)
    assert any(".out_proj." in key for key in tensors)
    assert any(".layers.0.fc1." in key for key in tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    _assert_same(tmp_path, network)


def test_a_number_of_channels_told_in_the_old_way_is_followed(tmp_path: Path) -> None:
    network = _released("Detr", tmp_path, FORMS["first releases"], num_channels=4)
    change_json(tmp_path / "config.json", backbone_kwargs={"in_chans": 4}, num_channels=3)
    model = load(f"hf:{tmp_path}", **GIVEN)
    images = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.module(images).logits, network(images).logits, rtol=1e-4, atol=1e-5)


def test_a_segmenter_on_a_named_backbone_is_described_with_the_stages_told(
    tmp_path: Path, knocks: list[Any]
) -> None:
    stages = transformers.TimmBackboneConfig(backbone="resnet18", out_indices=[1, 2, 3, 4])
    config = transformers.UperNetConfig(
        backbone_config=stages, hidden_size=16, auxiliary_in_channels=256, auxiliary_channels=8, num_labels=5
    )
    torch.manual_seed(3)
    network = transformers.UperNetForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    told = {"backbone": "resnet18", "backbone_kwargs": {"out_indices": [1, 2, 3, 4]}}
    change_json(tmp_path / "config.json", backbone_config=None, use_pretrained_backbone=True, **told)
    model = load(f"hf:{tmp_path}", **GIVEN)
    with torch.no_grad():
        torch.testing.assert_close(model.module(IMAGES).logits, network(IMAGES).logits, rtol=1e-4, atol=1e-5)
    assert knocks == []


@pytest.mark.parametrize("name", ["microsoft/resnet-50", "timm/resnet18", "nosuch", "hub:resnet18", ""])
def test_a_backbone_that_only_the_hub_could_describe_is_refused(
    name: str, tmp_path: Path, refused: Any, knocks: list[Any]
) -> None:
    saved("detr", tmp_path)
    change_json(tmp_path / "config.json", backbone_config=None, backbone=name, use_timm_backbone=False)
    with refused(ModelError, f"names its backbone, '{name}'", "no network of timm", "newer transformers"):
        load(f"hf:{tmp_path}", **GIVEN)
    assert knocks == []


def test_fields_of_a_backbone_that_are_no_fields_are_refused(tmp_path: Path, refused: Any) -> None:
    _released("Detr", tmp_path, {"use_timm_backbone": True, "backbone_kwargs": [1, 2]})
    with refused(ModelError, "backbone_kwargs in config.json is [1, 2]"):
        load(f"hf:{tmp_path}", **GIVEN)
