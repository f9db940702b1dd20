"""Networks of transformers: their own answers, their own weights, and no code or network of anybody's."""

import json
import socket
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tests.models.hf_folders import change_json, save_tokenizer, saved
from torch import Tensor, nn

from whycam import choose_layer
from whycam.errors import ModelError, UsageError, WeightsError, WhycamError
from whycam.models import LoadedModel, load

GIVEN: dict[str, Any] = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = IMAGES[..., :32, :32]


@pytest.fixture(autouse=True)
def knocks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note every try to reach the network, also one whose failure somebody swallows."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        tried.append(arguments)
        raise OSError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def _answers(kind: str, network: Any) -> Callable[[Tensor], list[Tensor]]:
    return {
        "detr": lambda images: [network(images).logits, network(images).pred_boxes],
        "vit_without_head": lambda images: [network(images).pooler_output],
        "resnet_without_head": lambda images: [network(images).pooler_output.flatten(1)],
        "clip": lambda images: [network.get_image_features(images).pooler_output],
        "siglip": lambda images: [network.get_image_features(images).pooler_output],
    }.get(kind, lambda images: [network(images).logits])


@pytest.mark.parametrize(
    "kind",
    [
        "vit",
        "convnext",
        "resnet",
        "segformer",
        "detr",
        "vit_without_head",
        "resnet_without_head",
        "clip",
        "siglip",
    ],
)
def test_a_saved_network_answers_as_transformers_own(kind: str, tmp_path: Path, knocks: list[Any]) -> None:
    network = saved(kind, tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    images = SMALL if kind.startswith(("vit", "clip", "siglip")) else IMAGES
    with torch.no_grad():
        for found, expected in zip(
            _found(kind, model.module, images), _answers(kind, network)(images), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (model.provenance.kind, model.provenance.name) == ("file", "model.safetensors")
    assert len(model.provenance.sha256 or "") == 64
    assert not any(module.training for module in model.module.modules())
    assert knocks == []


def _found(kind: str, module: nn.Module, images: Tensor) -> list[Tensor]:
    answer = module(images)
    if isinstance(answer, Tensor):
        assert answer.ndim == 2
        return [answer]
    return [answer.logits, answer.pred_boxes] if kind == "detr" else [answer.logits]


@pytest.mark.parametrize(
    ("kind", "part"), [("vit", "vit."), ("clip", "model.vision_model."), ("resnet", "resnet")]
)
def test_the_chosen_layer_has_the_networks_own_path(kind: str, part: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    images = IMAGES if kind == "resnet" else SMALL
    assert choose_layer(model.module, images[:1]).path.startswith(part)


def test_the_processor_in_the_folder_is_the_preprocessing(tmp_path: Path) -> None:
    size = {"height": 32, "width": 32}
    processor = transformers.ViTImageProcessor(size=size)
    network = saved("vit", tmp_path, processor)
    model = load(f"hf:{tmp_path}")
    picture = Image.fromarray(skimage.data.astronaut())
    shown = processor(images=[picture], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        ours, theirs = model.module(model.prepare([picture]).images).logits, network(shown).logits
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_a_detectors_own_processor_shows_each_picture_in_its_shape(tmp_path: Path) -> None:
    processor = transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100})
    network = saved("detr", tmp_path, processor)
    model = load(f"hf:{tmp_path}")
    for height, width in ((200, 301), (300, 110), (77, 80)):
        picture = Image.fromarray(skimage.data.astronaut()[:height, :width])
        shown = processor(images=[picture], return_tensors="pt")
        prepared = model.prepare([picture])
        assert prepared.images.shape == shown["pixel_values"].shape
        assert prepared.geometries[0].box == pytest.approx((0, 0, height, width))
        with torch.no_grad():
            ours, theirs = model.module(prepared.images), network(**shown)
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0.05, atol=0.05)
        torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"size": (48, 72)}, ("bounded", (48, 72), (48, 72))),
        ({"size": 48, "resize": "squash"}, ("squash", (48, 48), (48, 48))),
        ({"resize": "longest"}, ("longest", (64, 100), (64, 100))),
    ],
)
def test_a_detectors_preprocessing_can_be_changed(
    given: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    saved("detr", tmp_path, transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100}))
    found = load(f"hf:{tmp_path}", **given).preprocessing
    assert (found.resize, found.size, found.resize_to) == expected


