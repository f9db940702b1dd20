"""A checkpoint becomes safetensors, bit for bit; its code runs only where that was asked for."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whycam.errors import UsageError, WeightsError
from whycam.models.convert import convert_weights, trusting, unpickle_anything
from whycam.models.weights import read_weights


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def _state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "a.weight": torch.randn(3, 4, generator=generator),
        "a.half": torch.randn(5, generator=generator).half(),
        "a.brain": torch.randn(5, generator=generator).bfloat16(),
        "a.double": torch.randn(2, 2, generator=generator).double(),
        "a.steps": torch.tensor(7),
        "a.mask": torch.tensor([True, False]),
        "a.turned": torch.randn(3, 4, generator=generator).t(),
        "a.none": torch.zeros(0, 3),
    }


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_keys_values_and_number_types_are_the_same_to_the_bit(
    tmp_path: Path, zipped: bool, trusted: bool
) -> None:
    torch.save({"state_dict": _state()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    how = {"unpickle": unpickle_anything} if trusted else {}
    done = convert_weights(tmp_path / "w.pth", **how)
    assert done.place == tmp_path / "w.safetensors"
    assert (done.count, done.shared) == (8, 0)
    _assert_same(load_file(done.place), _state())
    _assert_same(dict(read_weights(done.place).tensors), _state())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("best.pth.tar", "best.safetensors"),
        ("e1.2.ckpt", "e1.2.safetensors"),
        ("w.bin", "w.safetensors"),
        ("plain", "plain.safetensors"),
    ],
)
def test_the_result_lies_beside_the_source(tmp_path: Path, name: str, expected: str) -> None:
    torch.save(_state(), tmp_path / name)
    assert convert_weights(tmp_path / name).place.name == expected


def test_what_was_chosen_is_kept_in_the_file(tmp_path: Path) -> None:
    torch.save({"state_dict": _state(), "model_ema": _state()}, tmp_path / "w.pth")
    done = convert_weights(tmp_path / "w.pth")
    with safe_open(done.place, "pt") as file:
        metadata = file.metadata()
    assert metadata["source_sha256"] == done.weights.sha256
    assert metadata["notes"] == "state dict found under 'model_ema' (the file also holds 'state_dict')"


def test_tensors_that_share_memory_are_each_written_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    shared = {"a": base, "b": base, "c": base[3:6], "d": base.reshape(3, 4).t(), "e": torch.ones(2)}
    torch.save(shared, tmp_path / "w.pth")
    done = convert_weights(tmp_path / "w.pth")
    assert done.shared == 2  # a transposed one is copied anyway
    _assert_same(load_file(done.place), shared)


def test_a_safetensors_file_may_be_the_source_but_not_the_result(tmp_path: Path, refused: Any) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    done = convert_weights(tmp_path / "w.safetensors", tmp_path / "x.safetensors")
    _assert_same(load_file(done.place), {"a": torch.ones(2)})
    for overwrite in (False, True):
        with refused(UsageError, "itself"):
            convert_weights(tmp_path / "w.safetensors", overwrite=overwrite)


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path, refused: Any) -> None:
    torch.save(_state(), tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_text("precious")
    with refused(UsageError, "is there already", "--force"):
        convert_weights(tmp_path / "w.pth")
    assert (tmp_path / "w.safetensors").read_text() == "precious"
    convert_weights(tmp_path / "w.pth", overwrite=True)
    _assert_same(load_file(tmp_path / "w.safetensors"), _state())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("absent/w.safetensors", ("cannot be written", "folder of --out")),
        ("w.bin", ("ends in .safetensors",)),
        ("folder.safetensors", ("is a folder",)),
    ],
)
def test_a_place_that_cannot_be_written_is_told_in_one_line_and_leaves_nothing(
    tmp_path: Path, place: str, words: tuple[str, ...], refused: Any
) -> None:
    torch.save(_state(), tmp_path / "w.pth")
    (tmp_path / "folder.safetensors").mkdir()
    with refused(UsageError, *words):
        convert_weights(tmp_path / "w.pth", tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.safetensors", "w.pth"]


def test_a_failure_half_way_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    torch.save(_state(), tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_text("precious")

    def fail(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with refused(UsageError, "No space left"):
        convert_weights(tmp_path / "w.pth", overwrite=True)
    assert (tmp_path / "w.safetensors").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["archive", "legacy", "plain"])
def test_the_code_of_a_hostile_file_runs_only_where_it_is_trusted(
    tmp_path: Path, kind: str, refused: Any
) -> None:
    file, marker = tmp_path / "w.pth", tmp_path / "marker"
    content = {"state_dict": {"a": torch.ones(2)}, "x": _Hostile(marker)}
    if kind == "plain":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "archive")
    with refused(WeightsError, "is refused", f"whycam convert {file} --trust-pickle"):
        convert_weights(file)
    assert not marker.exists()
    assert not (tmp_path / "w.safetensors").exists()
    done = convert_weights(file, unpickle=unpickle_anything)
    assert marker.exists()
    _assert_same(load_file(done.place), {"a": torch.ones(2)})


@pytest.mark.parametrize("kind", ["archive", "legacy", "plain"])
def test_trust_is_asked_for_only_by_a_file_that_holds_more_than_tensors(tmp_path: Path, kind: str) -> None:
    file, marker = tmp_path / "w.pth", tmp_path / "marker"
    warned: list[bool] = []
    unpickle = trusting(lambda: warned.append(marker.exists()))
    for content, warnings in (({"a": torch.ones(2)}, []), ({"a": _Hostile(marker)}, [False])):
        if kind == "plain":
            file.write_bytes(pickle.dumps({"a": 1} if not warnings else content))
        else:
            torch.save(content, file, _use_new_zipfile_serialization=kind == "archive")
        unpickle(file)
        # a pickle that torch.save has not written is never one of tensors only; the warning comes first
        assert warned == (warnings if kind != "plain" else [False] * (1 + len(warnings)))
    assert marker.exists()


def test_a_broken_checkpoint_is_not_run_even_when_trusted(tmp_path: Path, refused: Any) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a": torch.ones(2000)}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:-1000])
    with refused(WeightsError, "broken or cut off"):
        convert_weights(file, unpickle=trusting(lambda: pytest.fail("trusted")))


def test_the_values_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda at: (done.append("sync"), sync(at))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("name"), replace(a, b))[1])
    torch.save(_state(), tmp_path / "w.pth")
    convert_weights(tmp_path / "w.pth")
    assert done[:2] == ["sync", "name"]


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"ema": None, "model": m, "epoch": 3}])
def test_of_a_pickled_module_the_state_dict_is_taken(tmp_path: Path, wrap: Any) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    torch.save(wrap(module), tmp_path / "w.pth")
    done = convert_weights(tmp_path / "w.pth", unpickle=unpickle_anything)
    _assert_same(load_file(done.place), dict(module.state_dict()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_of_a_torchscript_archive_the_state_dict_is_taken(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    torch.jit.script(module).save(tmp_path / "w.pt")
    done = convert_weights(tmp_path / "w.pt", unpickle=unpickle_anything)
    _assert_same(load_file(done.place), dict(module.state_dict()))


def test_a_class_of_ones_own_is_found_in_the_working_folder_and_its_absence_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "my_odd_network.py").write_text("class Settings:\n    rate = 0.1\n")
    content = b"\x80\x02cmy_odd_network\nSettings\n."
    (tmp_path / "w.pkl").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with refused(WeightsError, "my_odd_network", "PYTHONPATH"):
        convert_weights(tmp_path / "w.pkl", unpickle=unpickle_anything)
    monkeypatch.chdir(code)
    with refused(WeightsError, "holds a type", "expected a state dict"):
        convert_weights(tmp_path / "w.pkl", unpickle=unpickle_anything)


@pytest.mark.parametrize("content", [b"\x80\x04", b"cbuiltins\nexit\n)R.", b"hello"])
def test_a_broken_pickle_is_one_line_even_when_trusted(tmp_path: Path, content: bytes, refused: Any) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with refused(WeightsError, "'w.pth' cannot be loaded"):
        convert_weights(tmp_path / "w.pth", unpickle=unpickle_anything)
