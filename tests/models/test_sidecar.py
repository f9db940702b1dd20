"""A preprocessing file of one's own: read as it says, or refused in one line that says where."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whycam.errors import UsageError, WhycamError
from whycam.models import Preprocessing, load
from whycam.models.sidecar import KEYS, read_sidecar, sidecar_text

NEEDED = "size: [64, 96]\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n"


def _file(folder: Path, text: str | bytes, name: str = "prep.yaml") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_what_is_needed_is_size_mean_and_std(tmp_path: Path) -> None:
    found = read_sidecar(_file(tmp_path, NEEDED))
    assert found.preprocessing == Preprocessing.for_size((64, 96), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert found.class_names is None
    assert found.note.startswith("preprocessing of prep.yaml (SHA-256 ")


def test_every_key_is_heeded(tmp_path: Path) -> None:
    text = (
        "# of my training\nsize: 32\nmean: 0.5\nstd: 0.25\nresize: longest\nresize_to: [40, 41]\n"
        "interpolation: bicubic\nchannels: 1\nfill: 7\nantialias: false\ncrop: center\n"
        "class_names:\n- 猫\n- 'no'\n"
    )
    found = read_sidecar(_file(tmp_path, text))
    expected = Preprocessing(
        (32, 32), "longest", (40, 41), "bicubic", (0.5,), (0.25,), 1, "center", (7,), False
    )
    assert found.preprocessing == expected
    assert found.class_names == ("猫", "no")


def test_a_crop_share_is_as_on_the_command_line(tmp_path: Path) -> None:
    found = read_sidecar(_file(tmp_path, NEEDED + "crop_pct: 0.8\nresize: squash\n")).preprocessing
    assert (found.resize_to, found.resize) == ((80, 120), "squash")


@pytest.mark.parametrize(
    "config",
    [
        {"image_processor_type": "YolosImageProcessor", "size": {"shortest_edge": 96, "longest_edge": 128}},
        {"image_processor_type": "MobileViTImageProcessor", "size": 64, "do_flip_channel_order": True},
    ],
)
def test_what_a_manifest_keeps_of_transformers_may_be_given_back(
    config: dict[str, Any], tmp_path: Path
) -> None:
    own = Preprocessing.from_hf({**config, "image_mean": 0.5, "image_std": 0.5})
    assert read_sidecar(_file(tmp_path, json.dumps(own.to_dict()))).preprocessing == own


def test_what_a_manifest_keeps_may_be_given_back(tmp_path: Path) -> None:
    own = Preprocessing.for_size((40, 33), (0.5,) * 3, (0.2,) * 3, resize="longest", crop_pct=0.9)
    assert read_sidecar(_file(tmp_path, json.dumps(own.to_dict()))).preprocessing == own


BOMB = "a: &a [1, 1]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size: [1, 2\nmean: 3\n", ("is broken at line 2",)),
        ("size: 224\n\tmean: 1\n", ("is broken at line 2",)),
        (b"size: \x01\n", ("is broken",)),
        (b"size: \xff\n", ("not UTF-8", "byte 6")),
        (BOMB, ("an anchor or an alias", "line 1")),
        (NEEDED + "fill: *x\n", ("an anchor or an alias", "line 4")),
        ("size: !!python/object/apply:os.mkdir ['MARKER']\n", ("a tag", "line 1")),
        (NEEDED + "---\n" + NEEDED, ("a second document", "line 4")),
        ("[" * 100_000, ("lists in lists", "line 1")),
        ("", ("holds no keys",)),
        ("- 1\n", ("holds no keys",)),
        (NEEDED + "means: 1\n", ("unknown key 'means' at line 4", "did you mean 'mean'", "'class_names'")),
        (NEEDED + "mean: 0.5\n", ("'mean' twice, at lines 2 and 4",)),
        ("mean: 0.5\n", ("lacks 'size', 'std'",)),
        (NEEDED + "crop_pct: 0.8\nresize_to: 80\n", ("both 'resize_to' and 'crop_pct'",)),
        (NEEDED + "crop_pct: 9\n", ("crop_pct is 9.0", "up to 2")),
        (NEEDED + "crop_pct: half\n", ("'crop_pct' is 'half'", "a number")),
        (NEEDED + "resize: stretch\n", ("'stretch'", "'squash'")),
        (NEEDED + "interpolation: cubic\n", ("'cubic'", "'bicubic'")),
        (NEEDED + "interpolation: 3\n", ("interpolation is '3'", "'bicubic'")),
        (NEEDED + "channels: 1\n", ("'mean' has 3 value(s); expected 1",)),
        (NEEDED + "channels: three\n", ("'channels' is 'three'",)),
        (NEEDED + "fill: [0, 0]\n", ("'fill' has 2 value(s); expected 3",)),
        (NEEDED + "fill: [0.5, 0, 0]\n", ("'fill'", "whole numbers")),
        (NEEDED + "antialias: maybe\n", ("'antialias' is 'maybe'",)),
        (NEEDED + "crop: five\n", ("crop is 'five'",)),
        (NEEDED + "class_names: [cat, no]\n", ("has False for class 1", "quotes")),
        (NEEDED + "class_names: cat\n", ("a list of names",)),
        (NEEDED + "class_names: [2024-13-45]\n", ("cannot be read",)),
        (NEEDED.replace("[0.5, 0.4, 0.3]", "[123.7, 116.3, 103.5]"), ("divide", "255")),
        (NEEDED.replace("[0.5, 0.4, 0.3]", "[.nan, 0, 0]"), ("'mean'", "expected numbers")),
        (NEEDED.replace("[64, 96]", "[64.0, 96]"), ("'size'", "[height, width]")),
        (NEEDED.replace("[64, 96]", "0"), ("'size' is 0",)),
        ("x" * (2**20 + 1), ("larger than 1 MiB",)),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(
    tmp_path: Path, text: str | bytes, words: tuple[str, ...], refused: Any
) -> None:
    marker = tmp_path / "marker"
    if isinstance(text, str):
        text = text.replace("MARKER", str(marker))
    with refused(UsageError, "preprocessing file 'prep.yaml'", *words):
        read_sidecar(_file(tmp_path, text))
    assert not marker.exists()


def test_what_is_no_file_is_one_line(tmp_path: Path, refused: Any) -> None:
    with refused(UsageError, "'prep.yaml' cannot be read", "check the path"):
        read_sidecar(tmp_path / "prep.yaml")
    with refused(UsageError, "no regular file"):
        read_sidecar(tmp_path)


@given(st.one_of(st.binary(max_size=60), st.text("[]{}&*!:-? \n\t'\"#%@|>ab01.", max_size=60)))
def test_any_content_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    file = _file(tmp_path_factory.getbasetemp(), content, "any.yaml")
    with pytest.raises(WhycamError) as caught:
        read_sidecar(file)
    assert str(caught.value).isprintable()


def test_load_takes_it_in_place_of_the_networks_own_and_says_so(tmp_path: Path) -> None:
    file = _file(tmp_path, NEEDED.replace("[64, 96]", "160") + "class_names: [a, b, c]\n")
    for place in (file, str(file)):
        model = load("timm:test_resnet", num_classes=3, preprocessing=place)
        assert model.preprocessing == read_sidecar(file).preprocessing
        assert model.class_names == ("a", "b", "c")
        assert model.provenance.notes[-1] == read_sidecar(file).note


def test_one_channel_makes_a_network_of_one_channel(tmp_path: Path) -> None:
    file = _file(tmp_path, "size: 160\nmean: 0.5\nstd: 0.2\n")
    model = load("timm:test_resnet", preprocessing=file)
    assert next(model.module.parameters()).shape[1] == 1


def test_it_clashes_with_single_values_and_with_other_class_names(tmp_path: Path, refused: Any) -> None:
    file = _file(tmp_path, NEEDED.replace("[64, 96]", "160") + "class_names: [a, b, c]\n")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    with refused(UsageError, "together with single values"):
        load("timm:test_resnet", preprocessing=file, size=160)
    with refused(UsageError, "class names are in both"):
        load("timm:test_resnet", num_classes=3, preprocessing=file, classes=tmp_path / "names.txt")
    with refused(UsageError, "names 3 classes; expected 5"):
        load("timm:test_resnet", num_classes=5, preprocessing=file)


def test_one_beside_the_weights_is_not_picked_up(tmp_path: Path) -> None:
    import torch

    torch.save(load("timm:test_resnet").module.state_dict(), tmp_path / "best.pth")
    _file(tmp_path, NEEDED, "best.yaml")
    model = load("timm:test_resnet", weights=tmp_path / "best.pth")
    assert model.preprocessing == load("timm:test_resnet").preprocessing


def test_the_keys_are_those_of_a_preprocessing_and_what_goes_with_a_checkpoint() -> None:
    own = Preprocessing.for_size((4, 4), (0.5,), (0.5,)).to_dict()
    assert set(KEYS) == {*own, "crop_pct", "class_names", "whycam", "model", "training"}


PREPROCESSING = Preprocessing.for_size((32, 48), (0.5, 0.25, 0.125), (0.2, 0.3, 0.4), crop_pct=0.875)
NAMES = ("no", "猫", "null", "1e3", "a: b # c", "- x", "'quoted\"")


def _trained(folder: Path, model: str = "timm:test_resnet") -> Path:
    import torch

    module = load("timm:test_resnet", num_classes=len(NAMES)).module
    torch.save(module.state_dict(), folder / "model-3.pth")
    text = sidecar_text(
        model=model,
        preprocessing=PREPROCESSING,
        class_names=NAMES,
        training={"seed": 7, "shares": (0.5, 0.5)},
    )
    _file(folder, text, "model-3.yaml")
    return folder / "model-3.pth"


@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1
    ),
    seed=st.integers(),
)
def test_what_training_writes_is_read_again(names: list[str], seed: int) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        text = sidecar_text(
            model="timm:x", preprocessing=PREPROCESSING, class_names=names, training={"seed": seed}
        )
        found = read_sidecar(_file(Path(folder), text))
    assert (found.preprocessing, found.model, found.training) == (PREPROCESSING, "timm:x", {"seed": seed})
    assert found.class_names == tuple(names)


def test_a_trained_checkpoint_needs_no_flags(tmp_path: Path) -> None:
    weights = _trained(tmp_path)
    for model in (load(str(weights)), load("timm:test_resnet", weights=weights)):
        assert (model.reference, model.class_names) == ("timm:test_resnet", NAMES)
        assert model.preprocessing == PREPROCESSING
        assert model.provenance.kind == "file"
        assert any("preprocessing of model-3.yaml" in note for note in model.provenance.notes)


def test_what_the_caller_says_goes_before_what_training_wrote(tmp_path: Path) -> None:
    weights = _trained(tmp_path)
    classes = _file(tmp_path, "\n".join("abcdefg"), "names.txt")
    sized = load(str(weights), size=64, classes=classes)
    assert sized.preprocessing == PREPROCESSING.with_size((64, 64))
    assert sized.class_names == tuple("abcdefg")
    own = load(str(weights), preprocessing=_file(tmp_path, NEEDED))
    assert own.preprocessing == Preprocessing.for_size((64, 96), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    given = Preprocessing.for_size((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert load(str(weights), preprocessing=given, classes=classes).preprocessing == given


def test_weights_that_nothing_tells_of_are_refused_in_the_models_place(tmp_path: Path) -> None:
    weights = _trained(tmp_path)
    (tmp_path / "model-3.yaml").unlink()
    with pytest.raises(WhycamError, match=r"'model-3.pth' is a weights file, and no model-3.yaml"):
        load(str(weights))


def test_code_that_a_checkpoint_names_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemError('it ran')\ndef make():\n    pass\n")
    weights = _trained(tmp_path, f"{tmp_path / 'evil.py'}:make")
    with pytest.raises(WhycamError, match="whose code would be run; where you trust it"):
        load(str(weights))


def test_a_broken_one_of_training_is_refused(tmp_path: Path) -> None:
    weights = _trained(tmp_path)
    text = (tmp_path / "model-3.yaml").read_text(encoding="utf-8")
    for broken in (text[:20], text.replace("mean:", "mena:"), text.replace("training:", "training: 7 #")):
        _file(tmp_path, broken, "model-3.yaml")
        with pytest.raises(UsageError, match=r"preprocessing file 'model-3\.yaml'"):
            load(str(weights))
