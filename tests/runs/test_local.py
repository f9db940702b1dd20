"""A run does every image once, whatever happens in the middle."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import EngineError, LayerError, MethodError, RunError, TargetError, UsageError
from whycam.methods import FirstComponent, FlipAverage, NoiseAverage
from whycam.models import LoadedModel, Preprocessing, Provenance
from whycam.render import ConstantOpacity, MagnitudeOpacity
from whycam.runs import Existing, PictureStyle, RunRequest, check_places, run_explain
from whycam.store import COLUMN_NAMES, RunWriter, read_run
from whycam.targets import ClassIndex, Contrast

KEPT = [name for name in COLUMN_NAMES if name != "commit"]

Ask = Callable[..., RunRequest]


@pytest.fixture
def ask(model: LoadedModel, pictures: Path, tmp_path: Path) -> Ask:
    """Give what makes a request, with the pictures as sources and tmp_path/run as folder."""

    def made(**changes: Any) -> RunRequest:
        values = {
            "model": model,
            "sources": (pictures,),
            "folder": tmp_path / "run",
            "batch_size": 4,
        } | changes
        return RunRequest(**values)

    return made


def records(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_run(folder).table(KEPT).to_pylist()
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


class StopError(Exception):
    """What stands for a kill in the middle of a run."""


def stop_after(images: int) -> Callable[[int, int], None]:
    def progress(finished: int, planned: int) -> None:
        if finished >= images:
            raise StopError

    return progress


def test_a_run_has_a_row_and_an_overlay_for_each_image_and_method(ask: Ask, tmp_path: Path) -> None:
    summary = run_explain(ask(methods=("gradcam", "edges")))
    rows = list(read_run(tmp_path / "run").rows())
    names = [f"{number:02}.png" for number in range(12)]
    assert [(row.id, row.method) for row in rows] == [(n, m) for n in names for m in ("gradcam", "edges")]
    assert [row.grid for row in rows] == [(8, 8), (32, 32)] * 12
    assert all(row.original == (40, 48) and row.target == "top class" and row.error is None for row in rows)
    for row in rows:
        assert row.prediction is not None
        assert row.prediction_name == ("ant", "bee", "cat", "dog")[row.prediction]
        assert row.overlay == f"overlays/{row.id}.{row.method}.png"
        with Image.open(tmp_path / "run" / row.overlay) as picture:
            assert picture.size == (48, 40)
    assert (summary.images, summary.done, summary.failed, summary.reused) == (12, 12, 0, 0)
    assert summary.sheet == tmp_path / "run" / "sheet.png"
    assert summary.sheet.is_file()


def test_a_run_keeps_the_images_small_so_that_a_report_needs_no_other_file(
    ask: Ask, pictures: Path, tmp_path: Path
) -> None:
    run_explain(ask(methods=("gradcam", "layercam"), style=PictureStyle(opacity=ConstantOpacity(0.0))))
    rows = [row for row in read_run(tmp_path / "run").rows() if row.error is None]
    assert {row.picture for row in rows} == {f"pictures/{row.id}.jpg" for row in rows}
    for row in rows:
        assert row.picture is not None
        assert row.original is not None
        with Image.open(tmp_path / "run" / row.picture) as kept, Image.open(row.path) as original:
            assert kept.size == row.original[::-1]
            difference = np.asarray(kept.convert("RGB"), float) - np.asarray(original.convert("RGB"), float)
        assert np.abs(difference).mean() < 12  # JPEG of noise


def test_the_maps_are_those_of_explain(ask: Ask, model: LoadedModel, pictures: Path, tmp_path: Path) -> None:
    from whycam import explain

    run_explain(ask(methods=("layercam",), target=ClassIndex(2), smoothing=FlipAverage()))
    sources = sorted(pictures.iterdir())
    expected = explain(model, sources, method="layercam", target=2, smoothing=FlipAverage(), batch_size=4)
    for row, values, score in zip(
        read_run(tmp_path / "run").rows(), expected.maps, expected.scores, strict=True
    ):
        assert row.map is not None
        np.testing.assert_allclose(row.map, values.numpy(), rtol=2**-10, atol=1e-8)
        assert row.score == pytest.approx(score.item())
        assert (row.target, row.target_class) == ("class 2", 2)


def test_all_methods_share_one_forward_a_batch(ask: Ask, network: Any) -> None:
    run_explain(ask(methods=("gradcam", "layercam", "hirescam", "eigencam", "random")))
    # the trace, the image that proves the request, then twelve images by four
    assert network.batches == [1, 1, 4, 4, 4]


def test_the_manifest_says_how_the_run_was_made(ask: Ask, model: LoadedModel, tmp_path: Path) -> None:
    run_explain(
        ask(
            methods=("gradcam", "gradcam"),
            target=Contrast(1, 0),
            smoothing=FirstComponent(),
            command=("whycam", "x"),
        )
    )
    manifest = read_run(tmp_path / "run").manifest
    assert manifest.finished
    assert manifest.command == ("whycam", "x")
    assert manifest.model.reference == "tests:network"
    assert manifest.model.provenance.startswith("random weights")
    assert manifest.preprocessing == model.preprocessing.to_dict()
    assert manifest.class_names == model.class_names
    assert manifest.target == "class 1 rather than class 0"
    assert [(m.name, dict(m.parameters)) for m in manifest.methods] == [
        ("gradcam", {"smoothing": "FirstComponent()"})
    ]
    assert manifest.layer is not None
    assert manifest.layer.paths == ("features",)
    assert "deepest" in manifest.layer.reason
    assert {"python", "whycam", "torch", "timm"} <= set(manifest.versions)
    assert (manifest.image_count, manifest.failures, manifest.device) == (12, 0, "cpu")
    assert manifest.style == {"colormap": "inferno", "opacity": MagnitudeOpacity().describe()}
    assert manifest.settings == {
        "smoothing": "FirstComponent()",
        "batch_size": 4,
        "max_pixels": 100_000_000,
        "weights": {
            "kind": "random",
            "loaded": None,
            "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        },
    }


def test_labels_of_a_list_are_recorded(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as file:
        rows = [["path", "label"], *([f"pictures/{n:02}.png", f"kind {n}"] for n in range(3))]
        csv.writer(file).writerows(rows)
    run_explain(ask(sources=(table,)))
    assert [row["label"] for row in records(tmp_path / "run")] == ["kind 0", "kind 1", "kind 2"]


def test_unreadable_images_are_rows_with_an_error_and_the_run_goes_on(
    ask: Ask, pictures: Path, tmp_path: Path
) -> None:
    whole = (pictures / "03.png").read_bytes()
    (pictures / "03.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "05.png").write_bytes(b"")
    (pictures / "06.png").write_text("not a picture")
    summary = run_explain(ask(methods=("gradcam", "layercam")))
    bad = {"03.png", "05.png", "06.png"}
    for row in records(tmp_path / "run"):
        assert (row["error"] is not None) == (row["id"] in bad)
        assert (row["map"] is None) == (row["id"] in bad)
    assert len(records(tmp_path / "run")) == 24
    assert (summary.images, summary.done, summary.failed) == (12, 9, 3)
    assert {name for name, _ in summary.failures} == bad
    assert all("\n" not in error for _, error in summary.failures)


def test_a_run_of_unreadable_images_alone_ends_with_their_errors(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(b"")
    summary = run_explain(ask(sources=(folder,)))
    assert (summary.images, summary.failed, summary.sheet) == (3, 3, None)


def test_an_image_on_which_the_model_fails_costs_its_own_rows_only(
    ask: Ask, network: Any, tmp_path: Path
) -> None:
    clean = run_explain(ask(folder=tmp_path / "clean"))
    assert clean.failed == 0

    def fail(images: torch.Tensor) -> None:
        # the plan's first image is white: it is the one that proves the request, and fails in its batch alone
        if len(images) > 1 and (images == 1).flatten(1).all(1).any():
            network.broken = True
        if getattr(network, "broken", False) and (images == 1).flatten(1).all(1).any():
            raise ValueError("too\nwhite")

    network.fail = fail
    summary = run_explain(ask())
    assert (summary.failed, summary.done) == (1, 11)
    first, *others = records(tmp_path / "run")
    assert first["id"] == "00.png"
    assert first["error"] == "the model failed on this image: ValueError: too white"
    assert first["content_hash"] is not None
    for row, same in zip(others, records(tmp_path / "clean")[1:], strict=True):
        np.testing.assert_allclose(row["map"], same["map"], atol=2**-9 * max(map(abs, same["map"])))


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_start_smaller(ask: Ask, network: Any) -> None:
    def fail(images: torch.Tensor) -> None:
        if len(images) > 3:
            raise torch.OutOfMemoryError("no room")

    network.fail = fail
    summary = run_explain(ask(batch_size=6))
    assert summary.failed == 0
    assert network.batches == [1, 1, 6, 3, 3, 3, 3]
    assert len(summary.warnings) == 1
    assert "--batch-size 3" in summary.warnings[0]


def test_one_image_that_does_not_fit_has_an_error_that_says_so(ask: Ask, network: Any) -> None:
    def fail(images: torch.Tensor) -> None:
        if len(network.batches) > 2:
            raise MemoryError

    network.fail = fail
    summary = run_explain(ask(batch_size=2))
    assert summary.failed == 12
    assert "does not fit into the memory of cpu" in summary.failures[0][1]


def test_a_map_that_is_not_finite_is_an_error_with_its_reason(ask: Ask, network: Any, tmp_path: Path) -> None:
    def poison(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        white = (inputs[0] == 1).flatten(1).all(1)
        return torch.where(white[:, None, None, None], torch.nan, output) if len(output) > 1 else output

    network.features.register_forward_hook(poison)
    summary = run_explain(ask())
    assert summary.failed == 1
    assert summary.failures[0][0] == "00.png"
    assert "NaN" in summary.failures[0][1]


def test_blank_maps_are_counted_with_their_reason(ask: Ask, network: Any) -> None:
    torch.nn.init.zeros_(network.head.weight)
    summary = run_explain(ask(layers=("features",), methods=("gradcam", "eigencam")))
    assert summary.blank == 12
    assert list(summary.diagnoses.values()) == [12]
    assert "gradient at 'features' is zero" in next(iter(summary.diagnoses))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"layers": ("feature",)}, LayerError, "did you mean features"),
        ({"layers": ("head",)}, LayerError, "head"),
        ({"target": ClassIndex(99)}, TargetError, "class 99 does not exist"),
        ({"methods": ("eigencam",), "smoothing": FirstComponent()}, MethodError, "FirstComponent"),
        ({"sources": ("missing.jpg",)}, UsageError, "missing.jpg"),
    ],
)
def test_what_is_wrong_for_every_image_stops_the_run_before_it_writes(
    ask: Ask, tmp_path: Path, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        run_explain(ask(**changes))
    assert not (tmp_path / "run").exists()


def test_a_model_that_fails_on_every_image_stops_the_run_in_one_line(
    ask: Ask, network: Any, tmp_path: Path
) -> None:
    def fail(images: torch.Tensor) -> None:
        raise RuntimeError("mat1 and mat2\ncannot be multiplied")

    network.fail = fail
    with pytest.raises(
        EngineError, match=r"3 channel\(s\) of 32 x 32: RuntimeError: mat1 and mat2 cannot"
    ) as caught:
        run_explain(ask(layers=("features",)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"batch_size": 0}, UsageError),
        ({"max_pixels": 0}, UsageError),
        ({"methods": ()}, UsageError),
        ({"methods": ("gradcan",)}, MethodError),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    ask: Ask, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ask(**changes)


def test_an_unknown_colormap_is_refused_before_the_run() -> None:
    with pytest.raises(UsageError, match="infernal"):
        PictureStyle(colormap="infernal")


@pytest.mark.parametrize("batch_size", [4, 3])
def test_a_run_that_was_stopped_goes_on_where_it_was(
    ask: Ask, pictures: Path, tmp_path: Path, batch_size: int
) -> None:
    (pictures / "02.png").write_bytes(b"")
    noisy: dict[str, Any] = {"methods": ("gradcam", "random"), "smoothing": NoiseAverage(2)}
    run_explain(ask(**noisy, folder=tmp_path / "unbroken"))
    with pytest.raises(StopError):
        run_explain(ask(**noisy), progress=stop_after(4))
    assert len(list(read_run(tmp_path / "run").rows())) == 8
    summary = run_explain(ask(**noisy, existing="resume", batch_size=batch_size))
    assert (summary.images, summary.failed, summary.reused) == (12, 1, 3)  # what failed is tried again
    resumed, unbroken = records(tmp_path / "run"), records(tmp_path / "unbroken")
    if batch_size == 4:
        assert resumed == unbroken
        assert files(tmp_path / "run") == files(tmp_path / "unbroken")
    assert [(row["id"], row["method"]) for row in resumed] == [(row["id"], row["method"]) for row in unbroken]
    assert noise_of(resumed) == noise_of(unbroken)
    assert read_run(tmp_path / "run").manifest.finished


def noise_of(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["map"] for row in rows if row["method"] == "random"]


def test_finished_images_are_not_opened_again(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run_explain(ask(), progress=stop_after(8))
    for number in range(1, 8):  # the first is still read, to prove the request
        (pictures / f"{number:02}.png").write_bytes(b"")
    summary = run_explain(ask(existing="resume"))
    assert (summary.failed, summary.reused) == (0, 8)


def test_a_finished_run_can_be_extended(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    run_explain(ask())
    Image.new("RGB", (20, 20), "red").save(pictures / "99.png")
    summary = run_explain(ask(existing="resume"))
    assert (summary.images, summary.reused) == (13, 12)
    assert [row["id"] for row in records(tmp_path / "run")][-1] == "99.png"


def test_the_same_images_spelled_another_way_are_refused_rather_than_explained_twice(
    ask: Ask, pictures: Path, tmp_path: Path
) -> None:
    run_explain(ask())
    with pytest.raises(RunError, match=r"sources\[0\] was .*; resume with the same ones"):
        run_explain(ask(existing="resume", sources=(str(pictures / "*.png"),)))
    run = read_run(tmp_path / "run")
    assert (run.manifest.image_count, run.manifest.finished, len(records(tmp_path / "run"))) == (12, True, 12)


def test_a_failed_image_that_was_mended_is_explained_on_resume(
    ask: Ask, pictures: Path, tmp_path: Path
) -> None:
    run_explain(ask(folder=tmp_path / "unbroken", methods=("gradcam", "edges")))
    whole = (pictures / "05.png").read_bytes()
    (pictures / "05.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "07.png").write_bytes(b"")
    run_explain(ask(methods=("gradcam", "edges")))
    (pictures / "05.png").write_bytes(whole)
    summary = run_explain(ask(methods=("gradcam", "edges"), existing="resume"))
    assert (summary.images, summary.failed, summary.reused) == (12, 1, 10)
    assert [name for name, _ in summary.failures] == ["07.png"]
    assert read_run(tmp_path / "run").manifest.failures == 1
    for row, same in zip(records(tmp_path / "run"), records(tmp_path / "unbroken"), strict=True):
        assert (row["id"], row["method"]) == (same["id"], same["method"])
        assert (row["error"] is not None) == (row["id"] == "07.png")
        assert row["id"] == "07.png" or row["overlay"] == same["overlay"]


def test_a_resumed_run_keeps_its_layer(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run_explain(ask(layers=("features.1",)), progress=stop_after(4))
    summary = run_explain(ask(existing="resume"))
    assert summary.layer.paths == ("features.1",)
    assert {row["layer"] for row in records(tmp_path / "run")} == {"features.1"}


def test_resuming_with_other_settings_is_refused_and_names_them(ask: Ask, model: LoadedModel) -> None:
    run_explain(ask())
    with pytest.raises(RunError, match=r"methods\[0\].name was 'gradcam', now 'layercam'"):
        run_explain(ask(existing="resume", methods=("layercam",)))
    with pytest.raises(RunError, match=r"style\.colormap was 'inferno', now 'jet'"):
        run_explain(ask(existing="resume", style=PictureStyle(colormap="jet")))
    with pytest.raises(RunError, match=r"style\.opacity was 'opacity rise.*, now 'colour at 50% opacity'"):
        run_explain(ask(existing="resume", style=PictureStyle(opacity=ConstantOpacity())))
    with pytest.raises(RunError, match=r"smoothing was None, now 'FlipAverage\(\)'"):
        run_explain(ask(existing="resume", smoothing=FlipAverage()))
    other = replace(model, reference="another", provenance=Provenance("random"))
    with pytest.raises(RunError, match=r"model\.reference was 'tests:network', now 'another'"):
        run_explain(ask(existing="resume", model=other))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (Provenance("random"), Provenance("pretrained", name="x"), "kind was 'random', now 'pretrained'"),
        (
            Provenance("file", name="w", sha256="a" * 64, loaded=(4, 6)),
            Provenance("file", name="w", sha256="a" * 64, loaded=(5, 6)),
            r"loaded\[0\] was 4, now 5",
        ),
    ],
)
def test_resuming_with_weights_of_another_kind_is_refused(
    before: Provenance, after: Provenance, said: str, ask: Ask, model: LoadedModel
) -> None:
    run_explain(ask(model=replace(model, provenance=before)))
    with pytest.raises(RunError, match=said):
        run_explain(ask(existing="resume", model=replace(model, provenance=after)))


def test_resuming_with_another_head_is_refused(ask: Ask, model: LoadedModel, network: Any) -> None:
    run_explain(ask(layers=("features",)))
    network.head = torch.nn.Linear(16, 3)
    with pytest.raises(RunError, match=r"settings\.weights\.parameters was"):
        run_explain(ask(existing="resume", layers=("features",)))


def test_resuming_with_other_class_names_is_refused_in_a_line_of_bounded_length(
    ask: Ask, model: LoadedModel
) -> None:
    many = tuple(f"name {number}" for number in range(1000))
    run_explain(ask(model=replace(model, class_names=many)))
    other = replace(model, class_names=tuple(name.upper() for name in many))
    with pytest.raises(RunError, match=r"class_names\[0\] was 'name 0'.*and 988 more; resume") as caught:
        run_explain(ask(existing="resume", model=other))
    assert len(str(caught.value)) < 2000


def test_a_folder_that_is_taken_is_refused_before_anything_is_loaded(
    pictures: Path, ask: Ask, tmp_path: Path
) -> None:
    check_places((pictures,), tmp_path / "run", "refuse")
    run_explain(ask())
    with pytest.raises(RunError, match="--resume"):
        check_places((pictures,), tmp_path / "run", "refuse")
    check_places((pictures,), tmp_path / "run", "resume")
    both: tuple[Existing, ...] = ("refuse", "resume")
    for existing in both:
        with pytest.raises(RunError, match="neither a run folder nor an empty one"):
            check_places((pictures,), pictures, existing)


def test_a_run_inside_its_source_does_not_feed_on_its_own_pictures(ask: Ask, pictures: Path) -> None:
    summary = run_explain(ask(folder=pictures / "run", batch_size=2))
    assert summary.images == 12
    summary = run_explain(ask(folder=pictures / "run", existing="resume"))
    assert (summary.images, summary.reused) == (12, 12)
    with pytest.raises(UsageError, match="no image but those"):
        run_explain(ask(sources=(pictures / "run",), folder=pictures / "run", existing="resume"))


def test_pictures_are_read_at_most_a_batch_ahead_of_the_model(
    ask: Ask, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whycam.data import read_image

    read, ahead = [0], list[int]()

    def counted(*args: Any, **options: Any) -> Any:
        read[0] += 1
        return read_image(*args, **options)

    monkeypatch.setattr("whycam.runs.reading.read_image", counted)
    network.fail = lambda images: ahead.append(read[0] - 1 - sum(network.batches[2:]))
    run_explain(ask(batch_size=2))
    # at most this batch and the next one are read and not yet explained
    assert max(ahead[2:]) <= 2
    assert read[0] == 13


def test_the_models_own_draws_do_not_depend_on_what_came_before(
    ask: Ask, network: Any, tmp_path: Path
) -> None:
    network.features.register_forward_hook(lambda module, inputs, output: output * (1 + torch.rand(())))
    run_explain(ask(folder=tmp_path / "unbroken"))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(StopError):
        run_explain(ask(), progress=stop_after(4))
    run_explain(ask(existing="resume"))
    assert records(tmp_path / "run") == records(tmp_path / "unbroken")
    assert torch.equal(before, torch.get_rng_state())


def test_a_sheet_goes_without_an_image_that_is_gone(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    from whycam.runs.overview import sheet_of

    run_explain(ask())
    run = read_run(tmp_path / "run")
    whole = sheet_of(run, PictureStyle())
    for number in range(11):
        (pictures / f"{number:02}.png").unlink()
    one = sheet_of(run, PictureStyle())
    assert whole is not None
    assert one is not None
    assert one.height < whole.height / 4
    (pictures / "11.png").unlink()
    assert sheet_of(run, PictureStyle()) is None


def test_the_sheet_is_in_the_plans_order_whatever_was_written_first(ask: Ask, tmp_path: Path) -> None:
    from whycam.runs.overview import sheet_of

    run_explain(ask(methods=("gradcam", "edges")))
    run = read_run(tmp_path / "run")
    with RunWriter.create(tmp_path / "backwards", replace(run.manifest, finished=False)) as writer:
        for row in list(run.rows())[::-1]:
            assert row.overlay is not None
            writer.save_picture(row.overlay, (tmp_path / "run" / row.overlay).read_bytes())
            writer.write([row])
        backwards = sheet_of(read_run(tmp_path / "backwards"), PictureStyle())
    forwards = sheet_of(run, PictureStyle())
    assert backwards is not None
    assert forwards is not None
    assert backwards.tobytes() == forwards.tobytes()


def test_pictures_whose_views_differ_in_size_are_explained_with_their_like(
    ask: Ask, model: LoadedModel, network: Any, pictures: Path, tmp_path: Path
) -> None:
    for number in (1, 3):  # tall among the wide ones
        picture = pictures / f"{number:02}.png"
        Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture)
    half = (0.5, 0.5, 0.5)
    bounded = replace(
        model, preprocessing=Preprocessing((32, 64), "bounded", (32, 64), "bilinear", half, half)
    )
    network.batches.clear()
    summary = run_explain(ask(model=bounded, methods=("gradcam",), layers=("features",)))
    assert summary.failed == 0
    rows = list(read_run(tmp_path / "run").rows())
    assert [row.id for row in rows] == [f"{number:02}.png" for number in range(12)]
    assert [row.grid for row in rows] == [(10, 8) if number in (1, 3) else (8, 10) for number in range(12)]
    assert [row.original for row in rows[:2]] == [(40, 48), (48, 40)]
    assert network.batches[1:] == [2, 2, 4, 4]
