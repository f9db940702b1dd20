"""Checkpoints of a folder are ranked on images that are read once; what cannot be ranked is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tests.selection.conftest import CLASSES, MODEL, PREPROCESSING, fill, save, state

from whycam import selection as selection_room
from whycam.data import read_image, read_labelled
from whycam.errors import ModelError, RunError, UsageError, WeightsError
from whycam.models import load
from whycam.models.sidecar import sidecar_path
from whycam.selection import Selection, SelectRequest, select_checkpoints

Ask = Callable[..., SelectRequest]


def names(selection: Selection) -> list[str]:
    return [one.name for one in selection.ranking.results]


def without_times(selection: Selection) -> list[Any]:
    return [
        (one.name, one.number, one.sha256, one.score.correct, one.score.loss, one.score.macro_f1)
        for one in selection.ranking.results
    ]


def test_each_checkpoint_has_the_figures_of_its_own_model(ask: Ask, weights: Path, data: Path) -> None:
    selection = select_checkpoints(ask())
    items = read_labelled(data).split("val")
    labels = np.array(read_labelled(data).class_indices("val"))
    views = torch.stack([PREPROCESSING.apply(read_image(item.path).image)[0] for item in items])
    assert sorted(names(selection)) == ["model-1.pth", "model-10.pth", "model-2.pth"]
    for one in selection.ranking.results:
        with torch.no_grad():
            logits = load(str(weights / one.name)).module(views).double()
        predicted = logits.argmax(1).numpy()
        assert one.score.accuracy == accuracy_score(labels, predicted)
        assert one.score.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        assert one.score.loss == pytest.approx(float(loss), rel=1e-5)
    assert selection.warnings == ()
    assert len({one.score.loss for one in selection.ranking.results}) == 3


def test_images_are_read_once_for_all_checkpoints_and_the_network_is_built_once(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, built = [], []

    def counted(path: Path, **options: Any) -> Any:
        read.append(path)
        return read_image(path, **options)

    def counted_load(reference: str, **options: Any) -> Any:
        built.append(reference)
        return load(reference, **options)

    monkeypatch.setattr("whycam.selection.views.read_image", counted)
    monkeypatch.setattr("whycam.selection.network.load", counted_load)
    assert len(select_checkpoints(ask()).ranking.results) == 3
    assert len(read) == len(set(read)) == 24
    assert built == [MODEL]


def test_views_on_the_disk_give_the_same_ranking(ask: Ask, tmp_path: Path) -> None:
    inside = select_checkpoints(ask())
    outside = select_checkpoints(ask(memory=0, folder=tmp_path / "other"))
    assert (inside.kept_in, outside.kept_in) == ("memory", "disk")
    assert without_times(inside) == without_times(outside)
    assert {path.name for path in (tmp_path / "other").iterdir()} == {
        "images.csv",
        "ranking.csv",
        "ranking.json",
        "results",
    }


def test_a_tie_goes_to_the_lower_loss_then_to_the_earlier(ask: Ask, weights: Path) -> None:
    drawn = state(1)
    sharper = {key: value * 3 if key.startswith("fc.") else value for key, value in drawn.items()}
    for number, values in ((1, drawn), (2, sharper), (10, drawn)):
        save(weights / f"model-{number}.pth", values)
    selection = select_checkpoints(ask())
    losses = {one.name: one.score.loss for one in selection.ranking.results}
    order = ["model-1.pth", "model-10.pth"]
    sharper_first = losses["model-2.pth"] < losses["model-1.pth"]
    assert names(selection) == (["model-2.pth", *order] if sharper_first else [*order, "model-2.pth"])
    (tie,) = selection.ranking.ties
    assert tie.names == tuple(names(selection))


def test_what_cannot_be_ranked_is_skipped_with_the_reason(ask: Ask, weights: Path) -> None:
    (weights / "model-3.pth").write_bytes(b"")
    whole = (weights / "model-1.pth").read_bytes()
    (weights / "model-4.pth").write_bytes(whole[: len(whole) // 2])
    save(weights / "model-5.pth", state(5, classes=4))
    diverged = state(6)
    diverged["fc.bias"][0] = torch.nan
    save(weights / "model-6.pth", diverged)
    (weights / "model-7.pth").mkdir()
    save(weights / "model-8.pth", state(8), class_names=("a", "b", "c"))
    save(weights / "model-9.pth", state(9), model="timm:resnet18")
    torch.save({"model": state(11), "what": print}, weights / "model-11.pth")
    sidecar_path(save(weights / "model-12.pth", state(12))).write_text("whycam: 1\nsize: [")
    torch.save(state(13), weights / "model-13.pth")  # without a file of its own: it fits, and counts
    huge = state(14)
    huge["fc.weight"] *= 1e38
    save(weights / "model-14.pth", huge)
    selection = select_checkpoints(ask())
    assert sorted(names(selection)) == ["model-1.pth", "model-10.pth", "model-13.pth", "model-2.pth"]
    reasons = dict(selection.skipped)
    said = {
        3: "is empty",
        4: "broken or cut off",
        5: "does not fit",
        6: "no finite numbers",
        7: "is a folder",
        8: "has other class names",
        9: "says it is of timm:resnet18; expected timm:test_resnet",
        11: "is refused",
        12: "model-12.yaml' is broken",
        14: "hold NaN or infinity",
    }
    assert list(reasons) == [f"model-{number}.pth" for number in said]
    for number, text in said.items():
        assert text in reasons[f"model-{number}.pth"]
        assert "\n" not in reasons[f"model-{number}.pth"]
    written = json.loads((selection.request.folder / "ranking.json").read_text())
    assert [one["checkpoint"] for one in written["skipped"]] == list(reasons)


def test_a_skipped_checkpoint_leaves_nothing_of_itself_in_the_next_one(ask: Ask, weights: Path) -> None:
    alone = without_times(select_checkpoints(ask(folder=weights.parent / "alone")))
    # its keys fit up to the last one, so that a loading that goes key by key would have begun
    cut = state(6)
    cut["fc.bias"] = cut["fc.bias"][:2]
    save(weights / "model-3.pth", cut)
    assert without_times(select_checkpoints(ask())) == alone


def test_no_checkpoint_left_is_an_error_with_the_first_reason(ask: Ask, weights: Path) -> None:
    for file in weights.glob("*.pth"):
        file.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"none of 3 checkpoints can be ranked; .*model-1.pth.* is empty"):
        select_checkpoints(ask())


def test_without_files_beside_them_the_model_has_to_be_given(ask: Ask, weights: Path) -> None:
    for file in weights.glob("*.yaml"):
        file.unlink()
    with pytest.raises(ModelError, match=r"no model-1.yaml .* says of which model; .* with --model"):
        select_checkpoints(ask())
    given = {"preprocessing": PREPROCESSING}
    selection = select_checkpoints(ask(model=MODEL, load_options=given))
    assert len(names(selection)) == 3
    assert "in sorted order (dog, owl, 猫)" in selection.warnings[0]
    assert selection.open_best().class_names == CLASSES


def test_class_folders_of_another_order_than_the_outputs_are_matched_by_name(
    ask: Ask, weights: Path, tmp_path: Path
) -> None:
    before = {one[0]: one[3:5] for one in without_times(select_checkpoints(ask(folder=tmp_path / "a")))}
    turn = [2, 0, 1]  # the outputs' new order
    for number in (1, 2, 10):
        drawn = state(number)
        for key in ("fc.weight", "fc.bias"):
            drawn[key] = drawn[key][turn]
        save(weights / f"model-{number}.pth", drawn, class_names=tuple(CLASSES[at] for at in turn))
    after = {one[0]: one[3:5] for one in without_times(select_checkpoints(ask()))}
    assert {name: correct for name, (correct, _) in after.items()} == {
        name: correct for name, (correct, _) in before.items()
    }
    assert {name: loss for name, (_, loss) in after.items()} == pytest.approx(
        {name: loss for name, (_, loss) in before.items()}
    )


def test_a_split_that_training_drew_is_drawn_again(ask: Ask, weights: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(CLASSES):
        fill(tmp_path / "unsplit" / name, 10, seed)
    unsplit = tmp_path / "unsplit"
    doubtful = select_checkpoints(ask(data=unsplit, folder=tmp_path / "doubt"))
    assert any("drawn with seed 0" in warning for warning in doubtful.warnings)
    for number in (1, 2, 10):
        training = {"seed": 1, "split_seed": 5, "shares": (0.5, 0.3, 0.2)}
        save(weights / f"model-{number}.pth", state(number), training=training)
    selection = select_checkpoints(ask(data=unsplit))
    drawn = read_labelled(unsplit, seed=5, shares=(0.5, 0.3, 0.2)).split("val")
    assert [item.id for item in selection.split.items] == [item.id for item in drawn]
    assert selection.warnings == ()


def test_choosing_on_test_is_warned_about_and_val_offered(ask: Ask) -> None:
    (warning,) = select_checkpoints(ask(split="test")).warnings
    assert "--split val" in warning


def test_numbers_of_the_range_that_lack_are_said(ask: Ask) -> None:
    selection = select_checkpoints(ask(first=2, last=12))
    assert sorted(names(selection)) == ["model-10.pth", "model-2.pth"]
    assert selection.missing == ((3, 9), (11, 12))
    assert "there is no checkpoint with the number 3 to 9, 11 to 12" in selection.warnings


def test_unreadable_images_are_left_out_for_all_and_named(ask: Ask, tmp_path: Path) -> None:
    for seed, name in enumerate(CLASSES):
        fill(tmp_path / "data" / "val" / name, 3, seed)
    (tmp_path / "data" / "val" / "owl" / "img1.png").write_bytes(b"no picture")
    selection = select_checkpoints(ask(data=tmp_path / "data", images=(0, 4, 5)))
    assert {one.score.images for one in selection.ranking.results} == {8}
    ((name, reason),) = selection.unreadable
    assert name == "val/owl/img1.png"
    assert "img1.png" in reason
    assert "1 of 9 images cannot be read" in selection.warnings[0]
    assert selection.warnings[1] == "image 4 cannot be read and is not explained"
    assert [one.index for one in selection.chosen] == [0, 5]


def test_chosen_images_carry_folder_accuracy_index_and_label(ask: Ask, data: Path) -> None:
    selection = select_checkpoints(ask(images=(17, 0, 99, 0, -1)))
    accuracy = f"{selection.ranking.best.score.accuracy:.4f}"
    assert [one.id for one in selection.chosen] == [
        f"weights-acc{accuracy}-000017",
        f"weights-acc{accuracy}-000000",
    ]
    assert [one.label for one in selection.chosen] == ["猫", "dog"]
    assert [warning for warning in selection.warnings if "no image" in warning] == [
        "there is no image 99: 'val' has those from 0 to 23",
        "there is no image -1: 'val' has those from 0 to 23",
    ]
    first = selection.images_list.read_text().splitlines()[1]
    assert first == f"{data / 'val' / '猫' / 'img1.png'},猫,weights-acc{accuracy}-000017"


def test_by_default_the_first_image_of_each_class_is_explained(ask: Ask) -> None:
    assert [one.index for one in select_checkpoints(ask()).chosen] == [0, 8, 16]


def test_resumed_results_are_the_same_and_are_not_made_again(
    ask: Ask, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = select_checkpoints(ask())
    with pytest.raises(RunError, match=r"holds a selection already; .* --resume"):
        select_checkpoints(ask())
    save(weights / "model-11.pth", state(11))
    again = select_checkpoints(ask(existing="resume"))
    assert (first.reused, again.reused) == (0, 3)
    kept = {one.name: one for one in again.ranking.results}
    assert kept.pop("model-11.pth")
    assert kept == {one.name: one for one in first.ranking.results}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("file", "model-2.pth is not the file any more that was ranked"),
        ("gone", "there is a result of model-2.pth, which is not among the checkpoints any more"),
        ("image", "are for another image contents"),
        ("list", "are for another split: images was 9, now 8"),
        ("split", "are for another split"),
        ("batch_size", "are for another batch size: it was 16, now 8"),
        ("size", "are for another preprocessing"),
    ],
)
def test_results_of_something_else_are_refused_with_the_difference(
    ask: Ask, weights: Path, tmp_path: Path, change: str, said: str
) -> None:
    for seed, name in enumerate(CLASSES):
        fill(tmp_path / "data" / "val" / name, 3, seed)
        fill(tmp_path / "data" / "test" / name, 3, seed)
    own: dict[str, Any] = {"data": tmp_path / "data"}
    select_checkpoints(ask(**own))
    image = tmp_path / "data" / "val" / "owl" / "img0.png"
    before = (tmp_path / "out" / "ranking.json").read_bytes()
    changed: dict[str, Callable[[], dict[str, Any]]] = {
        "file": lambda: {"ignored": save(weights / "model-2.pth", state(7))},
        "gone": lambda: {"ignored": (weights / "model-2.pth").unlink()},
        "image": lambda: {"ignored": image.write_bytes(image.with_name("img1.png").read_bytes())},
        "list": lambda: {"ignored": image.unlink()},
        "split": lambda: {"split": "test"},
        "batch_size": lambda: {"batch_size": 8},
        "size": lambda: {"load_options": {"size": 48}},
    }
    options = changed[change]()
    options.pop("ignored", None)
    with pytest.raises(RunError, match=said):
        select_checkpoints(ask(**own, **options, existing="resume"))
    assert (tmp_path / "out" / "ranking.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    for existing in ("refuse", "resume"):
        with pytest.raises(RunError, match="neither empty nor a selection's folder"):
            select_checkpoints(ask(existing=existing))


def test_a_damaged_result_is_one_line(ask: Ask, tmp_path: Path) -> None:
    select_checkpoints(ask())
    (tmp_path / "out" / "results" / "of-model-1.pth.json").write_text('{"version": 1, "name": 3}')
    with pytest.raises(RunError, match=r"of-model-1.pth.json' is damaged"):
        select_checkpoints(ask(existing="resume"))


def test_senseless_values_are_refused(ask: Ask) -> None:
    for senseless in ({"batch_size": 0}, {"memory": -1}, {"pattern": "a/b"}, {"max_pixels": 0}):
        with pytest.raises(UsageError, match="expected"):
            ask(**senseless)


def test_the_best_one_can_be_explained_after_passes_in_inference_mode(ask: Ask) -> None:
    import whycam

    model = select_checkpoints(ask()).open_best()
    explanation = whycam.explain(model.module, torch.zeros(1, 3, 32, 32))
    assert explanation.maps.isfinite().all()


def test_a_best_one_without_a_file_of_its_own_is_opened_as_it_was_ranked(
    ask: Ask, weights: Path, tmp_path: Path
) -> None:
    worst = names(select_checkpoints(ask(folder=tmp_path / "first")))[-1]
    for file in weights.glob("*.yaml"):
        if file.stem != Path(worst).stem:
            file.unlink()
    selection = select_checkpoints(ask())
    assert selection.ranking.best.name != worst
    model = selection.open_best()
    assert (model.preprocessing, model.class_names) == (PREPROCESSING, CLASSES)
    assert model.provenance.sha256 == selection.ranking.best.sha256


def test_ranking_needs_none_of_the_packages_that_training_needs() -> None:
    for file in Path(selection_room.__file__).parent.glob("*.py"):
        imports = [line for line in file.read_text().splitlines() if "import " in line]
        assert not [line for line in imports if "torchmetrics" in line or "lightning" in line]
