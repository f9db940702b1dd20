import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whycam.errors import MissingExtraError, ModelError, UsageError, WeightsError
from whycam.models import Preprocessing, load
from whycam.models.references import SOURCES

FORMS = (
    "'timm:NAME'",
    "'torchvision:NAME'",
    "'hf:ID_OR_FOLDER'",
    "'open_clip:ARCH'",
    "'path/to/file.py:factory'",
    "'package.module:factory'",
    "'demo'",
)
GIVEN: dict[str, Any] = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def _states(a: nn.Module, b: nn.Module) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)]


def test_random_weights_are_the_same_each_time_and_say_that_they_are_random() -> None:
    torch.manual_seed(1)
    first = load("timm:test_resnet")
    torch.manual_seed(2)
    second = load("timm:test_resnet")
    assert all(_states(first.module, second.module))
    assert first.provenance.kind == "random"
    assert first.provenance.describe().startswith(
        "random weights: the maps say nothing about any trained model"
    )
    assert first.provenance.sha256 is None
    assert first.class_names is None


@pytest.mark.parametrize("reference", ["timm:test_vit", "torchvision:squeezenet1_1"])
def test_no_global_generator_is_touched(reference: str) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    load(reference)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_every_submodule_is_in_eval_mode() -> None:
    assert not any(module.training for module in load("timm:test_resnet").module.modules())


def test_parameters_can_have_gradients_when_loaded_inside_inference_mode() -> None:
    with torch.inference_mode():
        model = load("timm:test_resnet")
    assert not any(parameter.is_inference() for parameter in model.module.parameters())


def test_a_default_device_does_not_move_the_draws() -> None:
    plain = load("timm:test_resnet")
    with torch.device("meta"):
        inside = load("timm:test_resnet")
    assert all(_states(plain.module, inside.module))


def test_a_photograph_of_any_size_goes_through() -> None:
    model = load("timm:resnet10t")
    prepared = model.prepare([Image.new("RGB", (333, 77), "red"), Image.new("RGB", (5, 5))])
    assert prepared.images.shape == (2, 3, 176, 176)
    assert model.module(prepared.images).shape == (2, 1000)
    assert model.reference == "timm:resnet10t"
    assert model.device == torch.device("cpu")


def test_class_names_come_from_a_file_and_must_be_as_many_as_the_outputs(
    tmp_path: Path, refused: Any
) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\nfox\n")
    model = load("timm:test_resnet", num_classes=3, classes=tmp_path / "classes.txt")
    assert model.class_names == ("cat", "dog", "fox")
    with refused(ModelError, "3 names", "expected 1000"):
        load("timm:test_resnet", classes=tmp_path / "classes.txt")


def test_single_values_change_the_preprocessing_that_comes_with_the_network() -> None:
    own = load("timm:resnet10t").preprocessing
    changed = load(
        "timm:resnet10t", size=(88, 88), std=(0.1, 0.2, 0.3), interpolation="nearest"
    ).preprocessing
    assert (own.size, own.resize_to, own.interpolation) == ((176, 176), (201, 201), "bicubic")
    assert (changed.size, changed.resize_to, changed.interpolation) == ((88, 88), (100, 100), "nearest")
    assert (changed.mean, changed.std) == (own.mean, (0.1, 0.2, 0.3))
    squashed = load("timm:resnet10t", resize="squash", crop_pct=1.0).preprocessing
    assert (squashed.resize, squashed.resize_to) == ("squash", (176, 176))


