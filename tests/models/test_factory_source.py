import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from whycam.errors import ModelError, UsageError
from whycam.models import load
from whycam.models.weights import state_sha256

GIVEN: dict[str, Any] = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
NETWORK = """
    from torch import nn

    def make(num_classes=4):
        head = nn.Linear(5, num_classes)
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)

    def fixed():
        return make(6)

    def gray():
        return nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten())

    def needs(width, depth):
        return make()

    def needs_classes(num_classes):
        return make(num_classes)

    def returns_a_dict():
        return {"model": make()}

    def fails():
        raise ValueError("two\\nlines")

    def exits():
        raise SystemExit(2)

    def fails_in_torch():
        return nn.Conv2d(3, 5, 3, padding="nonsense")

    ready = make(9)
    number = 3
"""

Writer = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Write a Python file and give its path."""
    # what the file or its folder imports must be gone for the next test
    before = set(sys.modules)

    def write(content: str = NETWORK, name: str = "my net.py") -> str:
        (tmp_path / name).write_text(textwrap.dedent(content))
        return str(tmp_path / name)

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_factory_in_a_file_gives_its_network_under_the_preprocessing_given(write: Writer) -> None:
    model = load(f"{write()}:make", **GIVEN)
    assert (model.preprocessing.size, model.preprocessing.mean) == ((16, 16), (0.5, 0.5, 0.5))
    assert (model.preprocessing.resize, model.preprocessing.resize_to) == ("shorter", (16, 16))
    assert model.module(model.prepare([Image.new("RGB", (30, 20))]).images).shape == (1, 4)
    assert model.provenance.kind == "factory"
    assert "whether they are trained is not known" in model.provenance.describe()


def test_a_factorys_random_weights_repeat_and_the_global_generator_is_untouched(write: Writer) -> None:
    file = write()
    before = torch.get_rng_state()
    first, second = load(f"{file}:make", **GIVEN), load(f"{file}:make", **GIVEN)
    assert torch.equal(first.module[0].weight, second.module[0].weight)
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_factory_made_is_known_by_a_digest_that_only_its_tensors_change(write: Writer) -> None:
    def digest(more: str) -> str | None:
        made = f"network = nn.Conv2d(3, 4, 3)\n    {more}\n    return network"
        content = f"from torch import nn\ndef make():\n    {made}\n"
        return load(f"{write(content)}:make", **GIVEN).provenance.sha256

    plain = digest("pass")
    assert plain is not None
    assert digest("other = 1") == plain
    changed = {
        digest("network.weight.data[0, 0, 0, 0] += 1e-3"),
        digest("network.double()"),
        digest("network = nn.Sequential(network)"),
        digest("network.weight = nn.Parameter(network.weight.data.reshape(4, 9, 3, 1))"),
    }
    assert len(changed - {plain, None}) == 4


def test_a_digest_counts_every_kind_of_tensor_and_is_none_where_there_are_no_plain_values() -> None:
    kinds = [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.bool, torch.int8, torch.complex64)]
    digests = {state_sha256({"a": tensor}) for tensor in (*kinds, torch.tensor(1.0), torch.ones(0))}
    assert len(digests - {None}) == 6
    turned = torch.arange(6.0).reshape(2, 3).t()
    assert state_sha256({"a": turned}) == state_sha256({"a": turned.contiguous()})
    assert state_sha256({"a": torch.ones(2), "b": {"of": "another kind"}}) == state_sha256(
        {"a": torch.ones(2)}
    )
    assert state_sha256({"a": torch.ones(2, device="meta")}) is None
    assert state_sha256({"a": torch.eye(2).to_sparse()}) is None


@pytest.mark.parametrize("lacking", [{"size"}, {"mean"}, {"std"}, {"size", "mean", "std"}])
def test_no_preprocessing_is_assumed_for_a_factory(write: Writer, lacking: set[str], refused: Any) -> None:
    given = {name: value for name, value in GIVEN.items() if name not in lacking}
    with refused(ModelError, "--size --mean --std", *(f"--{name}" for name in lacking)):
        load(f"{write()}:make", **given)


def test_how_a_factorys_pictures_are_resized_can_be_given(write: Writer) -> None:
    model = load(f"{write()}:gray", size=(16, 20), mean=(0.1,), std=(0.9,), channels=1, crop_pct=0.8)
    assert model.preprocessing.resize_to == (20, 25)
    assert model.module(model.prepare([Image.new("RGB", (30, 20))]).images).shape[0] == 1
    squashed = load(f"{write()}:make", **GIVEN, resize="squash", interpolation="bicubic").preprocessing
    assert (squashed.resize, squashed.interpolation) == ("squash", "bicubic")


def test_a_factory_may_bring_its_own_preprocessing(write: Writer) -> None:
    file = write(
        """
        from torch import nn
        from whycam.models import Preprocessing

        def make():
            return nn.Flatten(), Preprocessing.for_size((12, 10), (0.2,) * 3, (0.3,) * 3, resize="squash")
        """
    )
    model = load(f"{file}:make")
    assert (model.preprocessing.size, model.preprocessing.resize) == ((12, 10), "squash")
    assert load(f"{file}:make", mean=(0.4,) * 3).preprocessing.mean == (0.4,) * 3


def test_a_factory_that_gives_a_timm_network_brings_timms_preprocessing(write: Writer) -> None:
    file = write("import timm\n\ndef make():\n    return timm.create_model('test_resnet', num_classes=3)\n")
    assert load(f"{file}:make").preprocessing == load("timm:test_resnet").preprocessing


def test_where_a_factorys_preprocessing_was_found_is_noted(write: Writer) -> None:
    file = write("import timm\n\ndef make():\n    return timm.create_model('test_resnet', num_classes=3)\n")
    assert "pretrained_cfg" in load(f"{file}:make").provenance.describe()
    assert "pretrained_cfg" not in load(f"{file}:make", **GIVEN).provenance.describe()
    assert "pretrained_cfg" not in load(f"{write(name='own.py')}:make", **GIVEN).provenance.describe()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_timm_network_for_one_channel_does_not_get_the_preprocessing_for_three(
    write: Writer, refused: Any, name: str
) -> None:
    code = f"import timm\n\ndef gray():\n    return timm.create_model('{name}', in_chans=1)\n"
    file = write(code)
    with refused(ModelError, "--size --mean --std"):
        load(f"{file}:gray")
    model = load(f"{file}:gray", size=160, mean=(0.5,), std=(0.5,))
    assert model.module(model.prepare([Image.new("RGB", (30, 20))]).images).shape == (1, 1000)


def test_a_stem_that_folds_pixels_into_channels_keeps_its_preprocessing(write: Writer) -> None:
    file = write(
        """
        from torch import nn

        def make():
            module = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1))
            module.pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
            return module
        """
    )
    assert load(f"{file}:make").preprocessing.size == (16, 16)


def test_a_timm_like_configuration_with_gaps_is_not_filled_with_imagenets_values(
    write: Writer, refused: Any
) -> None:
    file = write(
        """
        from torch import nn

        def make():
            module = nn.Flatten()
            module.pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.5, 0.5, 0.5)}
            return module
        """
    )
    with refused(ModelError, "--size --mean --std"):
        load(f"{file}:make")


def test_weights_set_the_number_of_classes_of_a_factory_that_takes_one(write: Writer, tmp_path: Path) -> None:
    file = write()
    trained = load(f"{file}:make", num_classes=11, **GIVEN).module
    torch.nn.init.constant_(trained[3].bias, 0.25)
    torch.save({"net": {f"net.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "best.pth")
    model = load(f"{file}:make", weights=tmp_path / "best.pth", **GIVEN)
    assert model.module[3].bias.tolist() == [0.25] * 11
    assert model.provenance.notes == (
        "state dict found under 'net'",
        "prefix 'net.' removed from the keys",
        "11 classes read from the weights' head",
    )


def test_a_network_that_is_already_made_is_taken_not_called(write: Writer) -> None:
    assert load(f"{write()}:ready", **GIVEN).module[3].out_features == 9


def test_the_users_code_runs_once_for_one_network(write: Writer, tmp_path: Path) -> None:
    file = write(
        """
        from pathlib import Path
        from torch import nn

        def make(num_classes=3):
            with Path(__file__).with_name("calls").open("a") as calls:
                calls.write("x")
            return nn.Linear(2, num_classes)
        """
    )
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "best.pth")
    load(f"{file}:make", weights=tmp_path / "best.pth", **GIVEN)
    assert (tmp_path / "calls").read_text() == "x"


def test_a_file_finds_its_neighbours_and_leaves_the_import_path_as_it_was(write: Writer) -> None:
    write("from torch import nn\n\nWIDTH = 7\n", "whycam_neighbour.py")
    file = write(
        """
        import whycam_neighbour
        from torch import nn

        def make():
            import whycam_neighbour as late
            return nn.Linear(late.WIDTH, whycam_neighbour.WIDTH)
        """
    )
    before = list(sys.path)
    assert load(f"{file}:make", **GIVEN).module.in_features == 7
    assert sys.path == before


def test_a_file_that_is_edited_is_loaded_again(write: Writer) -> None:
    text = "from torch import nn\n\ndef make():\n    return nn.Linear({}, 3)\n"
    assert load(f"{write(text.format(5))}:make", **GIVEN).module.in_features == 5
    assert load(f"{write(text.format(66))}:make", **GIVEN).module.in_features == 66


def test_a_module_in_the_working_folder_is_found(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whycam_test_pack").mkdir()
    write(NETWORK, "whycam_test_pack/nets.py")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load("whycam_test_pack.nets:make", **GIVEN).module[3].out_features == 4
    assert sys.path == before


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("mke", ("there is no 'mke'", "did you mean 'make'")),
        ("zzz", ("there is no 'zzz'", "it has 'make', 'fixed'")),
        ("number", ("is a int", "function")),
        ("needs", ("needs the arguments 'width', 'depth'",)),
        ("needs_classes", ("needs a number of classes", "--num-classes")),
        ("returns_a_dict", ("returned a dict", "torch.nn.Module")),
        ("fails", ("failed at my net.py:24", "ValueError: two lines")),
        ("exits", ("failed at my net.py:27", "SystemExit")),
        ("fails_in_torch", ("failed at my net.py:30", "ValueError", "nonsense")),
    ],
)
def test_what_is_wrong_in_the_users_code_is_told_in_one_line_with_its_place(
    write: Writer, factory: str, words: tuple[str, ...], refused: Any
) -> None:
    with refused(ModelError, *words):
        load(f"{write()}:{factory}", **GIVEN)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def make(:\n", ("my net.py:1", "SyntaxError")),
        ("import torch\nimport no_such_package\n", ("my net.py:2", "ModuleNotFoundError", "no_such_package")),
        ("raise SystemExit(3)\n", ("my net.py:1", "SystemExit: 3")),
        ("", ("there is no 'make'", "no functions")),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_in_one_line_and_leaves_nothing(
    write: Writer, content: str, words: tuple[str, ...], refused: Any
) -> None:
    before, path = set(sys.modules), list(sys.path)
    with refused(ModelError, *words):
        load(f"{write(content)}:make", **GIVEN)
    assert not [name for name in set(sys.modules) - before if "factory" in name and content]
    assert sys.path == path


def test_the_users_own_exception_is_kept_as_the_cause(write: Writer) -> None:
    with pytest.raises(ModelError) as caught:
        load(f"{write()}:fails", **GIVEN)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_file_that_is_not_there_is_told(refused: Any) -> None:
    with refused(ModelError, "there is no file 'nets.py'"):
        load("nets.py:make", **GIVEN)


def test_a_module_that_is_not_there_is_told(refused: Any) -> None:
    with refused(ModelError, "there is no module 'torch.no_such_part'"):
        load("torch.no_such_part:make", **GIVEN)


def test_a_number_of_classes_for_a_factory_without_one_is_refused(write: Writer, refused: Any) -> None:
    with refused(UsageError, "takes no num_classes"):
        load(f"{write()}:fixed", num_classes=3, **GIVEN)


def test_download_is_not_for_factories(write: Writer, refused: Any) -> None:
    with refused(UsageError, "no published weights"):
        load(f"{write()}:make", download=True, **GIVEN)
