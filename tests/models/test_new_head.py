"""A network for new classes: the weights where they fit, a new head where they can't."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from whycam.errors import ModelError, UsageError, WeightsError
from whycam.models import Preprocessing
from whycam.models.new_head import load_with_new_head
from whycam.models.sidecar import sidecar_path, sidecar_text
from whycam.models.source import ModelOptions

NAMES = ("a", "b", "c")
SMALL = ModelOptions(size=(32, 32))
FACTORY = """
from torch import nn
def three(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
def breaking(num_classes=4): return nn.Linear(7, num_classes)
"""
FACTORY_OPTIONS = ModelOptions(size=(2, 2), mean=(0.5,) * 3, std=(0.5,) * 3)


def weights(folder: Path, classes: int) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write timm's test network with this many classes; give the file and its tensors."""
    torch.manual_seed(11)
    state = timm.create_model("test_resnet", num_classes=classes).state_dict()
    torch.save(state, folder / "start.pth")
    return folder / "start.pth", state


@pytest.mark.parametrize("classes", [7, 0])
def test_the_head_is_new_and_all_else_is_the_files(tmp_path: Path, classes: int) -> None:
    file, state = weights(tmp_path, classes)
    model = load_with_new_head("timm:test_resnet", NAMES, SMALL, weights=file)
    own = model.module.state_dict()
    assert own["fc.weight"].shape[0] == 3
    others = [key for key in own if not key.startswith("fc.")]
    assert len(others) == len(own) - 2
    assert all(torch.equal(own[key], state[key]) for key in others)
    assert model.class_names == NAMES
    assert model.provenance.kind == "file"
    assert "a new head of 3 classes, with random weights" in model.provenance.notes


def test_a_head_with_as_many_classes_is_kept(tmp_path: Path) -> None:
    file, state = weights(tmp_path, 3)
    model = load_with_new_head("timm:test_resnet", NAMES, SMALL, weights=file)
    assert torch.equal(model.module.state_dict()["fc.weight"], state["fc.weight"])
    assert model.provenance.notes == ()


def test_published_weights_get_a_new_head_too(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def published(name: str, pretrained: bool = False, **options: Any) -> Any:
        model = create(name, **options)
        if pretrained:
            model.conv1[0].weight.data.fill_(0.25)
        return model

    monkeypatch.setattr("timm.create_model", published)
    model = load_with_new_head("timm:test_resnet", NAMES, SMALL, download=True)
    state = model.module.state_dict()
    assert (state["conv1.0.weight"] == 0.25).all()
    assert state["fc.weight"].shape[0] == 3
    assert model.provenance.kind == "pretrained"


def test_what_is_random_is_settled_by_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (
        load_with_new_head("timm:test_resnet", NAMES, SMALL, seed=seed).module.state_dict()["conv1.0.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_training_wrote_beside_the_weights_is_heeded(tmp_path: Path) -> None:
    file, _ = weights(tmp_path, 7)
    own = Preprocessing.for_size((48, 40), (0.1,) * 3, (0.9,) * 3)
    beside = sidecar_text(model="timm:test_resnet", preprocessing=own, class_names=None, training={})
    sidecar_path(file).write_bytes(beside)
    assert load_with_new_head(str(file), NAMES, ModelOptions()).preprocessing == own
    given = load_with_new_head("timm:test_resnet", NAMES, SMALL, weights=file).preprocessing
    assert (given.size, given.mean) == ((32, 32), own.mean)


def test_weights_of_another_network_are_refused_with_the_mend(tmp_path: Path, refused: Any) -> None:
    file, state = weights(tmp_path, 7)
    with refused(WeightsError, "'start.pth' does not fit timm:test_vit", "give weights of this architecture"):
        load_with_new_head("timm:test_vit", NAMES, ModelOptions(), weights=file)
    del state["layer1.0.conv1.weight"]
    torch.save(state, file)
    with refused(WeightsError, "missing 'layer1.0.conv1.weight'", "give weights of this architecture"):
        load_with_new_head("timm:test_resnet", NAMES, SMALL, weights=file)


def test_a_network_with_other_outputs_than_classes_is_refused(tmp_path: Path, refused: Any) -> None:
    with refused(UsageError, "demo gives 10 outputs an image; expected 3"):
        load_with_new_head("demo", NAMES, ModelOptions())
    with refused(UsageError, "is no classifier", "expected scores of classes"):
        load_with_new_head("torchvision:lraspp_mobilenet_v3_large", NAMES, SMALL)
    with refused(UsageError, "takes no single pictures"):
        load_with_new_head("torchvision:r3d_18", NAMES, ModelOptions())


def test_a_function_without_a_number_of_classes_is_fine_where_it_has_the_right_one(
    tmp_path: Path, refused: Any
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    assert load_with_new_head(f"{tmp_path}/net.py:three", NAMES, FACTORY_OPTIONS).class_names == NAMES
    with refused(UsageError, "gives 3 outputs an image; expected 2"):
        load_with_new_head(f"{tmp_path}/net.py:three", NAMES[:2], FACTORY_OPTIONS)
    with refused(ModelError, "fails on images [2, 3, 2, 2]", "--size"):
        load_with_new_head(f"{tmp_path}/net.py:breaking", NAMES, FACTORY_OPTIONS)
