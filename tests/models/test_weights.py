import argparse
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from whycam.errors import WeightsError
from whycam.models.weights import read_weights


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def _state(scale: float = 1.0) -> dict[str, Tensor]:
    return {"fc.weight": torch.arange(6.0).reshape(2, 3) * scale, "fc.bias": torch.ones(2) * scale}


def _assert_same(found: Any, expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_read_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    save_file(_state(), tmp_path / name)
    weights = read_weights(tmp_path / name)
    assert weights.name == name
    _assert_same(dict(sorted(weights.tensors.items(), reverse=True)), _state())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["w.pth", "w.ckpt", "w.pth.tar"])
def test_both_formats_of_torch_save_are_read(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(_state(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    _assert_same(read_weights(tmp_path / name).tensors, _state())


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "w.pth")
    expected = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert read_weights(str(tmp_path / "w.pth")).sha256 == expected


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema", "state_dict", "model", "net"])
def test_the_state_dict_is_found_under_the_usual_keys(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, key: _state()}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    _assert_same(weights.tensors, _state())
    assert weights.notes == (f"state dict found under '{key}'",)


def test_averaged_weights_come_before_plain_ones_and_it_is_noted(tmp_path: Path) -> None:
    torch.save({"state_dict": _state(), "state_dict_ema": _state(5)}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    _assert_same(weights.tensors, _state(5))
    assert weights.notes == ("state dict found under 'state_dict_ema' (the file also holds 'state_dict')",)


def test_a_state_dict_two_levels_down_is_found(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": {"state_dict": _state(), "name": "x"}}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    _assert_same(weights.tensors, _state())
    assert weights.notes == ("state dict found under 'model.state_dict'",)


def test_tensors_beside_other_entries_are_the_state_dict_where_no_key_names_one(tmp_path: Path) -> None:
    torch.save({**_state(), "epoch": 3}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    _assert_same(weights.tensors, _state())
    assert weights.notes == ("entries that are no tensors not used: 'epoch'",)


def test_the_arguments_that_timm_saves_beside_the_weights_are_no_obstacle(tmp_path: Path) -> None:
    torch.save({"state_dict": _state(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    _assert_same(read_weights(tmp_path / "w.pth").tensors, _state())
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_unrun_and_named(
    tmp_path: Path, zipped: bool, refused: Any
) -> None:
    file, marker = tmp_path / "w.pth", tmp_path / "marker"
    torch.save({"state_dict": _state(), "x": _Hostile(marker)}, file, _use_new_zipfile_serialization=zipped)
    with refused(
        WeightsError,
        "'w.pth' is refused",
        f"{os.mkdir.__module__}.mkdir",
        f"whycam convert {file} --trust-pickle",
    ):
        read_weights(file)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
def test_a_bare_pickle_that_would_run_code_is_refused_unrun(
    tmp_path: Path, protocol: int, name: str, refused: Any
) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps({"a": _Hostile(marker)}, protocol=protocol)
    (tmp_path / name).write_bytes(payload)
    expected = "no safetensors file" if name == "w.safetensors" else "--trust-pickle"
    with refused(WeightsError, f"'{name}'", expected):
        read_weights(tmp_path / name)
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()  # so the payload was live


def test_every_refused_type_is_named_not_only_the_first(tmp_path: Path, refused: Any) -> None:
    torch.save(
        {"a": np.float64(1), "b": _Hostile(tmp_path / "marker"), "c": torch.ones(1)}, tmp_path / "w.pth"
    )
    with refused(WeightsError, "numpy", f"{os.mkdir.__module__}.mkdir"):
        read_weights(tmp_path / "w.pth")


def test_a_whole_pickled_module_is_refused_with_the_mend(tmp_path: Path, refused: Any) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with refused(WeightsError, "torch.nn.modules.linear.Linear", "--trust-pickle"):
        read_weights(tmp_path / "w.pth")


def test_a_torchscript_archive_is_refused(tmp_path: Path, refused: Any) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/constants.pkl", b"")
        archive.writestr("w/code/__torch__.py", b"")
    with refused(WeightsError, "TorchScript", "--trust-pickle"):
        read_weights(tmp_path / "w.pt")


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_unpacked(tmp_path: Path, refused: Any) -> None:
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(200_000)}, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(tmp_path / "w.pth", "w") as bomb:
        for entry in stored.infolist():
            bomb.writestr(entry.filename, stored.read(entry), compress_type=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with refused(WeightsError, "would unpack to", "never compresses"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("is empty",)),
        (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", ("HTML page",)),
        (b"<html></html>" * 9, ("HTML page",)),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ("Git LFS pointer", "git lfs pull")),
        (b'{"metadata": {"total_size": 1}}', ("JSON",)),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), ("HDF5", "Keras")),
        (b"\x93NUMPY\x01\x00", ("NumPy",)),
        (b"\x1f\x8b\x08\x00", ("gzip",)),
        (b"PK\x03\x04 and no more", ("broken or cut off",)),
        (b"\x80", ("broken or cut off",)),
        (bytes(5000), ("'w.pth'",)),
        (b"hello", ("'w.pth'",)),
    ],
)
def test_what_is_no_weights_file_is_told_in_one_line(
    tmp_path: Path, content: bytes, words: tuple[str, ...], refused: Any
) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with refused(WeightsError, *words):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_cut_file_is_told_in_one_line(tmp_path: Path, name: str, share: float, refused: Any) -> None:
    state = {"a": torch.zeros(50, 50), "b": torch.zeros(50)}
    save_file(state, tmp_path / name) if name == "w.safetensors" else torch.save(state, tmp_path / name)
    os.truncate(tmp_path / name, int((tmp_path / name).stat().st_size * share))
    with refused(WeightsError, f"'{name}'", "copy or download it again"):
        read_weights(tmp_path / name)


def test_a_missing_file_is_told_in_one_line(tmp_path: Path, refused: Any) -> None:
    with refused(WeightsError, "does not exist", "check the path"):
        read_weights(tmp_path / "no\nsuch.pth")


def test_a_name_of_ten_thousand_characters_is_told_in_one_line(refused: Any) -> None:
    with refused(WeightsError, "cannot be opened", "too long"):
        read_weights("a" * 10_000)


def test_a_folder_is_refused_naming_the_weights_in_it(tmp_path: Path, refused: Any) -> None:
    torch.save(_state(), tmp_path / "best.pth")
    with refused(WeightsError, "is a folder", "'best.pth'"):
        read_weights(tmp_path)


def test_a_pipe_is_refused_unread(tmp_path: Path, refused: Any) -> None:
    os.mkfifo(tmp_path / "w.pth")
    with refused(WeightsError, "no regular file"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"epoch": 3, "optimizer": {"lr": 0.1}},
            ("no state dict", "'epoch', 'optimizer'", "'state_dict_ema'"),
        ),
        ({}, ("no state dict", "none")),
        (torch.ones(3), ("holds a Tensor",)),
        ([torch.ones(3)], ("holds a list",)),
        ({0: torch.ones(3)}, ("keys that are no text", "'0'")),
        ({"state_dict": {0: torch.ones(3)}}, ("keys that are no text",)),
        ({"a\x1b[2J\n": 1}, ("no state dict",)),
    ],
)
def test_a_file_without_a_state_dict_is_refused(
    tmp_path: Path, content: Any, words: tuple[str, ...], refused: Any
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with refused(WeightsError, *words):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(3).to_sparse(), ("torch.sparse_coo",)),
        (torch.empty(3, device="meta"), ("meta device",)),
        (torch.zeros(1).expand(10**6, 10**6), ("claims 4000000000000 bytes",)),
    ],
)
def test_an_absurd_tensor_is_refused_by_its_name(
    tmp_path: Path, tensor: Tensor, words: tuple[str, ...], refused: Any
) -> None:
    torch.save({"layer.weight": tensor}, tmp_path / "w.pth")
    with refused(WeightsError, "'layer.weight'", *words):
        read_weights(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_quantised_tensor_is_refused_by_its_name(tmp_path: Path, refused: Any) -> None:
    torch.save(
        {"layer.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "w.pth"
    )
    with refused(WeightsError, "'layer.weight'", "quantised"):
        read_weights(tmp_path / "w.pth")


def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, refused: Any) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with refused(WeightsError, "broken safetensors"):
        read_weights(tmp_path / "w.safetensors")
