"""Weights in several files: all are read, each from beside its index, and no others."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from whycam.errors import WeightsError
from whycam.models.weights import read_weights

FIRST = {"a.weight": torch.arange(6.0).reshape(2, 3)}
SECOND = {"b.weight": torch.ones(4), "b.bias": torch.zeros(4)}
NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def _index(folder: Path, files: dict[str, dict[str, Tensor]], name: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    index = folder / f"{name}.index.json"
    weight_map = {key: file for file, tensors in files.items() for key in tensors}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.fixture
def index(tmp_path: Path) -> Path:
    for name, tensors in zip(NAMES, (FIRST, SECOND), strict=True):
        save_file(tensors, tmp_path / name)
    return _index(tmp_path, dict(zip(NAMES, (FIRST, SECOND), strict=True)))


def test_all_files_of_an_index_are_read_and_counted(index: Path) -> None:
    weights = read_weights(index)
    assert weights.tensors.keys() == FIRST.keys() | SECOND.keys()
    assert all(torch.equal(weights.tensors[key], value) for key, value in {**FIRST, **SECOND}.items())
    assert weights.name == "model.safetensors.index.json"
    assert weights.notes == ("weights in 2 files",)


def test_the_hash_is_that_of_all_files_in_order(index: Path) -> None:
    whole = b"".join((index.parent / name).read_bytes() for name in NAMES)
    assert read_weights(index).sha256 == hashlib.sha256(whole).hexdigest()


def test_pickled_files_run_nothing(tmp_path: Path, refused: Any) -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for name, tensors in zip(names, (FIRST, SECOND), strict=True):
        torch.save(tensors, tmp_path / name)
    index = _index(tmp_path, dict(zip(names, (FIRST, SECOND), strict=True)), "pytorch_model.bin")
    assert read_weights(index).tensors.keys() == FIRST.keys() | SECOND.keys()
    torch.save({**SECOND, "c": Path("hidden")}, tmp_path / names[1])
    with refused(WeightsError, f"'{names[1]}' is refused"):
        read_weights(index)


def test_a_missing_file_is_named(index: Path, refused: Any) -> None:
    (index.parent / NAMES[1]).unlink()
    with refused(WeightsError, f"'{NAMES[1]}'", "is not in its folder", "download it too"):
        read_weights(index)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "deeper/inside.safetensors",
        "deeper\\inside.safetensors",
        "C:inside.safetensors",
        "odd\nname.safetensors",
        "code.py",
        "..",
        "",
    ],
)
def test_an_index_names_only_weights_files_beside_it(tmp_path: Path, name: str, refused: Any) -> None:
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    save_file(FIRST, tmp_path / "outside.safetensors")
    save_file(FIRST, tmp_path / "in" / "deeper" / "inside.safetensors")
    with refused(WeightsError, "expected the plain name"):
        read_weights(_index(tmp_path / "in", {name: FIRST}))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, refused: Any) -> None:
    save_file(FIRST, tmp_path / "outside.safetensors")
    index = _index(tmp_path / "in", {NAMES[0]: FIRST})
    (tmp_path / "in" / NAMES[0]).symlink_to(tmp_path / "outside.safetensors")
    with refused(WeightsError, f"'{NAMES[0]}' is a link that leads out of its folder"):
        read_weights(index)


def test_the_links_of_the_hubs_cache_are_followed_into_its_own_store_only(
    tmp_path: Path, refused: Any
) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(FIRST, tmp_path / "models--a--b" / "blobs" / "0123")
    index = _index(snapshot, {NAMES[0]: FIRST})
    (snapshot / NAMES[0]).symlink_to(Path("../../blobs/0123"))
    assert read_weights(index).tensors.keys() == FIRST.keys()
    save_file(FIRST, tmp_path / "0123")
    (snapshot / NAMES[0]).unlink()
    (snapshot / NAMES[0]).symlink_to(tmp_path / "0123")
    with refused(WeightsError, "leads out of its folder"):
        read_weights(index)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"b.weight": torch.ones(4)}, ("1 of its keys are missing ('b.bias')",)),
        ({**SECOND, "c": torch.ones(1)}, ("1 are not in the index ('c')",)),
        (
            {"b.bias": torch.ones(4), "c": torch.ones(1)},
            ("missing ('b.weight')", "not in the index ('c')"),
        ),
    ],
)
def test_a_file_with_other_keys_than_the_index_says_is_refused(
    index: Path, held: dict[str, Tensor], words: tuple[str, ...], refused: Any
) -> None:
    save_file(held, index.parent / NAMES[1])
    with refused(WeightsError, f"'{NAMES[1]}' is not the file", *words):
        read_weights(index)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no readable index"),
        ("[" * 100_000, "no readable index"),
        ("[]", "no weight_map"),
        ("{}", "no weight_map"),
        ('{"weight_map": {}}', "no weight_map"),
        ('{"weight_map": {"a": 1}}', "no weight_map"),
    ],
)
def test_a_broken_index_is_told_in_one_line(tmp_path: Path, text: str, words: str, refused: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with refused(WeightsError, "'model.safetensors.index.json'", words):
        read_weights(tmp_path / "model.safetensors.index.json")


def test_a_huge_index_is_refused_unread(tmp_path: Path, refused: Any) -> None:
    with (tmp_path / "model.safetensors.index.json").open("wb") as file:
        file.truncate(2**31)
    with refused(WeightsError, "2147483648 bytes"):
        read_weights(tmp_path / "model.safetensors.index.json")
