"""Image-text models of open_clip: their own embeddings, offline, with any weights file."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import skimage.data
import torch
from PIL import Image

from whycam import choose_layer
from whycam.errors import ModelError, UsageError, WeightsError
from whycam.models import LoadedModel, load

SMALLEST = "ViT-S-32-alt"
PICTURE = Image.fromarray(skimage.data.astronaut()[:431, :500])


@pytest.fixture(scope="module")
def trained() -> Any:
    torch.manual_seed(77)
    return open_clip.create_model(SMALLEST, load_weights=False).eval()


@pytest.fixture(scope="module")
def file(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "epoch_3.pt"
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def model(file: Path) -> LoadedModel:
    return load(f"open_clip:{SMALLEST}", weights=file)


def test_a_photograph_and_a_text_are_embedded_as_open_clip_embeds_them(
    model: LoadedModel, trained: Any
) -> None:
    transform = open_clip.image_transform(224, is_train=False)
    prepared = model.prepare([PICTURE]).images
    assert torch.equal(prepared[0], transform(PICTURE))
    tokens = open_clip.get_tokenizer(SMALLEST)(["a cat"])
    assert model.embed_text is not None
    with torch.no_grad():
        assert torch.equal(model.module(prepared), trained.encode_image(prepared))
        assert torch.equal(model.embed_text("a cat"), trained.encode_text(tokens)[0])


def test_the_weights_are_the_files_and_said_to_be(model: LoadedModel) -> None:
    assert (model.provenance.kind, model.provenance.name) == ("file", "epoch_3.pt")
    assert f"preprocessing of open_clip's {SMALLEST}" in model.provenance.notes
    assert model.class_names is None


def test_the_chosen_layer_has_the_networks_own_path(model: LoadedModel) -> None:
    path = choose_layer(model.module, model.prepare([PICTURE]).images).path
    assert path.startswith("model.visual.transformer.resblocks.")


def test_another_architectures_weights_are_refused(tmp_path: Path, refused: Any) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "a.pth")
    with refused(WeightsError, f"'a.pth' does not fit open_clip:{SMALLEST}"):
        load(f"open_clip:{SMALLEST}", weights=tmp_path / "a.pth")


def test_without_weights_they_are_random_from_the_fixed_seed_and_another_size_fits() -> None:
    first, second = (load(f"open_clip:{SMALLEST}", size=size) for size in (96, (96, 96)))
    assert first.provenance.kind == "random"
    pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with torch.no_grad():
        assert first.module(first.prepare([PICTURE]).images).shape == (1, 256)


def test_a_tag_changes_the_preprocessing_and_the_activation_it_was_trained_with() -> None:
    plain = load("open_clip:ViT-B-32").module
    tagged = load("open_clip:ViT-B-32/openai")
    kinds = [{type(module).__name__ for module in one.modules()} for one in (plain, tagged.module)]
    assert "QuickGELU" in kinds[1] - kinds[0]
    assert tagged.provenance.kind == "random"


def test_there_are_no_classes_and_three_channels(refused: Any) -> None:
    with refused(UsageError, "no classes"):
        load(f"open_clip:{SMALLEST}", num_classes=3)
    with refused(UsageError, "3 channels"):
        load(f"open_clip:{SMALLEST}", mean=(0.5,), std=(0.5,))


def test_download_needs_a_tag_and_takes_its_weights(
    monkeypatch: pytest.MonkeyPatch, refused: Any, trained: Any
) -> None:
    with refused(ModelError, "names no weights to download", "'openai'"):
        load("open_clip:ViT-B-32", download=True)
    with refused(ModelError, "names no weights", "--weights"):
        load(f"open_clip:{SMALLEST}", download=True)
    asked: list[Any] = []

    def create_model(*names: str, **options: Any) -> Any:
        asked.append((names, options["weights_only"]))
        return trained

    monkeypatch.setattr("open_clip.create_model", create_model)
    model = load("open_clip:ViT-B-32/openai", download=True)
    assert asked == [(("ViT-B-32", "openai"), True)]
    assert model.provenance.describe() == "published weights open_clip ViT-B-32/openai"


def test_a_download_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    def fail(*names: str, **options: Any) -> None:
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr("open_clip.create_model", fail)
    with refused(ModelError, "could not be downloaded: RuntimeError: no route to host", "--weights"):
        load("open_clip:ViT-B-32/openai", download=True)


def test_a_tokenizer_that_is_not_here_is_told_when_a_text_comes(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, refused: Any, file: Path
) -> None:
    def fail(name: str) -> None:
        raise OSError("no such file")

    monkeypatch.setattr("open_clip.get_tokenizer", fail)
    fresh = load(f"open_clip:{SMALLEST}", weights=file)
    with refused(ModelError, "tokenizer", "not on this machine"):
        assert fresh.embed_text is not None
        fresh.embed_text("a cat")
