import io
import os
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from whycam.errors import RunError, UsageError
from whycam.render.colormaps import colour_table
from whycam.reports.figure import FigureOptions, drawing, selection, write_figure
from whycam.reports.figure.content import gather
from whycam.reports.figure.drawing import draw, saved
from whycam.reports.figure.layout import POINTS, TALLEST, Plan, meaning, plan_figure
from whycam.reports.figure.panels import make_panels
from whycam.reports.figure.typefaces import embeddable
from whycam.store import ModelRecord, Run, read_run

LONG = (
    "Staffordshire bullterrier, Staffordshire bull terrier (a dog)",
    "an unbroken_name_of_more_than_sixty_letters_without_a_single_space_in_it",
    "虎斑貓與一隻很長很長的名字的貓咪在窗台上曬太陽打瞌睡伸懶腰",
    "قط منزلي طويل الاسم جدا جدا",
    "cost $x_1$ & 100% {cat}",
)
SHAPES = ((48, 64), (64, 48), (64, 64), (12, 120), (120, 12))
METHODS = (
    "gradcam",
    "gradcam++",
    "layercam",
    "smoothgradcam++",
    "integrated",
    "guidedgradcam",
    "rise",
    "cam",
)
PRIVATE = "\U0010f123"  # no font has it


def corner(index: int) -> np.ndarray:
    """A map whose one bright cell is at the bottom right."""
    values = np.zeros((4, 4), np.float32)
    values[3, 3] = 2.0
    return values


def small(**changes) -> FigureOptions:
    """A figure of a column's width: quicker to draw."""
    return FigureOptions(**{"width": 3.5, **changes})


def page_of(run: Run, folder: Path, options: FigureOptions) -> tuple[np.ndarray, Plan]:
    """The PNG's pixels [height, width, RGB], and its plan."""
    content = gather([run], options)
    plan = plan_figure(content, options)
    figure = draw(plan, make_panels(plan, content, options), options, folder)
    with Image.open(io.BytesIO(saved(figure, "png"))) as picture:
        return np.asarray(picture.convert("RGB"), int), plan


def pixels_of(run: Run, folder: Path, options: FigureOptions, column: int = 1, image: int = 0) -> np.ndarray:
    """One tile of the PNG: [height, width, RGB]."""
    page, plan = page_of(run, folder, options)
    rect = next(t.rect for t in plan.tiles if (t.image, t.column) == (image, column))
    left, top, right, bottom = (round(edge * options.dpi / POINTS) for edge in rect)
    return page[top:bottom, left:right]


def pdf_streams(file: Path) -> list[bytes]:
    found = []
    for body in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", file.read_bytes(), re.DOTALL):
        try:
            found.append(zlib.decompress(body))
        except zlib.error:
            found.append(body)
    return found


