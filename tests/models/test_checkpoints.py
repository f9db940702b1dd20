"""Checkpoints as training scripts leave them, for real networks: read whole, or in part and said so."""

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import whycam
from whycam.errors import UsageError, WeightsError
from whycam.models import LoadedModel, load
from whycam.models.fitting import PREFIXES
from whycam.models.weights import STATE_KEYS

NETWORKS = ("resnet18", "vit_tiny_patch16_224")
ENDINGS = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".safetensors")
CLASSES = 7


@cache
def trained(name: str) -> dict[str, Tensor]:
    """Weights that are no network's random ones, for 7 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return timm.create_model(name, num_classes=CLASSES).state_dict()


def assert_loaded(model: LoadedModel, name: str) -> None:
    found, expected = model.module.state_dict(), trained(name)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert f"{CLASSES} classes read from the weights' head" in model.provenance.notes
    assert model.provenance.loaded is None


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("ending", "key", "prefix"), list(zip(ENDINGS, (*STATE_KEYS[:5], None), PREFIXES, strict=True))
)
def test_every_ending_key_and_prefix_is_read_and_the_classes_come_from_the_head(
    tmp_path: Path, name: str, ending: str, key: str | None, prefix: str
) -> None:
    state = {prefix + entry: value for entry, value in trained(name).items()}
    file = tmp_path / f"best{ending}"
    if ending == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, key: state}, file)
    model = load(f"timm:{name}", weights=file)
    assert_loaded(model, name)
    expected = (f"state dict found under '{key}'",) if key else ()
    assert model.provenance.notes[: len(expected)] == expected
    assert any(f"prefix '{prefix}' removed" in note for note in model.provenance.notes)


def test_the_last_of_the_keys_is_read_too(tmp_path: Path) -> None:
    torch.save({STATE_KEYS[5]: trained("resnet18")}, tmp_path / "best.pth")
    assert_loaded(load("timm:resnet18", weights=tmp_path / "best.pth"), "resnet18")


def test_a_checkpoint_of_lightning_is_read(tmp_path: Path) -> None:
    module = timm.create_model("resnet18", num_classes=CLASSES)
    module.load_state_dict(trained("resnet18"))
    optimiser = torch.optim.AdamW(module.parameters())
    torch.save(
        {
            "epoch": 4,
            "global_step": 100,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {
                **{f"model.{key}": value for key, value in trained("resnet18").items()},
                "criterion.weight": torch.ones(CLASSES),
            },
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.9)}},
            "optimizer_states": [optimiser.state_dict()],
            "lr_schedulers": [{"last_epoch": 4}],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 1e-3, "net": "resnet18", "betas": (0.9, 0.999), "decay": None},
        },
        tmp_path / "epoch=4.ckpt",
    )
    model = load("timm:resnet18", weights=tmp_path / "epoch=4.ckpt")
    assert_loaded(model, "resnet18")
    assert "1 entries outside it not used: 'criterion.weight'" in model.provenance.notes


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda module: nn.DataParallel(torch.compile(module)),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_the_state_dict_of_a_wrapped_network_is_read(
    tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    module = timm.create_model("resnet18", num_classes=CLASSES)
    module.load_state_dict(trained("resnet18"))
    torch.save({"model": wrap(module).state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "best.pth")
    assert_loaded(load("timm:resnet18", weights=tmp_path / "best.pth"), "resnet18")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["layer1.0.bn1.running_var"].__setitem__(3, torch.nan), ("'layer1.0.bn1.running_var'",)),
        (lambda s: s["bn1.running_var"].neg_(), ("'bn1.running_var'", "below 0")),
        (lambda s: s["bn1.running_mean"].fill_(torch.inf), ("'bn1.running_mean'", "64 values of 64")),
        (lambda s: s["fc.weight"].__setitem__((0, 0), torch.nan), ("'fc.weight'", "1 values of 3584")),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], words: tuple[str, ...], refused: Any
) -> None:
    state = {key: value.clone() for key, value in trained("resnet18").items()}
    change(state)
    torch.save(state, tmp_path / "best.pth")
    for partial in (False, True):
        with refused(WeightsError, *words):
            load("timm:resnet18", weights=tmp_path / "best.pth", allow_partial=partial)


def test_another_variants_weights_are_refused_and_loaded_in_part_only_when_asked(
    tmp_path: Path, refused: Any
) -> None:
    torch.save(trained("resnet18"), tmp_path / "best.pth")
    file = tmp_path / "best.pth"
    with refused(WeightsError, "of 182 keys 80 are missing", "'layer1.2.conv1.weight'", "102 that fit"):
        load("timm:resnet34", weights=file)
    model = load("timm:resnet34", weights=file, allow_partial=True)
    found = model.module.state_dict()
    assert model.provenance.loaded == (102, 182)
    assert found["fc.bias"].shape == (CLASSES,)  # the head tells of the classes here too
    for key, value in trained("resnet18").items():
        assert torch.equal(found[key], value)
    assert model.provenance.describe().startswith(
        "partly random weights: 102 of 182 loaded; weights of best.pth"
    )
    assert any(note.startswith("80 keys left random: 'layer1.2") for note in model.provenance.notes)


def test_a_head_for_other_classes_is_left_random_when_asked(tmp_path: Path) -> None:
    torch.save(trained("resnet18"), tmp_path / "best.pth")
    model = load("timm:resnet18", weights=tmp_path / "best.pth", num_classes=5, allow_partial=True)
    random = load("timm:resnet18", num_classes=5).module.state_dict()
    found = model.module.state_dict()
    assert model.provenance.loaded == (100, 102)
    for key, value in trained("resnet18").items():
        assert torch.equal(found[key], random[key] if key.startswith("fc.") else value)
    assert "2 of the file's keys not used: 'fc.weight', 'fc.bias'" in model.provenance.notes


def test_a_file_of_which_nothing_fits_is_refused_even_in_part(tmp_path: Path, refused: Any) -> None:
    torch.save(trained("vit_tiny_patch16_224"), tmp_path / "best.pth")
    with refused(WeightsError, "nothing in 'best.pth' fits timm:resnet18", "another architecture"):
        load("timm:resnet18", weights=tmp_path / "best.pth", allow_partial=True)


def test_in_part_without_a_file_is_wrong_usage(refused: Any) -> None:
    with refused(UsageError, "allow_partial", "--weights"):
        load("timm:test_resnet", allow_partial=True)


def test_a_file_that_fits_is_loaded_as_ever_though_less_was_allowed(tmp_path: Path) -> None:
    torch.save(trained("resnet18"), tmp_path / "best.pth")
    assert_loaded(load("timm:resnet18", weights=tmp_path / "best.pth", allow_partial=True), "resnet18")


def test_an_explanation_of_a_partial_model_says_so_in_its_origin_pictures_and_manifest(
    tmp_path: Path,
) -> None:
    state = timm.create_model("test_resnet").state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "best.pth")
    partial = load("timm:test_resnet", weights=tmp_path / "best.pth", allow_partial=True)
    whole = load("timm:test_resnet")
    picture = Image.effect_noise((90, 70), 80).convert("RGB")
    said = "partly random weights: "
    explanation = whycam.explain(partial, [picture])
    assert explanation.origin.provenance.startswith(said)
    (overlay,), (plain,) = explanation.overlays(), whycam.explain(whole, [picture]).overlays()
    assert plain.size == (90, 70)
    assert overlay.width == 120
    assert overlay.height > 70 + 2 * 10  # two lines or more of ten pixels
    explanation.save(tmp_path / "run")
    manifest = whycam.read_run(tmp_path / "run").manifest
    assert manifest.model.provenance.startswith(said)
    (saved,) = (tmp_path / "run" / "overlays").iterdir()
    with Image.open(saved) as file:
        assert file.size == overlay.size
