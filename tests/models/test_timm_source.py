from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from whycam.errors import ModelError, UsageError, WeightsError
from whycam.models import load


def _trained(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(77)
    return timm.create_model(name, pretrained=False, **options).eval()


def _saved(module: nn.Module, folder: Path, *, under: str | None = None, prefix: str = "") -> Path:
    state = {prefix + key: value for key, value in module.state_dict().items()}
    torch.save({under: state, "epoch": 3} if under else state, folder / "best.pth")
    return folder / "best.pth"


def _agrees(a: nn.Module, b: nn.Module, size: int = 64) -> bool:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(a(images), b(images))


def test_a_training_checkpoint_gives_the_trained_predictions_and_says_what_was_chosen(tmp_path: Path) -> None:
    trained = _trained("test_resnet", num_classes=7)
    model = load("timm:test_resnet", weights=_saved(trained, tmp_path, under="state_dict", prefix="module."))
    assert _agrees(model.module, trained)
    assert model.provenance.kind == "file"
    assert model.provenance.name == "best.pth"
    assert model.provenance.notes == (
        "state dict found under 'state_dict'",
        "prefix 'module.' removed from the keys",
        "7 classes read from the weights' head",
        "preprocessing of timm's test_resnet.r160_in1k",
    )
    assert model.class_names is None


def test_safetensors_load_as_pickles_do(tmp_path: Path) -> None:
    trained = _trained("test_vit", num_classes=3)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    model = load("timm:test_vit", weights=tmp_path / "best.safetensors")
    assert _agrees(model.module, trained, 160)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("resnet10t", 1),
        ("test_vit", 10),
        ("test_convnext", 10),
        ("test_efficientnet", 10),
        ("test_maxvit", 10),
    ],
)
def test_the_classes_are_read_from_heads_of_any_make(tmp_path: Path, name: str, classes: int) -> None:
    trained = _trained(name, num_classes=classes)
    model = load(f"timm:{name}", weights=_saved(trained, tmp_path))
    assert model.module.num_classes == classes
    assert f"{classes} classes read from the weights' head" in model.provenance.notes
    assert all(
        torch.equal(a, b) for a, b in zip(model.module.parameters(), trained.parameters(), strict=True)
    )


@pytest.mark.parametrize("classes", [0, 2, 5])
def test_an_architecture_without_a_head_takes_weights_with_and_without_one(
    tmp_path: Path, classes: int
) -> None:
    name = "test_vit"
    headless = timm.get_pretrained_cfg("vit_small_patch14_dinov2")
    assert headless.num_classes == 0
    trained = _trained(name, num_classes=classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.get_pretrained_cfg", lambda name: headless)
        default = timm.create_model
        patch.setattr(
            "timm.create_model", lambda name, **options: default(name, **{"num_classes": 0, **options})
        )
        model = load(f"timm:{name}", weights=_saved(trained, tmp_path))
    assert model.module.num_classes == classes
    assert all(
        torch.equal(a, b) for a, b in zip(model.module.parameters(), trained.parameters(), strict=True)
    )


def test_a_number_of_classes_that_was_asked_for_is_not_overridden(tmp_path: Path, refused: Any) -> None:
    file = _saved(_trained("test_resnet", num_classes=7), tmp_path)
    with refused(WeightsError, "'fc.weight' is [7,", "expected [5,", "num_classes"):
        load("timm:test_resnet", weights=file, num_classes=5)


def test_another_architectures_weights_are_refused(tmp_path: Path, refused: Any) -> None:
    file = _saved(_trained("test_vit"), tmp_path)
    with refused(WeightsError, "does not fit timm:test_resnet", "another architecture"):
        load("timm:test_resnet", weights=file)


def test_weights_for_another_number_of_channels_say_so(tmp_path: Path, refused: Any) -> None:
    file = _saved(_trained("resnet10t", in_chans=1), tmp_path)
    with refused(WeightsError, "conv1", "see channels"):
        load("timm:resnet10t", weights=file)
    model = load("timm:resnet10t", weights=file, channels=1, mean=(0.4,), std=(0.3,))
    assert model.preprocessing.channels == 1


def test_an_architecture_of_fixed_size_is_built_for_the_size_asked_for() -> None:
    model = load("timm:test_vit", size=(96, 64))
    assert model.preprocessing.size == (96, 64)
    assert model.module(torch.zeros(1, 3, 96, 64)).shape == (1, 1000)


class _Hub:
    """Stands in for timm's download: notes what was asked, gives weights that are known."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.real = timm.create_model

    def create_model(self, name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        self.asked.append({"name": name, "pretrained": pretrained, **options})
        module = self.real(name, pretrained=False, **options)
        return nn.init.zeros_(module.fc.weight) is not None and module if pretrained else module


def test_only_download_asks_for_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub()
    monkeypatch.setattr("timm.create_model", hub.create_model)
    load("timm:resnet10t")
    assert [ask["pretrained"] for ask in hub.asked] == [False]
    model = load("timm:resnet10t", download=True)
    assert hub.asked[1:] == [{"name": "resnet10t", "pretrained": True}]
    assert model.module.fc.weight.count_nonzero() == 0
    assert model.provenance.kind == "pretrained"
    assert model.provenance.describe() == "published weights timm resnet10t.c3_in1k"
    assert model.class_names is not None
    assert len(model.class_names) == 1000
    assert model.class_names[0].startswith("tench")


def test_a_download_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("timm.create_model", fail)
    with refused(ModelError, "could not be downloaded", "ConnectionError: no route to host", "--weights"):
        load("timm:resnet10t", download=True)


def test_published_weights_with_other_classes_are_refused_not_half_random(refused: Any) -> None:
    with refused(UsageError, "have 1000 classes, not 10"):
        load("timm:resnet10t", download=True, num_classes=10)


def test_an_architecture_without_published_weights_says_so(refused: Any) -> None:
    name = next(name for name in timm.list_models("vit_*") if not timm.is_model_pretrained(name))
    with refused(ModelError, f"timm publishes no weights for '{name}'"):
        load(f"timm:{name}", download=True)


def test_a_tag_chooses_the_preprocessing() -> None:
    tagged: Tensor | Any = load("timm:resnet18.tv_in1k").preprocessing
    assert tagged.interpolation == "bilinear"
    assert load("timm:resnet18.fb_swsl_ig1b_ft_in1k").preprocessing.resize_to == (256, 256)
