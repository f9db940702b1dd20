from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.reports.made_runs import MANIFEST, failed_row, made_facts, made_row, made_run

from whycam.reports.caption import DrawnFigure, caption_text
from whycam.reports.facts import facts_of
from whycam.store import LayerRecord, MethodRecord


def panel(letter: str, run: int | None = 0, method: str | None = "gradcam", **more: Any) -> dict[str, Any]:
    return {"letter": letter, "heading": str(method), "run": run, "method": method, "target": None, **more}


def shown(name: str, reason: str = "first in the run", **more: Any) -> dict[str, Any]:
    return {"id": name, "reason": reason, "wrong": False, "notes": (), **more}


DRAWN = DrawnFigure(
    arrangement="methods",
    panels=[panel("(a)", None, None), panel("(b)"), panel("(c)", 0, "random")],
    images=[shown("0.jpg"), shown("1.jpg")],
    total=17,
    style="paper",
    colormap="inferno",
    normalise="image",
    levels=(0.5,),
    warnings=(),
)
METHODS = (MethodRecord(name="gradcam"), MethodRecord(name="random"))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Give a run by a method and a control."""
    rows = [made_row(at, method.name) for at in range(2) for method in METHODS]
    return made_facts(tmp_path_factory.mktemp("caption") / "run", rows, methods=METHODS)


def test_a_caption_says_what_is_in_each_column_and_which_are_controls(facts: list[Any]) -> None:
    text = caption_text(facts, DRAWN)
    assert text.startswith("Maps of the network 'timm:resnet18' by Grad-CAM.")
    assert "Columns: (a) the image; (b) Grad-CAM; (c) Random (uniform noise)." in text
    assert "(c) is a control that knows nothing of the network." in text
    assert "the explained layer: layer4." in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colormap": "viridis"}, "Colours (viridis)"),
        ({"normalise": "shared"}, "divided by the highest maximum of its column"),
        ({"levels": (0.3, 0.8)}, "The lines are drawn at 0.3 and 0.8."),
        ({"total": 99}, "the first two images with a map (of 99 in the run)."),
        ({"images": [shown("z.jpg", "asked for")]}, "Shown is one image of 17, chosen by name."),
        (
            {"images": [shown("0.jpg"), shown("z.jpg", "wrong prediction", wrong=True)]},
            "the first image with a map (of 17 in the run) and the wrong prediction of the highest",
        ),
        ({"images": [shown("y.jpg", wrong=True)]}, "Predicted otherwise than labelled: y.jpg."),
        ({"images": [shown("0.jpg", notes=("(b) blank",))]}, "0.jpg: (b) blank."),
        ({"warnings": ("2 columns are left out",)}, "2 columns are left out."),
    ],
)
def test_what_is_drawn_is_what_the_caption_says(facts: list[Any], changes: dict[str, Any], said: str) -> None:
    assert said in caption_text(facts, replace(DRAWN, **changes))
    assert said not in caption_text(facts, DRAWN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "class 1"}, "What the maps explain: class 1 (dog);"),
        ({"layer": LayerRecord(paths=("a", "b"), reason="given")}, "the explained layers: a and b."),
        (
            {"model": replace(MANIFEST.model, provenance="random weights: of no use")},
            "The network has random weights: the maps say nothing about any trained model.",
        ),
        ({"finish": False, "image_count": 44}, "The run was not finished: 2 of 44 images are in it."),
    ],
)
def test_what_was_run_is_what_the_caption_says(
    tmp_path: Path, facts: list[Any], changes: dict[str, Any], said: str
) -> None:
    assert said in caption_text(made_facts(tmp_path / "run", **changes), DRAWN)
    assert said not in caption_text(facts, DRAWN)


def test_failures_and_blank_maps_are_said(tmp_path: Path) -> None:
    rows = [made_row(0), made_row(1, blank=True), failed_row(2)]
    text = caption_text(made_facts(tmp_path / "run", rows), DRAWN)
    assert (
        "One image could not be explained and is left out; one map is zero everywhere (1 of Grad-CAM)" in text
    )


def test_columns_of_checkpoints_name_their_weights(tmp_path: Path) -> None:
    models = [
        replace(MANIFEST.model, provenance=f"weights of {name}.pth", weights_sha256=mark * 32)
        for name, mark in (("first", "ab"), ("last", "cd"))
    ]
    runs = [made_run(tmp_path / str(at), [made_row(0)], model=model) for at, model in enumerate(models)]
    panels = [
        panel("(a)", None, None),
        panel("(b)", 0, heading="epoch 1"),
        panel("(c)", 1, heading="epoch 9"),
    ]
    text = caption_text(facts_of(runs), replace(DRAWN, arrangement="checkpoints", panels=panels))
    assert "Maps of two sets of weights of the network 'timm:resnet18' by Grad-CAM." in text
    assert "(c) epoch 9, weights of last.pth (SHA-256 cdcdcdcdcdcd)." in text


def test_columns_of_targets_are_called_by_them(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / str(at), [made_row(0)], target=f"class {at}") for at in range(2)]
    panels = [panel("(a)", None, None), panel("(b)", 0, heading="cat"), panel("(c)", 1, heading="dog")]
    text = caption_text(facts_of(runs), replace(DRAWN, arrangement="classes", panels=panels))
    assert "for two targets by Grad-CAM. Columns: (a) the image; (b) cat; (c) dog." in text
    assert "In run 1: What the maps explain: class 1 (dog);" in text