def test_a_whole_preprocessing_replaces_what_comes_with_the_network() -> None:
    given = Preprocessing.for_size((32, 32), (0.5,), (0.5,))
    model = load("timm:test_resnet", preprocessing=given)
    assert model.preprocessing is given
    assert model.module(model.prepare([Image.new("RGB", (40, 50))]).images).shape == (1, 1000)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("resnet50", ("'timm:resnet50', 'torchvision:resnet50'", *FORMS)),
        ("resnet5", ("did you mean 'timm:resnet",)),
        ("dmo", ("did you mean 'demo'",)),
        ("tim:resnet50", ("did you mean 'timm:resnet50'", *FORMS)),
        ("hf:facebook/x", ("hf:facebook/x is neither a local folder", "--download")),
        ("hf:no/such/folder", ("no folder 'no/such/folder'", "config.json")),
        ("open_clip:ViT-S-33", ("open_clip has no model 'ViT-S-33'", "'ViT-S-32'")),
        ("open_clip:hf-hub:x/y", ("open_clip has no model",)),
        ("open_clip:ViT-B-32/nothing", ("no weights 'nothing'", "'openai'")),
        ("no_such_package.models:make", FORMS),
        ("", FORMS),
        (":", FORMS),
        ("timm:", FORMS),
        ("torch.nn:", FORMS),
        ("\x1b[2J" * 3000, FORMS),
        ("timm:resnet51", ("timm has no model 'resnet51'", "'resnet50'")),
        ("timm:hf-hub:timm/resnet50", ("timm has no model",)),
        ("timm:resnet50.nothing", ("'resnet50.nothing'", "'resnet50.")),
        ("torchvision:resnet51", ("torchvision has no image network 'resnet51'", "'resnet50'")),
        ("torchvision:raft_small", ("torchvision has no image network",)),
        ("torchvision:quantized_resnet50", ("no gradients", "torchvision:resnet50")),
        ("torchvision:resnet50.V3", ("'V3'", "'IMAGENET1K_V1'")),
    ],
)
def test_an_unknown_reference_is_told_with_what_is_close_and_what_is_accepted(
    reference: str, words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, *words):
        load(reference)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "a.pth", "download": True}, ("weights and download",)),
        (
            {"preprocessing": Preprocessing.for_size((9, 9), (0.5,) * 3, (0.5,) * 3), "size": 9},
            ("preprocessing",),
        ),
        ({"num_classes": -1}, ("num_classes", "-1")),
        ({"size": 0}, ("size", "above 0")),
        ({"resize": "stretch"}, ("'stretch'", "'squash'")),
        ({"interpolation": "blurry"}, ("'blurry'", "'bicubic'")),
        ({"device": "meta"}, ("'meta'",)),
        ({"device": "abacus"}, ("'abacus'", "'cpu'")),
        ({"device": "cpu:x"}, ("'cpu:x'",)),
    ],
)
def test_wrong_usage_is_told_before_anything_is_built(
    options: dict[str, Any], words: tuple[str, ...], refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timm.create_model", None)
    with refused(UsageError, *words):
        load("timm:test_resnet", **options)


def test_an_accelerator_that_is_not_there_is_told_in_one_line(refused: Any) -> None:
    absent = next(name for name in ("cuda:99", "xpu:0", "mps:0") if not _has(name))
    with refused(UsageError, f"'{absent}'", "use 'cpu'"):
        load("timm:test_resnet", device=absent)


def _has(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def test_options_that_an_architecture_cannot_take_are_told_in_one_line(refused: Any) -> None:
    with refused(ModelError, "timm:test_vit cannot be built with these options", "check --num-classes"):
        load("timm:test_vit", num_classes=10**15)


def test_channels_without_their_statistics_are_refused_naming_the_flags(refused: Any) -> None:
    with refused(ModelError, "1 channel(s)", "--mean", "--std"):
        load("timm:test_resnet", channels=1)


def test_one_line_in_the_registry_adds_a_kind_of_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def zoo_source(name: str, options: Any) -> Any:
        seen.append(name)
        return SOURCES["timm:NAME"]("test_resnet", options)

    monkeypatch.setitem(SOURCES, "zoo:NAME", zoo_source)
    assert load("zoo:a/b:c").provenance.kind == "random"
    assert seen == ["a/b:c"]


def test_a_missing_weights_file_is_told_before_the_network_is_built(refused: Any) -> None:
    with refused(WeightsError, "'none.pth' does not exist"):
        load("timm:test_resnet", weights="none.pth")


@pytest.mark.parametrize(
    ("reference", "package", "extra"),
    [("hf:a/b", "transformers", "whycam[hf]"), ("open_clip:RN50", "open_clip", "whycam[open-clip]")],
)
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    reference: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with refused(MissingExtraError, f"pip install '{extra}'"):
        load(reference)


def test_the_optional_packages_are_not_imported_until_they_are_asked_for() -> None:
    code = (
        "import sys; from whycam.models import load; load('timm:test_resnet'); "
        "print({'transformers', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
