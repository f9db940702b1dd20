import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.reports.made_runs import MANIFEST, failed_row, made_facts, made_row, made_run

from whycam.errors import RunError
from whycam.methods import METHODS, FirstComponent, FlipAverage, NoiseAverage, ScaleAverage
from whycam.reports.facts import facts_of
from whycam.reports.methods_text import citation_keys, methods_text
from whycam.reports.preprocessing_text import preprocessing_text
from whycam.reports.wording import CONTROLS, WORDS
from whycam.store import LayerRecord, MethodRecord, ModelRecord, Resumption

ALL = tuple(MethodRecord(name=name, parameters=method.parameters) for name, method in METHODS.items())


def text_of(folder: Path, **changes: Any) -> str:
    return methods_text(made_facts(folder, **changes))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the text of a run with nothing unusual."""
    return text_of(tmp_path_factory.mktemp("usual") / "run")


def test_every_method_has_its_words_and_every_control_is_called_one() -> None:
    assert set(WORDS) == set(METHODS)
    assert set(CONTROLS) == {name for name, method in METHODS.items() if method.kind == "control"}


def test_no_two_methods_are_said_to_do_the_same() -> None:
    assert len({words.does for words in WORDS.values()}) == len(WORDS)
    assert len({words.title for words in WORDS.values()}) == len(WORDS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": replace(MANIFEST.model, reference="timm:vgg16")}, "'timm:vgg16'"),
        ({"model": replace(MANIFEST.model, weights_sha256="cd" * 32)}, "(SHA-256 cdcdcdcdcdcd)"),
        ({"model": replace(MANIFEST.model, provenance="weights of other.pth")}, "weights of other.pth"),
        ({"preprocessing": {**MANIFEST.preprocessing, "mean": [0.5, 0.5, 0.5]}}, "mean 0.5;"),
        ({"preprocessing": {**MANIFEST.preprocessing, "size": [200, 201]}}, "200 x 201 pixels"),
        ({"preprocessing": {**MANIFEST.preprocessing, "interpolation": "lanczos"}}, "lanczos interpolation"),
        ({"preprocessing": {**MANIFEST.preprocessing, "channel_order": "bgr"}}, "blue, green, red"),
        ({"preprocessing": {}}, "was not recorded"),
        (
            {"layer": LayerRecord(paths=("layer3",), reason="given with --layer")},
            "layer3 (given with --layer)",
        ),
        ({"target": "class 2"}, "The maps explain the score of class 2 (犬)."),
        ({"target": "class 0 rather than class 1"}, "class 0 (cat) rather than class 1 (dog)"),
        ({"seed": 12345}, "12345"),
        ({"device": "cpu"}, "on the CPU"),
        ({"versions": {"torch": "9.9.9"}}, "PyTorch 9.9.9 [@paszke2019pytorch]"),
        ({"methods": (MethodRecord(name="rise", parameters={"masks": 321}),)}, "(masks = 321)"),
        ({"methods": (MethodRecord(name="own"),)}, "'own' is not one of whycam's own"),
        ({"finish": False, "image_count": 917}, "so far, of 917 planned: the run is not finished"),
    ],
)
def test_what_the_manifest_says_is_what_the_text_says(
    tmp_path: Path, usual: str, changes: dict[str, Any], said: str
) -> None:
    assert said in text_of(tmp_path / "run", **changes)
    assert said not in usual


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ("random weights: the maps say nothing; pass --weights FILE", "The network has random weights"),
        ("partly random weights: 100 of 102 loaded; weights of a.pth", "100 of 102 loaded; the rest"),
        (
            "weights as net.py:make made them (SHA-256 abababababab): whether they are trained is not known; "
            "pass --weights FILE to load some",
            "Whether the network's weights are trained is not known.",
        ),
    ],
)
def test_doubtful_weights_are_said_without_advice_to_the_user(
    tmp_path: Path, usual: str, provenance: str, said: str
) -> None:
    text = text_of(tmp_path / "run", model=replace(MANIFEST.model, provenance=provenance))
    assert said in text
    assert "pass --weights" not in text
    assert said not in usual


def test_every_number_in_the_text_is_one_of_the_manifest_or_counted_in_the_rows(tmp_path: Path) -> None:
    methods = tuple(replace(method, parameters={**method.parameters, "odd": 0.375}) for method in ALL)
    rows = [made_row(index, method.name) for index in range(2) for method in methods]
    text = methods_text(made_facts(tmp_path / "run", rows, methods=methods))
    manifest = json.dumps((tmp_path / "run" / "manifest.json").read_text())
    counted = {"2", "3", "4"}  # images and labels; cells
    constants = {"0", "1", "256"}  # the range of pixels; the hash's name
    found = set(re.findall(r"\d+(?:\.\d+)*", re.sub(r"\[@[^]]*\]|SHA-256 \w+", "", text)))
    assert {number for number in found if number not in manifest} <= counted | constants
    assert text.count("odd = 0.375") == len(METHODS)


def test_software_is_the_runs_and_not_this_machines(usual: str) -> None:
    assert "PyTorch 2.3.72" in usual
    assert "whycam 0.0.71" in usual
    assert torch.__version__.split("+")[0] not in usual


def test_other_software_of_a_resumption_is_said_and_the_same_is_not(tmp_path: Path) -> None:
    same = Resumption(time="", command=(), versions=MANIFEST.versions, device=MANIFEST.device)
    other = replace(same, versions={**MANIFEST.versions, "torch": "2.9.1"}, device="cpu")
    assert "taken up again" not in text_of(tmp_path / "same", resumed=(same,))
    assert "taken up again with torch 2.9.1 and cpu" in text_of(tmp_path / "other", resumed=(same, other))


@pytest.mark.parametrize(
    ("smoothing", "said"),
    [
        (FlipAverage(), "All maps were averaged over the image and its mirror image."),
        (NoiseAverage(n=9), "[@smilkov2017smoothgrad] (n = 9, sigma = 0.15, seed = 0)"),
        (ScaleAverage(), "(factors = (0.9, 1.0, 1.1))"),
        (FirstComponent(), "All maps were reduced to the first principal direction"),
    ],
)
def test_a_smoothing_is_said_in_words_and_cited(tmp_path: Path, smoothing: object, said: str) -> None:
    record = MethodRecord(name="gradcam", parameters={"smoothing": repr(smoothing)})
    facts = made_facts(tmp_path / "run", methods=(record,))
    assert said in methods_text(facts)
    assert isinstance(smoothing, NoiseAverage) == ("smilkov2017smoothgrad" in citation_keys(facts))


def test_controls_come_last_and_are_called_controls(tmp_path: Path) -> None:
    names = ("random", "gradcam", "edges")
    methods = tuple(MethodRecord(name=name, parameters=METHODS[name].parameters) for name in names)
    rows = [made_row(0, name) for name in names]
    text = methods_text(made_facts(tmp_path / "run", rows, methods=methods))
    assert "computed for comparison: random (uniform noise; seed = 0) and edges (" in text
    assert text.index("Grad-CAM [@") < text.index("computed for comparison")


def test_failures_blank_maps_and_right_predictions_are_counted(tmp_path: Path) -> None:
    rows = [
        made_row(0),
        made_row(1, prediction=1, prediction_name="dog"),
        made_row(2, label=None, blank=True),
        failed_row(3),
    ]
    text = methods_text(made_facts(tmp_path / "run", rows))
    assert "Three images were explained; 1 of the 2 that have a label were predicted as labelled." in text
    assert "One image could not be explained and is left out; one map is zero everywhere" in text


def test_methods_at_other_places_than_the_layer_are_said(tmp_path: Path) -> None:
    methods = (MethodRecord(name="gradcam"), MethodRecord(name="gradient"))
    rows = [made_row(0), made_row(0, "gradient", layer="input")]
    text = methods_text(made_facts(tmp_path / "run", rows, methods=methods))
    assert "Grad-CAM looks at layer4; The gradient looks at the input itself." in text


def test_a_run_of_the_input_alone_names_no_layer(tmp_path: Path) -> None:
    layer = LayerRecord(paths=("input",), reason="the method looks at the input itself, and at no layer")
    text = methods_text(made_facts(tmp_path / "run", [made_row(0, layer="input")], layer=layer))
    assert "The method looks at the input itself, and at no layer." in text
    assert "explained layer" not in text


def test_runs_that_differ_in_weights_are_compared_and_what_they_share_is_said_once(tmp_path: Path) -> None:
    other = ModelRecord(reference="timm:resnet18", provenance="weights of last.pth", weights_sha256="cd" * 32)
    runs = [
        made_run(tmp_path / "best", [made_row(0)]),
        made_run(tmp_path / "last", [made_row(0)], model=other),
    ]
    text = methods_text(facts_of(runs))
    assert "Two runs are compared: best and last. They differ in the network's weights." in text
    assert "In run best: The explained network was 'timm:resnet18'" in text
    assert "weights of last.pth (SHA-256 cdcdcdcdcdcd)" in text
    assert text.count("Images were resized") == 1
    assert text.count("Grad-CAM [@") == 1


def test_runs_that_differ_in_their_target_say_so(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / "a", [made_row(0)], target="class 0"),
        made_run(tmp_path / "b", [made_row(0)], target="class 1"),
    ]
    text = methods_text(facts_of(runs))
    assert "They differ in what is explained." in text
    assert "In run b: The maps explain the score of class 1 (dog)." in text


def test_runs_in_folders_of_one_name_are_told_apart_by_those_above(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name / "run", [made_row(0)]) for name in ("a", "b")]
    assert [facts.name for facts in facts_of(runs)] == ["a/run", "b/run"]


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [made_row(0)])
    with pytest.raises(RunError, match="given twice"):
        facts_of([run, run])


def test_a_run_without_a_map_is_refused_with_its_first_error(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [failed_row(0)])
    with pytest.raises(RunError, match=r"1 images, all with an error; the first: the file is cut off"):
        facts_of([run])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"resize": "longest"},
            "so that they fit into 256 x 219 pixels (bicubic interpolation), padded with",
        ),
        ({"resize": "squash", "resize_to": [224, 192]}, "without regard to their aspect (bicubic"),
        ({"resize": "keep"}, "Images were not resized, cropped at the centre"),
        ({"resize": "bounded"}, "shorter edge of 219 pixels, or less where the longer edge would exceed 256"),
        ({"resize": "bounded", "side_multiple": 32}, "rounded up to a multiple of 32"),
        ({"antialias": False}, "bicubic interpolation, without antialiasing"),
        ({"channels": 1}, "reduced to one channel of luma"),
        ({"resize": "new"}, "The recorded preprocessing of the images is size: 224, 192;"),
    ],
)
def test_every_kind_of_preprocessing_is_said(changes: dict[str, Any], said: str) -> None:
    assert said in preprocessing_text({**MANIFEST.preprocessing, **changes})


def test_a_squash_to_the_views_own_size_is_not_called_a_crop() -> None:
    text = preprocessing_text({**MANIFEST.preprocessing, "resize": "squash", "resize_to": [224, 192]})
    assert "cropped" not in text
