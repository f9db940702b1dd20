"""The manifest: to JSON and back, versions, and whether two calls make the same run."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whycam.errors import RunError
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Resumption, read_run
from whycam.store.folder import RunFolder
from whycam.store.manifest import check_same_run, dump_document, read_document, utc_now

TEXT = st.text(max_size=20) | st.just(b"caf\xe9".decode("utf-8", "surrogateescape"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def any_manifest(draw: st.DrawFn) -> Callable[[], Manifest]:
    """What makes a manifest; made in the test, as the type checks draw random numbers of their own."""
    texts = st.lists(TEXT, max_size=3).map(tuple)
    versions = st.dictionaries(TEXT, TEXT, max_size=2)
    known = draw(
        st.fixed_dictionaries(
            {
                "command": texts,
                "versions": versions,
                "device": TEXT,
                "seed": st.none() | st.integers(),
                "preprocessing": st.dictionaries(TEXT, JSON, max_size=3),
                "class_names": st.none() | texts,
                "target": TEXT,
                "sources": texts,
                "image_count": st.integers(0),
                "style": st.dictionaries(TEXT, JSON, max_size=2),
                "settings": st.dictionaries(TEXT, JSON, max_size=2),
                "failures": st.integers(0),
                "finished": st.booleans(),
            }
        )
    )
    model = draw(st.tuples(TEXT, TEXT, st.none() | TEXT))
    methods = draw(st.dictionaries(TEXT, st.dictionaries(TEXT, JSON, max_size=2), max_size=2))
    layer = draw(st.none() | st.tuples(texts, TEXT))
    resumed = draw(st.lists(st.tuples(TEXT, texts, versions, TEXT), max_size=2))
    return lambda: Manifest(
        **known,
        model=ModelRecord(reference=model[0], provenance=model[1], weights_sha256=model[2]),
        methods=tuple(MethodRecord(name=name, parameters=values) for name, values in methods.items()),
        layer=None if layer is None else LayerRecord(paths=layer[0], reason=layer[1]),
        resumed=tuple(Resumption(time=t, command=c, versions=v, device=d) for t, c, v, d in resumed),
    )


def put(folder: Path, content: bytes | object) -> RunFolder:
    folder.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "manifest.json").write_bytes(data)
    return RunFolder(folder)


@settings(max_examples=60)
@given(any_manifest())
def test_a_manifest_comes_back_from_its_file(make: Callable[[], Manifest]) -> None:
    manifest = make()
    data = dump_document(manifest.to_document())
    data.decode("utf-8", "strict")
    assert Manifest.from_document(json.loads(data)) == manifest


def test_tuples_and_numpy_numbers_in_the_settings_become_plain_json(
    make_manifest: Callable[..., Manifest],
) -> None:
    manifest = make_manifest(preprocessing={"mean": (np.float32(0.5), 1), "size": np.int64(224)})
    assert manifest.to_document()["preprocessing"] == {"mean": [0.5, 1], "size": 224}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2}, {3}, b"x", Path("x")])
def test_a_value_that_json_lacks_is_refused_with_its_place(
    make_manifest: Callable[..., Manifest], value: object
) -> None:
    with pytest.raises(RunError, match=r"preprocessing\.steps\[1\]"):
        make_manifest(preprocessing={"steps": [1, value]}).to_document()


def test_class_names_in_any_script_are_readable_in_the_file(make_manifest: Callable[..., Manifest]) -> None:
    assert "犬".encode() in dump_document(make_manifest().to_document())


def test_the_documented_keys_are_in_the_file(make_manifest: Callable[..., Manifest]) -> None:
    document = make_manifest().to_document()
    assert set(document) == {
        *("schema_version", "created", "command", "versions", "device", "seed", "model", "preprocessing"),
        *("class_names", "methods", "target", "layer", "sources", "image_count", "failures", "finished"),
        *("style", "settings", "resumed"),
    }
    assert document["model"] == {
        "reference": "timm:resnet18",
        "provenance": "random weights",
        "weights_sha256": "ab" * 32,
    }


def test_the_time_is_utc_in_iso_8601() -> None:
    assert len(utc_now()) == len("2025-01-31T12:00:00Z")
    assert utc_now().endswith("Z")


def test_unknown_keys_of_a_later_minor_version_are_passed_over(
    tmp_path: Path, make_manifest: Callable[..., Manifest]
) -> None:
    document: dict[str, Any] = make_manifest().to_document()
    document |= {"schema_version": "1.9", "energy": {"joule": 3}}
    document["model"] = {**document["model"], "licence": "MIT"}
    put(tmp_path / "run", document)
    manifest = read_run(tmp_path / "run").manifest
    assert manifest.schema_version == "1.9"
    assert manifest.model == make_manifest().model


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.0", r"schema version 2\.0; this whycam reads 1\.x; install a newer whycam"),
        ("0.3", r"schema version 0\.3; this whycam reads 1\.x; install the whycam that wrote it"),
        ("1", "schema_version is '1'; expected text such as"),
        (1.0, r"schema_version is 1\.0; expected text such as"),
        (None, "schema_version is None"),
        ("9" * 5000 + ".0", "schema_version is '9999"),
    ],
)
def test_another_major_version_is_refused_in_one_line(
    tmp_path: Path, make_manifest: Callable[..., Manifest], version: object, expected: str
) -> None:
    put(
        tmp_path / "run",
        make_manifest().to_document() | {"schema_version": version, "model": "from the future"},
    )
    with pytest.raises(RunError, match=expected) as caught:
        read_run(tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"[]", b"null", b'{"schema_version": "1.0"}', b"\x00" * 100],
)
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "run", content)
    with pytest.raises(RunError, match=r"manifest\.json") as caught:
        read_run(tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1


WRONG: dict[str, Any] = {
    "command": "whycam explain",
    "versions": {"torch": 2},
    "device": 0,
    "seed": True,
    "model": "timm:resnet18",
    "preprocessing": [],
    "class_names": [1],
    "methods": ["gradcam"],
    "target": None,
    "layer": {"paths": "layer4", "reason": ""},
    "sources": None,
    "image_count": 1.5,
    "style": "inferno",
    "settings": None,
    "failures": "none",
    "finished": 1,
    "resumed": [{}],
    "created": 0,
}


@pytest.mark.parametrize("key", [field.name for field in fields(Manifest) if field.name != "schema_version"])
def test_a_key_that_is_missing_or_of_another_type_is_named(
    make_manifest: Callable[..., Manifest], key: str
) -> None:
    document = make_manifest().to_document()
    with pytest.raises(RunError, match=f"'{key}.*expected"):
        Manifest.from_document(document | {key: WRONG[key]})
    del document[key]
    with pytest.raises(RunError, match=f"lacks '{key}'; expected"):
        Manifest.from_document(document)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"model": ModelRecord(reference="timm:vit", provenance="", weights_sha256="ab" * 32)},
            "model.reference was 'timm:resnet18', now 'timm:vit'",
        ),
        (
            {"model": ModelRecord(reference="timm:resnet18", provenance="", weights_sha256="cd" * 32)},
            "model.weights_sha256 was 'abab",
        ),
        ({"methods": (MethodRecord(name="gradcam"),)}, "methods was"),
        (
            {
                "methods": (
                    MethodRecord(name="gradcam"),
                    MethodRecord(name="layercam", parameters={"scale": 3}),
                )
            },
            "methods[1].parameters.scale was 2, now 3",
        ),
        ({"target": "class 3"}, "target was 'top class', now 'class 3'"),
        ({"layer": LayerRecord(paths=("layer3",), reason="")}, "layer.paths[0] was 'layer4', now 'layer3'"),
        ({"layer": None}, "layer.paths was ['layer4'], now None"),
        (
            {"preprocessing": {"mean": (0.5, 0.25), "size": {"height": 96, "width": 224}}},
            "preprocessing.size.height was 224, now 96",
        ),
        ({"preprocessing": {"mean": (0.5, 0.25)}}, "preprocessing.size was"),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"style": {"colormap": "jet"}}, "style.colormap was 'inferno', now 'jet'"),
        ({"sources": ("cats/*.jpg",)}, "sources[0] was 'cats', now 'cats/*.jpg'"),
    ],
)
def test_another_setting_is_another_run_and_is_named(
    make_manifest: Callable[..., Manifest], change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RunError) as caught:
        check_same_run(make_manifest().to_document(), make_manifest(**change).to_document(), "run")
    assert expected in str(caught.value)
    assert "resume with the same ones, or choose another --out" in str(caught.value)


def test_every_difference_is_named_at_once(make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(RunError, match=r"target was .*; seed was "):
        check_same_run(make_manifest().to_document(), make_manifest(target="a", seed=1).to_document(), "run")


def test_another_machine_time_and_batch_size_are_the_same_run(
    make_manifest: Callable[..., Manifest],
) -> None:
    other = make_manifest(
        device="cuda:0", created="2031-01-01T00:00:00Z", versions={}, settings={"batch_size": 3}
    )
    check_same_run(make_manifest().to_document(), other.to_document(), "run")


def test_a_setting_read_from_the_file_equals_the_one_that_was_written(
    tmp_path: Path, make_manifest: Callable[..., Manifest]
) -> None:
    folder = put(tmp_path / "run", dump_document(make_manifest().to_document()))
    check_same_run(read_document(folder), make_manifest().to_document(), "run")