def test_bounding_instead_of_a_crop_crops_nothing_and_keeps_the_channels_order(tmp_path: Path) -> None:
    processor = transformers.MobileViTImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    )
    saved("vit", tmp_path, processor)
    found = load(f"hf:{tmp_path}", resize="bounded").preprocessing
    assert (found.resize, found.size, found.resize_to) == ("bounded", (32, 32), (32, 32))
    assert found.channel_order == "bgr"


def test_a_folder_without_a_processor_needs_the_three_values(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    with refused(ModelError, "no preprocessing comes with", "--size --mean --std"):
        load(f"hf:{tmp_path}")


def test_a_processor_that_cannot_be_followed_is_named_unless_the_values_are_given(
    tmp_path: Path, refused: Any
) -> None:
    saved("detr", tmp_path, transformers.DetrImageProcessor(pad_size={"height": 900, "width": 900}))
    with refused(ModelError, "preprocessing cannot be followed", "--size --mean --std"):
        load(f"hf:{tmp_path}")
    assert load(f"hf:{tmp_path}", **GIVEN).preprocessing.size == (32, 32)


def test_weights_in_a_pickle_of_tensors_are_read_safely(tmp_path: Path) -> None:
    network = saved("vit", tmp_path)
    # the keys of older releases, as they are in the safetensors file
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    model = load(f"hf:{tmp_path}", **GIVEN)
    assert model.provenance.name == "pytorch_model.bin"
    with torch.no_grad():
        torch.testing.assert_close(model.module(SMALL).logits, network(SMALL).logits, rtol=1e-4, atol=1e-5)


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.marker,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"w": _Hostile(tmp_path / "run")}, tmp_path / "pytorch_model.bin")
    with refused(WeightsError, "'pytorch_model.bin' is refused"):
        load(f"hf:{tmp_path}", **GIVEN)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "auto"),
    [
        ("config.json", {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}),
        ("preprocessor_config.json", {"AutoImageProcessor": "evil.Processor"}),
    ],
)
def test_code_in_the_folder_is_never_run(
    file: str, auto: dict[str, str], tmp_path: Path, refused: Any
) -> None:
    saved("vit", tmp_path, transformers.ViTImageProcessor())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    change_json(tmp_path / file, auto_map=auto)
    with refused(ModelError, f"'{file}' asks for code of its own (auto_map)", "file.py:factory"):
        load(f"hf:{tmp_path}")
    assert not (tmp_path / "run").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ("'config.json' is no readable JSON",)),
        ("[" * 100_000, ("'config.json' is no readable JSON",)),
        ("[1]", ("holds a list",)),
        ("{}", ("architectures in config.json is None",)),
        ('{"architectures": ["BertForMaskedLM"], "model_type": "bert"}', ("BertForMaskedLM",)),
        ('{"architectures": ["BertModel"], "model_type": "bert"}', ("BertModel takes input_ids",)),
        ('{"architectures": ["XForImageClassification"], "model_type": "nosuch"}', ("cannot be built",)),
        ('{"architectures": ["XForImageClassification"], "model_type": "bert"}', ("cannot be built",)),
        ('{"architecture": "hf-hub:someone/net"}', ("elsewhere", "hf-hub:someone/net")),
        ('{"quantization_config": {"bits": 4}}', ("quantised",)),
        ('{"a": ' * 40 + "1" + "}" * 40, ("nested more than 32 deep",)),
    ],
)
def test_a_broken_or_foreign_configuration_is_one_line(
    text: str, words: tuple[str, ...], tmp_path: Path, refused: Any, knocks: list[Any]
) -> None:
    (tmp_path / "config.json").write_text(text)
    with refused(ModelError, *words):
        load(f"hf:{tmp_path}", **GIVEN)
    assert knocks == []