def overlaps(figure, plan) -> list[str]:
    """What lies on something else or leaves the page, in words; measured as matplotlib draws it."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    scale, (width, height) = figure.dpi / POINTS, (figure.bbox.width, figure.bbox.height)
    boxes = []
    inside = {line.text for line in plan.inside}
    for text in figure.axes[0].texts:
        if text.get_text() not in inside:
            box = text.get_window_extent(renderer)
            boxes.append((text.get_text(), box.x0, box.y0, box.x1, box.y1))
    for number, (left, top, right, bottom) in enumerate([*(t.rect for t in plan.tiles), plan.bar]):
        edges = left * scale, height - bottom * scale, right * scale, height - top * scale
        boxes.append((f"tile {number}", *edges))
    found = [f"{name} leaves the page" for name, *box in boxes if not _within(box, width, height)]
    for (one, *a), (other, *b) in combinations(boxes, 2):
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1:
            found.append(f"{one} lies on {other}")
    return found


def _within(box: list[float], width: float, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


@pytest.fixture(scope="module")
def long_run(make_run):
    """Long names in several scripts, pictures of every shape, a wrong one, a failure, eight methods."""

    def change(row):
        if row.index == 1:
            row = replace(row, prediction=0, prediction_name=LONG[0])
        if row.index == 2 and row.method == "layercam":
            row = replace(row, map=None, error="the model failed on this image: RuntimeError: out of luck")
        return row

    shapes = tuple(SHAPES[at % len(SHAPES)] for at in range(8))
    unknown = ModelRecord(
        reference="timm:x", provenance="random weights: they say nothing", weights_sha256=None
    )
    return make_run(sizes=shapes, methods=METHODS, names=LONG, change=change, model=unknown)


@pytest.fixture(scope="module")
def fonts_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fonts")


@pytest.fixture
def fonts(fonts_folder, monkeypatch):
    """Make each typeface once, with all characters that the figures need, instead of anew for each."""
    everything = "".join(LONG) + "…"
    monkeypatch.setattr(
        drawing, "embeddable", lambda face, used, folder: embeddable(face, everything + used, folder)
    )
    return fonts_folder


@pytest.mark.parametrize("width", [3.5, 7.0])
@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.filterwarnings("ignore::whycam.render.MissingGlyphWarning")
def test_nothing_overlaps_or_leaves_the_page(long_run, fonts, count, width):
    for rows in {8, 9 - count}:
        options = FigureOptions(width=width, methods=METHODS[:count], rows=rows)
        content = gather([long_run], options)
        plan = plan_figure(content, options)
        assert plan.width == width * POINTS
        assert len(plan.tiles) == len(content.images) * (count + 1)
        assert overlaps(draw(plan, [], options, fonts), plan) == []


def test_checkpoints_with_long_names_do_not_overlap(make_run, fonts):
    runs = [
        make_run(
            sizes=SHAPES[:3],
            names=LONG,
            model=ModelRecord(
                reference="demo",
                provenance=f"weights of w/a-checkpoint-with-a-long-name-of-epoch-{at}.pth (SHA-256 ab)",
                weights_sha256=f"{at}" * 64,
            ),
        )
        for at in range(5)
    ]
    options = small()
    content = gather(runs, options)
    plan = plan_figure(content, options)
    assert content.columns[4].heading == "a-checkpoint-with-a-long-name-of-epoch-4.pth"
    assert overlaps(draw(plan, [], options, fonts), plan) == []


@pytest.mark.filterwarnings("ignore::whycam.render.MissingGlyphWarning")
def test_every_font_in_the_pdf_is_embedded_as_truetype(long_run, tmp_path):
    if shutil.which("pdffonts") is None:
        if os.environ.get("WHYCAM_NEEDS_ALL") == "1":
            pytest.fail("pdffonts is not installed, and WHYCAM_NEEDS_ALL=1 says that it must be")
        pytest.skip("pdffonts (poppler-utils) is not installed")
    result = write_figure([long_run], tmp_path, options=small(methods=("gradcam",), rows=4))
    said = subprocess.run(["pdffonts", str(result.pdf)], capture_output=True, text=True, check=True)
    assert "Mismatch" not in said.stderr
    fonts = [line for line in said.stdout.splitlines()[2:] if line.strip()]
    assert any("NotoSansCJK" in line for line in fonts)
    assert any("DejaVuSans" in line for line in fonts)
    for line in fonts:
        assert re.search(r"(?:CID )?TrueType +Identity-H +yes yes yes", line), line


def test_both_files_are_as_wide_as_asked_and_at_300_dots_an_inch(make_run, tmp_path):
    result = write_figure([make_run()], tmp_path, options=small())
    with Image.open(result.png) as picture:
        assert picture.size[0] == 1050
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", result.pdf.read_bytes())
    assert [float(side) / 72 for side in box.groups()] == pytest.approx(result.size, abs=1e-3)
    assert result.size[0] == pytest.approx(3.5)


@pytest.mark.parametrize("colormap", ["inferno", "viridis"])
def test_the_strongest_place_has_the_colormaps_last_colour(make_run, tmp_path, colormap):
    run = make_run(sizes=((64, 64),), maps=corner)
    tile = pixels_of(run, tmp_path, small(colormap=colormap, contours=()))
    expected = 0.8 * colour_table(colormap)[255].astype(float)  # over black, at 80 % opacity
    assert tile[-3, -3] == pytest.approx(expected, abs=2)
    assert tile[3, 3] == pytest.approx([0, 0, 0], abs=2)


def test_a_map_lies_on_the_part_that_the_model_saw(make_run, tmp_path):
    run = make_run(
        sizes=((60, 120),),
        maps=corner,
        change=lambda row: replace(row, box=(10.0, 40.0, 50.0, 80.0)),
        picture=lambda high, wide: Image.new("RGB", (wide, high), (0, 60, 0)),
    )
    tile = pixels_of(run, tmp_path, small(contours=()))
    high, wide = tile.shape[:2]
    redness = tile[..., 0] - tile[..., 1]
    y, x = np.argwhere(redness > 0.9 * redness.max()).mean(axis=0)
    # the bright cell reaches from 40 to 50 of 60 down and from 70 to 80 of 120 across
    assert 40 / 60 < y / high < 50 / 60
    assert 70 / 120 < x / wide < 80 / 120
    assert np.ptp(tile[5, 5]) <= 2, "what the model did not see is gray"
    assert tile[high // 3, wide // 2][1] > 50, "what it saw keeps its colour"


def test_maps_are_scaled_alone_or_by_column(make_run, tmp_path):
    run = make_run(sizes=((64, 64), (64, 64)), maps=lambda index: corner(index) / (index + 1))
    table = colour_table("inferno").astype(float)
    for normalise, level, said in (("image", 255, "each map's maximum"), ("shared", 128, "in its column")):
        options = small(contours=(), normalise=normalise)
        tile = pixels_of(run, tmp_path, options, image=1)
        share = 0.8 * level / 255
        assert tile[-3, -3] == pytest.approx(share * table[level], abs=3)
        assert said in meaning(options)[0]


def test_the_colour_bar_goes_from_the_first_to_the_last_colour_and_says_what_they_mean(make_run, tmp_path):
    run, options = make_run(), small(colormap="viridis")
    pixels, plan = page_of(run, tmp_path, options)
    left, top, right, bottom = (round(edge * 300 / POINTS) for edge in plan.bar)
    row = pixels[(top + bottom) // 2]
    assert row[left + 3] == pytest.approx(colour_table("viridis")[0].astype(float), abs=6)
    assert row[right - 4] == pytest.approx(colour_table("viridis")[255].astype(float), abs=6)
    written = [line.text for line in plan.lines]
    assert {"0", "0.5", "1"} <= set(written)
    assert meaning(options)[0] in " ".join(written)


def test_contours_are_vectors_in_the_pdf(make_run, tmp_path):
    run = make_run(maps=corner)
    strokes = {}
    for levels in ((), (0.5,)):
        result = write_figure([run], tmp_path / str(levels), options=small(contours=levels))
        streams = pdf_streams(result.pdf)
        strokes[levels] = sum(stream.count(b" l\n") for stream in streams if b" Tf\n" in stream)
        assert result.pdf.read_bytes().count(b"/Subtype /Image") == 5  # two images, two maps, the bar
    assert strokes[(0.5,)] > strokes[()] + 30


@pytest.mark.parametrize("style", ["paper", "contour-only"])
def test_the_same_run_gives_the_same_bytes(make_run, tmp_path, style):
    run = make_run(sizes=((24, 96),), names=("虎斑貓",) if style == "paper" else ("cat",))
    options = small(style=style)
    first, second = (write_figure([run], tmp_path / name, options=options) for name in ("a", "b"))
    assert first.pdf.read_bytes() == second.pdf.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()
    assert b"Date" not in first.pdf.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["figure.pdf", "figure.png"]


def test_a_style_sets_the_page(make_run, tmp_path):
    run = make_run(sizes=((64, 64),))
    for style, page in (("paper", (255, 255, 255)), ("dark", (0x14, 0x16, 0x1A))):
        assert tuple(page_of(run, tmp_path, small(style=style))[0][1, 1]) == page


def test_gray_print_has_no_colour_in_its_maps(make_run, tmp_path):
    run = make_run(maps=corner, picture=lambda high, wide: Image.new("RGB", (wide, high), (200, 30, 30)))
    tile = pixels_of(run, tmp_path, small(style="print-gray"))
    assert np.ptp(tile, axis=2).max() <= 1


def wrong_ones(*indices: int):
    def change(row):
        return replace(row, prediction=(row.prediction + 1) % 3) if row.index in indices else row

    return change


def test_a_wrong_prediction_is_shown_although_it_comes_late(make_run):
    run = make_run(sizes=((32, 32),) * 9, change=wrong_ones(4, 7, 8))
    content = gather([run], small(rows=3))
    # 8 was the surest of the wrong ones
    assert [(image.id, image.reason) for image in content.images] == [
        ("0.jpg", "first in the run"),
        ("1.jpg", "first in the run"),
        ("8.jpg", "wrong prediction"),
    ]
    assert [image.wrong for image in content.images] == [False, False, True]
    texts = [line.text for line in plan_figure(content, small()).lines]
    assert "3 of 9 images shown" in texts
    assert any(text.endswith("– wrong") for text in texts)


@pytest.mark.parametrize(("rows", "wrong"), [(3, (1, 8)), (1, (8,)), (3, ())])
def test_the_first_images_are_shown_where_one_is_wrong_already_or_one_alone_is_wanted(make_run, rows, wrong):
    run = make_run(sizes=((32, 32),) * 9, change=wrong_ones(*wrong))
    content = gather([run], small(rows=rows))
    assert [image.id for image in content.images] == [f"{at}.jpg" for at in range(rows)]


def test_a_label_that_is_no_class_tells_nothing_of_right_or_wrong(make_run):
    run = make_run(change=lambda row: replace(row, label="n02123045"))
    assert [image.wrong for image in gather([run], small()).images] == [None, None]


def test_images_are_shown_in_the_order_asked_for(make_run):
    run = make_run(sizes=((32, 32),) * 4)
    content = gather([run], small(images=("3.jpg", "0.jpg")))
    assert [image.id for image in content.images] == ["3.jpg", "0.jpg"]
    with pytest.raises(UsageError, match=r"no image '9\.jpg' in the run; expected .*'0\.jpg', '1\.jpg'"):
        gather([run], small(images=("9.jpg",)))


def test_images_that_failed_are_passed_over_and_counted(make_run, tmp_path):
    def change(row):
        return replace(row, map=None, error="broken file") if row.index == 0 else row

    run = make_run(sizes=((32, 32),) * 3, change=change)
    result = write_figure([run], tmp_path, options=small())
    assert [image.id for image in result.images] == ["1.jpg", "2.jpg"]
    assert "1 of 3 images failed and have no map" in result.warnings
    everything = make_run(change=lambda row: replace(row, map=None, error="broken file"))
    with pytest.raises(RunError, match="no map to show: 2 of its 2 images failed"):
        write_figure([everything], tmp_path, options=small())


def test_only_light_columns_are_read_of_images_that_are_not_shown(make_run, monkeypatch):
    run = make_run(sizes=((8, 8),) * 40)
    read, maps = [], []
    batches, decode = Run.batches, selection.table_to_rows
    monkeypatch.setattr(
        Run, "batches", lambda self, *columns: read.append(columns) or batches(self, *columns)
    )
    monkeypatch.setattr(
        "whycam.reports.figure.selection.table_to_rows",
        lambda table: maps.append(len(table)) or decode(table),
    )
    gather([run], small(rows=2))
    assert "map" not in read[0][0]
    assert sum(maps) == 2


def checkpoints(make_run, changes) -> list[Run]:
    return [
        make_run(
            model=ModelRecord(
                reference="demo", provenance=f"weights of w/model-{at}.pth", weights_sha256=f"{at}" * 64
            ),
            change=change,
        )
        for at, change in enumerate(changes)
    ]


def test_runs_of_other_weights_become_columns_with_their_own_predictions(make_run, tmp_path):
    runs = checkpoints(make_run, [wrong_ones(), wrong_ones(0)])
    result = write_figure(runs, tmp_path, options=small())
    assert result.arrangement == "checkpoints"
    assert [panel.letter for panel in result.panels] == ["(a)", "(b)", "(c)"]
    assert [panel.heading for panel in result.panels] == ["image", "model-0.pth", "model-1.pth"]
    assert result.images[0].predictions == ("cat (50.0%)", "dog (50.0%)")
    assert [image.wrong for image in result.images] == [True, False]
    words = [piece.text for piece in gather(runs, small()).images[0].words]
    assert words == ["true: cat", "predicted: (b) cat (50.0%)", "(c) dog (50.0%) – wrong"]


def test_a_run_with_several_targets_an_image_becomes_classes(make_run):
    def change(row):
        return replace(row, target_class=int(row.target[-1]))

    run = make_run(targets=("class 1", "class 2"), change=change)
    content = gather([run], small())
    assert content.arrangement == "classes"
    assert [(column.letter, column.heading) for column in content.columns] == [("(b)", "dog"), ("(c)", "owl")]


def test_several_runs_of_other_targets_become_classes_and_of_other_methods_methods(make_run):
    other_class = [make_run(targets=(target,)) for target in ("class 1", "class 2")]
    assert gather(other_class, small()).arrangement == "classes"
    other_method = [make_run(methods=(method,)) for method in ("gradcam", "layercam")]
    content = gather(other_method, small())
    assert content.arrangement == "methods"
    assert [column.heading for column in content.columns] == ["gradcam", "layercam"]
    forced = gather(other_method, small(columns="checkpoints", names=("before", "after")))
    assert [column.heading for column in forced.columns] == ["before", "after"]


def test_a_method_of_several_runs_is_told_apart_by_their_folders(make_run, tmp_path):
    runs = []
    for name in ("shallow", "deep"):
        folder = shutil.copytree(make_run().folder, tmp_path / name)
        runs.append(read_run(folder))
    headings = [column.heading for column in gather(runs, small()).columns]
    assert headings == ["gradcam shallow", "gradcam deep"]


def test_methods_can_be_chosen_and_more_than_eight_are_said_to_be_left_out(make_run):
    run = make_run(methods=(*METHODS, "fem"))
    assert [c.method for c in gather([run], small(methods=("cam", "fem"))).columns] == ["cam", "fem"]
    content = gather([run], small())
    assert len(content.columns) == 8
    assert "8 of 9 columns are shown; left out: fem" in content.warnings
    with pytest.raises(UsageError, match="no method 'lime' in these runs; pick some of gradcam"):
        gather([run], small(methods=("lime",)))
    with pytest.raises(UsageError, match="1 headings are given for 9 columns"):
        gather([run], small(names=("one",)))


@pytest.mark.parametrize("spoil", ["absent", "broken", "elsewhere"])
def test_a_picture_that_cannot_be_shown_leaves_a_cell_that_says_so(make_run, tmp_path, spoil):
    outside = tmp_path / "secret.jpg"
    Image.new("RGB", (64, 48), "red").save(outside)
    run = make_run(
        change=lambda row: replace(row, picture=str(outside)) if spoil == "elsewhere" else row, maps=corner
    )
    file = run.folder / "pictures" / "0.jpg"
    if spoil == "absent":
        file.unlink()
    elif spoil == "broken":
        file.write_bytes(b"no picture at all")
    note = {"absent": "file missing", "broken": "file broken", "elsewhere": "outside the run folder"}[spoil]
    result = write_figure([run], tmp_path / "out")
    assert result.images[0].notes == (f"(a) picture {note}",)
    plan = plan_figure(gather([run], small()), small())
    assert note.split()[-1] in " ".join(line.text for line in plan.inside)
    tile = pixels_of(run, tmp_path / "out", small(contours=()))
    assert tile[5, 5] == pytest.approx([128, 128, 128], abs=1), "the map is there, over gray"
    assert tile[-3, -3, 0] > 200


def test_a_blank_map_is_drawn_as_constant_and_said_to_be_blank(make_run, tmp_path):
    run = make_run(
        maps=lambda index: np.zeros((4, 4), np.float32),
        change=lambda row: replace(row, blank=True),
        picture=lambda high, wide: Image.new("RGB", (wide, high), (90, 90, 90)),
    )
    tile = pixels_of(run, tmp_path, small())
    assert np.ptp(tile.reshape(-1, 3), axis=0).max() <= 2
    assert write_figure([run], tmp_path, options=small()).images[0].notes == ("(b) blank: zero everywhere",)


def test_a_failed_map_is_an_empty_cell_that_says_so(make_run, tmp_path):
    def change(row):
        return replace(row, map=None, error="out of memory") if row.method == "rise" else row

    run = make_run(methods=("gradcam", "rise"), change=change)
    tile = pixels_of(run, tmp_path, small(), column=2)
    assert tuple(tile[2, 2]) == (0xEC, 0xEC, 0xEC)
    content = gather([run], small())
    assert "(c) failed: out of memory" in [piece.text for piece in content.images[0].words]
    assert "no map" in [line.text for line in plan_figure(content, small()).inside]


@pytest.mark.parametrize(
    "provenance",
    ["random weights: the maps say nothing about any trained model", "partly random weights: 3 of 9 loaded"],
)
def test_random_weights_are_said_on_the_figure_itself(make_run, tmp_path, provenance):
    model = ModelRecord(reference="demo", provenance=f"{provenance}; more", weights_sha256=None)
    run = make_run(model=model)
    plan = plan_figure(gather([run], small()), small())
    assert provenance == " ".join(line.text for line in plan.lines if line.tone == "alarm")
    assert write_figure([run], tmp_path, options=small()).cautions == (provenance,)


def test_a_name_that_no_font_has_is_its_index_with_one_warning(make_run, tmp_path):
    run = make_run(names=("cat", f"dog{PRIVATE}"))
    result = write_figure([run], tmp_path, options=small())
    assert result.images[1].predictions == ("class 1 (51.0%)",)
    assert [text for text in result.warnings if "no installed font" in text] == [
        text for text in result.warnings if "'class 1' is drawn instead" in text
    ]
    assert len(result.warnings) == 1
    texts = [line.text for line in plan_figure(gather_quietly(run), small()).lines]
    assert not any(PRIVATE in text for text in texts)
    assert any("true: class 1" in text for text in texts)


def gather_quietly(run: Run):
    with pytest.warns(UserWarning, match="no installed font"):
        return gather([run], small())


def test_what_stands_on_the_figure_is_not_read_as_a_formula(make_run, tmp_path):
    run = make_run(names=("cost $x_1$ of a_$cat",), sizes=((32, 32),))
    options = small()
    content = gather([run], options)
    plan = plan_figure(content, options)
    figure = draw(plan, make_panels(plan, content, options), options, tmp_path)
    assert any("$x_1$" in text.get_text() and not text.get_parse_math() for text in figure.axes[0].texts)


def test_a_figure_that_is_too_high_for_a_page_is_warned_about(make_run, tmp_path):
    run = make_run(sizes=((64, 20),) * 6, methods=METHODS)
    result = write_figure([run], tmp_path, options=small())
    assert any("inches high, a page holds 9; show fewer images" in text for text in result.warnings)
    content = gather([run], FigureOptions())
    assert plan_figure(content, FigureOptions()).bottom <= TALLEST


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"style": "poster"}, "pick one of paper, dark"),
        ({"width": 1.0}, "expected 3 to 20"),
        ({"dpi": 72}, "expected 300 to 1200"),
        ({"rows": 0}, "at least 1"),
        ({"contours": (0.8, 0.5)}, "rising numbers"),
        ({"colormap": "no such"}, "colormap 'no such' is unknown"),
        ({"style": "contour-only", "contours": ()}, "no contour level is given"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        FigureOptions(**wrong)


def test_no_run_and_a_folder_that_cannot_be_written_are_refused(make_run, tmp_path):
    with pytest.raises(UsageError, match="no run to draw"):
        write_figure([], tmp_path, options=small())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the figure"):
        write_figure([make_run()], tmp_path / "file" / "folder")
