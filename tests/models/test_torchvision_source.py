from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from PIL import Image
from torch import nn

from whycam.errors import ModelError, UsageError, WeightsError
from whycam.models import load
from whycam.models.source import ModelOptions
from whycam.models.torchvision_source import torchvision_names, torchvision_source
from whycam.models.weights import StateDict


@pytest.fixture
def outlined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build every network without drawing its weights, which takes most of the time."""
    for name in ("kaiming_normal_", "trunc_normal_", "normal_", "kaiming_uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **options: nn.init.constant_(tensor, 0.01))


def _trained(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(77)
    return torchvision.models.get_model(name, weights=None, **options).eval()


@pytest.mark.parametrize("name", ["squeezenet1_1", "regnet_x_400mf", "resnet18"])
def test_the_classes_are_read_from_heads_of_any_make(tmp_path: Path, name: str) -> None:
    trained = _trained(name, num_classes=6)
    torch.save({"model": trained.state_dict()}, tmp_path / "best.pth")
    model = load(f"torchvision:{name}", weights=tmp_path / "best.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.module(images), trained(images))
    assert model.provenance.notes[:2] == (
        "state dict found under 'model'",
        "6 classes read from the weights' head",
    )
    assert model.provenance.notes[2].startswith("preprocessing of torchvision's ")


def test_the_preset_is_that_of_the_weights_named() -> None:
    first = load("torchvision:resnet50.IMAGENET1K_V1", size=32).preprocessing
    assert (first.size, first.resize_to) == ((32, 32), (37, 37))
    default = load("torchvision:squeezenet1_1").preprocessing
    assert (default.size, default.resize_to) == ((224, 224), (256, 256))


def test_random_weights_say_so_and_have_no_class_names() -> None:
    model = load("torchvision:squeezenet1_1")
    assert model.provenance.kind == "random"
    assert model.class_names is None


@pytest.mark.usefixtures("outlined")
def test_the_input_transform_goes_with_trained_weights_only(tmp_path: Path) -> None:
    random = load("torchvision:googlenet")
    assert random.module.transform_input is False
    torch.save(random.module.state_dict(), tmp_path / "best.pth")
    trained = load("torchvision:googlenet", weights=tmp_path / "best.pth")
    assert trained.module.transform_input is True
    assert "transform_input is on, as with torchvision's own weights" in trained.provenance.notes


def _with_old_keys(state: StateDict) -> StateDict:
    def old(key: str) -> str:
        for part in ("norm1", "norm2", "conv1", "conv2"):
            key = key.replace(f".{part}.", f".{part[:4]}.{part[4]}.") if "denselayer" in key else key
        return key

    return {old(key): value for key, value in state.items()}


def test_densenets_keys_of_old_releases_are_brought_up_to_date() -> None:
    source = torchvision_source("densenet121", ModelOptions())
    state = source.outline(None)
    old = _with_old_keys(state)
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert [source.rename_key(key) for key in old] == list(state)


def test_a_vision_transformer_is_built_for_the_size_asked_for() -> None:
    outline = torchvision_source("vit_b_32", ModelOptions(size=(64, 64))).outline(None)
    assert outline["encoder.pos_embedding"].shape == (1, 1 + 2 * 2, 768)


def test_a_vision_transformer_for_an_oblong_is_refused(refused: Any) -> None:
    with refused(UsageError, "takes squares", "64 x 96"):
        load("torchvision:vit_b_32", size=(64, 96))


def _publish(monkeypatch: pytest.MonkeyPatch, give: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def load_state_dict_from_url(url: str, *args: Any, **options: Any) -> Any:
        asked.append(options)
        return give()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load_state_dict_from_url)
    return asked


def test_download_takes_the_published_weights_unpickled_safely_and_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = _trained("squeezenet1_1")
    asked = _publish(monkeypatch, trained.state_dict)
    model = load("torchvision:squeezenet1_1", download=True)
    assert [(ask["weights_only"], ask["check_hash"]) for ask in asked] == [(True, True)]
    assert all(
        torch.equal(a, b) for a, b in zip(model.module.parameters(), trained.parameters(), strict=True)
    )
    assert model.provenance.describe() == "published weights torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert model.class_names is not None
    assert (len(model.class_names), model.class_names[0]) == (1000, "tench")


def test_nothing_is_downloaded_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _publish(monkeypatch, dict)
    load("torchvision:squeezenet1_1")
    assert asked == []


def test_a_download_that_fails_is_told_in_one_line(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise URLError("no route\nto host")

    _publish(monkeypatch, fail)
    with refused(ModelError, "could not be downloaded", "no route to host", "--weights"):
        load("torchvision:squeezenet1_1", download=True)


def test_published_weights_with_other_classes_are_refused(refused: Any) -> None:
    with refused(UsageError, "have 1000 classes, not 10"):
        load("torchvision:squeezenet1_1", download=True, num_classes=10)


def test_other_channels_are_refused(refused: Any) -> None:
    with refused(UsageError, "takes 3 channels, not 1"):
        load("torchvision:squeezenet1_1", mean=(0.5,), std=(0.5,))


def test_weights_of_another_variant_are_refused(tmp_path: Path, refused: Any) -> None:
    torch.save(_trained("squeezenet1_0").state_dict(), tmp_path / "best.pth")
    with refused(WeightsError, "'best.pth' does not fit torchvision:squeezenet1_1"):
        load("torchvision:squeezenet1_1", weights=tmp_path / "best.pth")


def _names(kind: str) -> list[str]:
    return torchvision.models.list_models(module=getattr(torchvision.models, kind))


DENSE = [*_names("segmentation"), *_names("detection")]


@pytest.mark.usefixtures("outlined")
@pytest.mark.parametrize("name", [*DENSE, *_names("video")])
def test_every_segmentation_detection_and_video_network_resolves(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _publish(monkeypatch, dict)
    source = torchvision_source(name, ModelOptions())
    assert len(source.outline(None)) > 10
    assert source.default_classes in (2, 21, 91, 400)
    assert asked == []


def test_every_network_but_the_quantised_and_those_without_a_picture_is_named() -> None:
    everything = set(torchvision.models.list_models())
    left_out = {*_names("quantization"), *_names("optical_flow")}
    assert set(torchvision_names()) == everything - left_out


@pytest.mark.parametrize("name", _names("quantization"))
def test_quantised_networks_are_refused_in_one_line(name: str, refused: Any) -> None:
    with refused(ModelError, "no gradients", f"torchvision:{name.removeprefix('quantized_')}"):
        load(f"torchvision:{name}")


@pytest.mark.usefixtures("outlined")
def test_a_segmentation_network_sees_the_whole_picture_in_one_square() -> None:
    model = load("torchvision:lraspp_mobilenet_v3_large", size=64, num_classes=4)
    prepared = model.prepare([Image.new("RGB", (80, 40)), Image.new("RGB", (40, 80))])
    assert prepared.geometries[0].box == (-20.0, 0.0, 60.0, 80.0)
    assert prepared.images[0, :, 0].abs().max() < 0.02  # padded with the mean colour
    with torch.no_grad():
        assert model.module(prepared.images)["out"].shape == (2, 4, 64, 64)
    own = load("torchvision:lraspp_mobilenet_v3_large").preprocessing
    assert (own.size, own.resize, own.interpolation) == ((520, 520), "longest", "bilinear")


@pytest.mark.usefixtures("outlined")
@pytest.mark.parametrize(
    ("name", "side", "resize"),
    [
        ("ssdlite320_mobilenet_v3_large", 320, "squash"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 320, "longest"),
    ],
)
def test_a_detection_network_gets_unnormalised_pictures_of_its_own_size(
    name: str, side: int, resize: str
) -> None:
    model = load(f"torchvision:{name}")
    own = model.preprocessing
    assert (own.size, own.resize, own.mean, own.std) == ((side, side), resize, (0.0,) * 3, (1.0,) * 3)
    images = model.prepare([Image.new("RGB", (80, 40), "white")]).images
    assert images.max() == 1
    if resize == "longest":  # the padding is what the network's own normalisation makes zero
        assert torch.equal(images[0, :, 0, 0].mul(255).round().int(), torch.tensor([124, 116, 104]).int())
    with torch.no_grad():
        (found,) = model.module(images)
    assert {"boxes", "labels", "scores"} <= set(found)


@pytest.mark.usefixtures("outlined")
def test_the_padding_stays_when_only_the_size_changes() -> None:
    own = load("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", size=200).preprocessing
    assert (own.size, own.fill) == ((200, 200), (124, 116, 104))


@pytest.mark.usefixtures("outlined")
def test_the_auxiliary_head_of_published_weights_is_left_out(tmp_path: Path) -> None:
    build = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large
    trained = build(weights=None, weights_backbone=None, aux_loss=True, num_classes=4)
    torch.save(trained.state_dict(), tmp_path / "best.pth")
    model = load("torchvision:deeplabv3_mobilenet_v3_large", weights=tmp_path / "best.pth", num_classes=4)
    assert any("of the auxiliary head not used" in note for note in model.provenance.notes)
    assert not any("aux" in key for key in model.module.state_dict())


@pytest.mark.usefixtures("outlined")
def test_a_video_network_takes_clips_and_refuses_pictures(refused: Any) -> None:
    model = load("torchvision:r3d_18")
    with refused(UsageError, "torchvision:r3d_18 takes no single pictures", "[B, C, T, H, W]"):
        model.prepare([Image.new("RGB", (80, 40))])
    frames = torch.randint(0, 256, (4, 3, 90, 120), dtype=torch.uint8)
    preset = torchvision.models.video.R3D_18_Weights.DEFAULT.transforms()
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    clip = torch.stack([model.preprocessing.apply(picture)[0] for picture in pictures], 1)
    # torchvision keeps parts of a level of brightness where pictures have whole ones
    assert (clip - preset(frames)).abs().max() < 1.01 / 255 / min(preset.std)
    with torch.no_grad():
        assert model.module(clip[None]).shape == (1, 400)