def test_a_configuration_that_cannot_be_built_says_the_mend(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    change_json(tmp_path / "config.json", patch_size="wide")
    with refused(ModelError, "cannot be built with these options", "save_pretrained"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_a_huge_configuration_is_refused_unread(tmp_path: Path, refused: Any) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**31)
    with refused(ModelError, "2147483648 bytes"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_a_backbone_on_the_hub_is_not_asked_for(tmp_path: Path, refused: Any, knocks: list[Any]) -> None:
    saved("detr", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["backbone_config"]
    config |= {"backbone": "microsoft/resnet-50", "use_timm_backbone": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(ModelError, "names its backbone, 'microsoft/resnet-50'"):
        load(f"hf:{tmp_path}", **GIVEN)
    assert knocks == []


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path, refused: Any) -> None:
    with refused(ModelError, "no config.json", "save_pretrained"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_an_id_that_is_not_here_is_not_looked_up_unasked(refused: Any, knocks: list[Any]) -> None:
    with refused(ModelError, "neither a local folder nor in the hub's cache", "--download"):
        load("hf:someone/net")
    assert knocks == []


def test_a_download_that_fails_is_told_in_one_line(refused: Any) -> None:
    with refused(ModelError, "hf:someone/net could not be had", "connection"):
        load("hf:someone/net", download=True)


def test_download_gets_the_files_and_says_whose_weights_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("vit", tmp_path, transformers.ViTImageProcessor(size={"height": 32, "width": 32}))
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return _snapshot_of(tmp_path, options)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = load("hf:someone/net", download=True)
    assert [ask["local_files_only"] for ask in asked] == [True, False]
    assert not any(pattern.endswith(".py") for ask in asked for pattern in ask["allow_patterns"])
    assert model.provenance.kind == "file"


def test_download_takes_weights_in_several_files_and_no_pickles_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = saved("vit", tmp_path, transformers.ViTImageProcessor(size={"height": 32, "width": 32}))
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="8KB")
    shard = next(tmp_path.glob("model-*-of-*.safetensors")).name
    asked: list[list[str]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append(options["allow_patterns"])
        return _snapshot_of(tmp_path, options)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load("hf:someone/net", download=True).provenance.name == "model.safetensors.index.json"
    assert len(asked) == 2
    assert any(fnmatch(shard, pattern) for pattern in asked[1])
    assert not any(pattern.endswith(".bin") for pattern in asked[1])


def _snapshot_of(folder: Path, options: dict[str, Any]) -> str:
    from huggingface_hub.errors import LocalEntryNotFoundError

    if options["local_files_only"]:
        raise LocalEntryNotFoundError("not here")
    return str(folder)


def test_a_local_folder_has_nothing_to_download(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    with refused(UsageError, "leave download out"):
        load(f"hf:{tmp_path}", download=True)


def test_without_weights_they_are_random_from_the_fixed_seed_and_said_to_be(tmp_path: Path) -> None:
    saved("vit", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    torch.manual_seed(1)
    first = load(f"hf:{tmp_path}", **GIVEN)
    torch.manual_seed(2)
    second = load(f"hf:{tmp_path}", **GIVEN)
    assert first.provenance.kind == "random"
    assert first.provenance.notes == ("seed 0", "not used: 'other.safetensors' (--weights takes one)")
    said = first.provenance.describe()
    assert "pass --weights FILE;" in said
    assert "--download" not in said  # a local folder has none
    pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_number_of_classes_changes_the_head_of_random_weights_only(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    with refused(UsageError, "have 5 classes, not 3"):
        load(f"hf:{tmp_path}", num_classes=3, **GIVEN)
    (tmp_path / "model.safetensors").unlink()
    assert load(f"hf:{tmp_path}", num_classes=3, **GIVEN).module(SMALL).logits.shape == (2, 3)


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_a_weights_file_replaces_the_folders_and_its_head_sets_the_classes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    saved(kind, tmp_path / "a")
    torch.manual_seed(5)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "a")
    config.num_labels = 7
    trained = transformers.AutoModelForImageClassification.from_config(config).eval()
    trained.save_pretrained(tmp_path / "b")
    own, plain = tmp_path / "b" / "model.safetensors", tmp_path / "plain.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, plain)
    for file in (own, plain):
        model = load(f"hf:{tmp_path / 'a'}", weights=file, **GIVEN)
        with torch.no_grad():
            torch.testing.assert_close(
                model.module(SMALL).logits, trained(SMALL).logits, rtol=1e-4, atol=1e-5
            )
        assert "7 classes read from the weights' head" in model.provenance.notes


def test_weights_that_do_not_fit_are_refused_whole(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    saved("vit", tmp_path / "a")
    saved("resnet", tmp_path / "b")
    with refused(WeightsError, "does not fit hf:"):
        load(f"hf:{tmp_path / 'a'}", weights=tmp_path / "b" / "model.safetensors", **GIVEN)


def test_a_missing_head_is_not_left_random(tmp_path: Path, refused: Any) -> None:
    saved("vit", tmp_path)
    tensors = {k: v for k, v in load_file(tmp_path / "model.safetensors").items() if "classifier" not in k}
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with refused(WeightsError, "'pytorch_model.bin' does not fit", "classifier"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_weights_in_several_files_are_read_from_all_of_them(tmp_path: Path) -> None:
    network = saved("vit", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="8KB")
    count = len(list(tmp_path.glob("model-*-of-*.safetensors")))
    assert count > 1
    model = load(f"hf:{tmp_path}", **GIVEN)
    assert (model.provenance.kind, model.provenance.name) == ("file", "model.safetensors.index.json")
    assert f"weights in {count} files" in model.provenance.notes
    with torch.no_grad():
        torch.testing.assert_close(model.module(SMALL).logits, network(SMALL).logits, rtol=1e-4, atol=1e-5)


def test_weights_of_which_a_file_is_missing_are_refused(tmp_path: Path, refused: Any) -> None:
    network = saved("vit", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="8KB")
    last = sorted(tmp_path.glob("model-*-of-*.safetensors"))[-1]
    last.unlink()
    with refused(WeightsError, last.name, "not in its folder"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_class_names_are_the_configurations_but_not_its_placeholders(tmp_path: Path) -> None:
    saved("vit", tmp_path)
    assert load(f"hf:{tmp_path}", **GIVEN).class_names is None
    names = ("cat", "dog", "fox", "owl", "猫")
    change_json(tmp_path / "config.json", id2label={str(i): name for i, name in enumerate(names)})
    assert load(f"hf:{tmp_path}", **GIVEN).class_names == names
    change_json(tmp_path / "config.json", problem_type="regression")  # names of values are none of classes
    assert load(f"hf:{tmp_path}", **GIVEN).class_names is None


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_text_is_embedded_as_transformers_embeds_it(kind: str, tmp_path: Path) -> None:
    network = saved(kind, tmp_path)
    tokenizer = save_tokenizer(tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    padding = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {}
    tokens = tokenizer(["a cat"], return_tensors="pt", **padding)
    given = {key: value for key, value in tokens.items() if key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = network.get_text_features(**given).pooler_output[0]
    assert model.embed_text is not None
    torch.testing.assert_close(model.embed_text("a cat"), expected, rtol=1e-4, atol=1e-5)
    assert model.embed_text("word " * 500).shape == expected.shape
    assert not torch.equal(model.embed_text("a dog"), model.embed_text("a cat"))


def test_a_missing_tokenizer_is_told_when_a_text_comes(tmp_path: Path, refused: Any) -> None:
    saved("clip", tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    with refused(ModelError, "no tokenizer", "tokenizer_config.json"):
        _embedded(model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_args": {"checkpoint_path": "elsewhere.pth"}}, "names a weights file of its own"),
        ({"backbone": "Local-Dir:/elsewhere"}, "refers to a network elsewhere"),
        ({"backbone": " HF-HUB:some/where"}, "refers to a network elsewhere"),
    ],
)
def test_a_configuration_that_reaches_outside_its_folder_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path, refused: Any
) -> None:
    saved("vit", tmp_path)
    change_json(tmp_path / "config.json", **changes)
    with refused(ModelError, f"'config.json' {words}"):
        load(f"hf:{tmp_path}", **GIVEN)


def test_a_tokenizer_with_code_is_refused(tmp_path: Path, refused: Any) -> None:
    saved("clip", tmp_path)
    save_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})
    with refused(ModelError, "'tokenizer_config.json' asks for code"):
        _embedded(load(f"hf:{tmp_path}", **GIVEN))


def _embedded(model: LoadedModel) -> Tensor:
    assert model.embed_text is not None
    return model.embed_text("a cat")


def test_an_image_text_model_has_no_classes_and_others_no_texts(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "clip").mkdir()
    saved("clip", tmp_path / "clip")
    with refused(UsageError, "gives embeddings", "num_classes"):
        load(f"hf:{tmp_path / 'clip'}", num_classes=3, **GIVEN)
    saved("vit", tmp_path)
    assert load(f"hf:{tmp_path}", **GIVEN).embed_text is None


def test_transformers_is_left_as_talkative_and_online_as_it_was(tmp_path: Path, capfd: Any) -> None:
    from huggingface_hub import constants

    saved("vit", tmp_path)
    capfd.readouterr()
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    load(f"hf:{tmp_path}", **GIVEN)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WhycamError):
        load(f"hf:{tmp_path}", **GIVEN)
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == before
    assert constants.HF_HUB_OFFLINE is False
    assert capfd.readouterr() == ("", "")
