import warnings
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whycam.errors import UsageError
from whycam.render import ConstantOpacity, MissingGlyphWarning, SheetRow, colorise, sheet
from whycam.render.sheet import Legend, Plan, Style, plan_sheet
from whycam.render.text import text_width

sheet_module = import_module("whycam.render.sheet")  # the package's attribute of that name is the function

LEGEND = Legend("viridis", "0 = no evidence", "1 = strongest in this image", "how it was made · layer x")
NAMES = ["gradcam", "smoothgradcam++ with n = 25 and sigma = 0.15 of the range", "猫の方法", "الطريقة", ""]


def plain(width: int = 40, height: int = 30, colour: str = "navy") -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def framed(size: int, colour: tuple[int, int, int]) -> Image.Image:
    """A picture with a border that nothing else on a sheet has."""
    pixels = np.full((size, size, 3), 128, np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = colour
    return Image.fromarray(pixels)


def planned(rows, columns, *, cell=120.0, scale=1.0, title="", left_out=0) -> Plan:
    return plan_sheet(rows, columns, title, LEGEND, Style(cell * scale, scale), left_out=left_out)


def overlap(first, second) -> bool:
    """Whether two rectangles share more than an edge."""
    return min(first[2], second[2]) - max(first[0], second[0]) > 0.01 and (
        min(first[3], second[3]) - max(first[1], second[1]) > 0.01
    )


def assert_tidy(plan: Plan, margin: float) -> None:
    rects = list(plan.rects())
    for left, top, right, bottom in rects:
        assert left >= margin - 0.5
        assert top >= margin - 0.5
        assert right <= plan.width - margin + 0.5
        assert bottom <= plan.bottom - margin + 0.5
    for first, second in combinations(rects, 2):
        assert not overlap(first, second), (first, second)
    for tile in plan.tiles:
        for label in tile.labels:
            assert tile.rect[0] <= label.rect[0] <= label.rect[2] <= tile.rect[2]
            assert tile.rect[1] <= label.rect[1] + 0.01
            assert label.rect[3] <= tile.rect[3] + 0.01


TEXTS = st.text(st.sampled_from("abcdefW._/ ·猫ق"), max_size=90)


@st.composite
def contents(draw):
    columns = draw(st.lists(st.sampled_from(NAMES), min_size=0, max_size=4))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        picture = plain(draw(st.integers(1, 300)), draw(st.integers(1, 300)))
        overlays = [picture if draw(st.booleans()) else None for _ in columns]
        notes = [draw(TEXTS) for _ in columns] if draw(st.booleans()) else []
        caption = draw(st.lists(TEXTS, max_size=2).map("\n".join))
        rows.append((picture, overlays, caption, notes))
    return rows, columns


@settings(max_examples=25, deadline=None)
@given(
    content=contents(),
    cell=st.sampled_from([8.0, 40.0, 120.0, 224.0]),
    scale=st.sampled_from([0.8, 1.0, 2.0]),
    title=TEXTS,
    left_out=st.integers(0, 2),
)
def test_nothing_on_a_sheet_overlaps_or_reaches_into_the_margin(content, cell, scale, title, left_out):
    rows, columns = [SheetRow(*row) for row in content[0]], content[1]
    plan = planned(rows, columns, cell=cell, scale=scale, title=title, left_out=left_out)
    assert_tidy(plan, 16 * scale)


@settings(max_examples=6, deadline=None)
@given(content=contents(), cell=st.sampled_from([16, 60, 100]))
def test_the_margin_of_the_painted_sheet_is_white(content, cell):
    rows, columns = [SheetRow(*row) for row in content[0]], content[1]
    drawn = np.asarray(sheet(rows, columns=columns, cell=cell, scale=1.0, title="猫 title · gradcam"))
    inside = np.zeros(drawn.shape[:2], bool)
    inside[12:-12, 12:-12] = True  # 16, less the little that a slanted letter leans out
    assert (drawn[~inside] == 255).all()


def test_every_picture_is_painted_whole_and_unscaled_where_it_fits():
    red, green, blue = (250, 1, 2), (3, 251, 4), (5, 6, 252)
    row = SheetRow(framed(80, red), [framed(80, green), framed(80, blue)], "caption", ["note", ""])
    drawn = np.asarray(sheet([row], columns=["a", "b"], cell=40, scale=2.0))
    for colour in (red, green, blue):
        rows, columns = np.nonzero((drawn == colour).all(-1))
        assert len(rows) == 4 * 79
        assert rows.max() - rows.min() == columns.max() - columns.min() == 79


def test_pictures_keep_their_aspect_and_fit_their_cell():
    plan = planned([SheetRow(plain(300, 100), [plain(100, 300)])], ["a"], cell=120.0)
    wide, tall = (tile.rect for tile in plan.tiles[:2])
    assert (wide[2] - wide[0], wide[3] - wide[1]) == (120, 40)
    assert (tall[2] - tall[0], tall[3] - tall[1]) == (40, 120)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_pictures_of_any_aspect_are_drawn(size):
    row = SheetRow(plain(*size), [plain(*size), None], "a caption")
    assert_tidy(planned([row], ["a", "b"]), 16.0)
    drawn = np.asarray(sheet([row], columns=["a", "b"], cell=60))
    assert (drawn == (0, 0, 128)).all(-1).sum() >= 2 * 4 * 60


def test_the_colour_bar_runs_through_the_colormap_between_labels_that_say_what_it_means():
    plan = planned([SheetRow(plain(), [plain()])], ["a"])
    bar = plan.tiles[-1]
    assert np.array_equal(np.asarray(bar.picture)[0], colorise(np.linspace(0, 1, 256)[None], "viridis")[0])
    lowest = next(label for label in plan.labels if label.text == "0 = no evidence")
    highest = next(label for label in plan.labels if label.text == "1 = strongest in this image")
    assert lowest.rect[2] < bar.rect[0] < bar.rect[2] < highest.rect[0]


@pytest.fixture
def painted(monkeypatch) -> list[str]:
    """The lines of text that are painted, as they are painted."""
    lines: list[str] = []
    real = sheet_module.draw_text

    def noting(draw, at, text, *, size, fill):
        lines.append(text)
        real(draw, at, text, size=size, fill=fill)

    monkeypatch.setattr(sheet_module, "draw_text", noting)
    return lines


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "0 = no evidence"),
        ({}, "1 = strongest in this image"),
        ({"normalised": "shared"}, "1 = strongest in these images"),
        ({}, "rectified → resized (bilinear) → normalised per image"),
        ({"normalised": "shared"}, "normalised per batch"),
        ({"layer": "layer4.2"}, "layer layer4.2"),
        ({}, "opacity rises with the value to 80%"),
        ({"opacity": ConstantOpacity(0.25)}, "colour at 25% opacity"),
        ({"limit": 1}, "… and 2 more images, not drawn here"),
        ({"limit": 2}, "… and 1 more image, not drawn here"),
        ({"title": "timm:resnet50"}, "timm:resnet50"),
    ],
)
def test_the_sheet_says(options, said, painted):
    sheet([SheetRow(plain(), [plain()])] * 3, columns=["gradcam"], **options)
    assert said in " ".join(painted)


@pytest.mark.parametrize(
    ("options", "unsaid"), [({}, "more image"), ({}, "layer"), ({"opacity": None}, "opacity")]
)
def test_the_sheet_does_not_say(options, unsaid, painted):
    sheet([SheetRow(plain(), [plain()])] * 3, columns=["gradcam"], **options)
    assert unsaid not in " ".join(painted)


def test_a_long_file_name_is_cut_in_its_middle_and_the_labels_stay(painted):
    caption = f"IMG_{'0' * 200}_final.jpeg · true 猫 · predicted Egyptian cat 93 %"
    sheet([SheetRow(plain(), [plain()], caption)], columns=["gradcam"])
    line = next(line for line in painted if "…" in line)
    assert line.startswith("IMG_")
    assert line.endswith("_final.jpeg · true 猫 · predicted Egyptian cat 93 %")


def test_a_long_method_name_is_cut_to_its_column():
    plan = planned([SheetRow(plain(), [plain(), plain()])], [NAMES[1], "b"])
    head = next(label for label in plan.labels if label.text.startswith("smooth"))
    assert "…" in head.text
    assert text_width(head.text, head.size) <= 120


def test_a_blank_cell_says_why(painted):
    sheet([SheetRow(plain(), [None, None], notes=["file is truncated", ""])], columns=["a", "b"])
    assert "file is truncated" in painted
    assert "no map" in painted


def test_a_blank_cell_breaks_a_long_reason_into_lines_and_ends_it_with_an_ellipsis(painted):
    reason = "the target has no positive evidence at this layer " * 20
    sheet([SheetRow(plain(30, 30), [None], notes=[reason])], columns=["a"], cell=120)
    lines = [line for line in painted if "evidence" in line and "=" not in line]
    assert len(lines) >= 3
    assert sum("…" in line for line in painted) == 1


def test_one_image_without_methods_is_a_sheet_too():
    assert_tidy(planned([SheetRow(plain(), [])], []), 16.0)


def test_the_rows_beyond_the_limit_are_not_drawn():
    shown, hidden = SheetRow(plain(colour="navy"), []), SheetRow(plain(colour="red"), [])
    drawn = np.asarray(sheet([shown, shown, hidden], columns=[], limit=2))
    assert (drawn == (0, 0, 128)).all(-1).any()
    assert not (drawn == (255, 0, 0)).all(-1).any()


def test_twice_the_scale_is_the_same_sheet_with_twice_the_pixels():
    rows = [SheetRow(plain(), [plain()], "caption")]
    single, double = (sheet(rows, columns=["a"], scale=scale) for scale in (1.0, 2.0))
    assert abs(double.width - 2 * single.width) <= 4
    assert abs(double.height - 2 * single.height) <= 4


def test_a_sheet_too_large_for_viewers_is_drawn_at_a_lower_scale(monkeypatch):
    rows = [SheetRow(plain(), [plain()], "caption")] * 3
    whole = sheet(rows, columns=["a"])
    monkeypatch.setattr(sheet_module, "PIXEL_LIMIT", 300_000)
    smaller = sheet(rows, columns=["a"])
    assert whole.width * whole.height > 300_000 >= smaller.width * smaller.height
    assert smaller.width / smaller.height == pytest.approx(whole.width / whole.height, rel=0.05)


def test_a_small_picture_is_enlarged_in_squares():
    checks = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("RGB")
    drawn = np.asarray(sheet([SheetRow(checks, [])], columns=[], cell=100, scale=1.0, title=""))
    rows, columns = np.nonzero((drawn == 0).all(-1)[:150])
    block = drawn[rows.min() : rows.min() + 100, columns.min() : columns.min() + 100]
    assert set(np.unique(block)) <= {0, 255}


def test_text_that_no_font_has_warns_once_and_is_escaped(painted):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sheet([SheetRow(plain(), [plain()], "cat \U0010f123")], columns=["a"])
    assert [warning.category for warning in caught] == [MissingGlyphWarning]
    assert r"cat \U0010f123" in painted


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([], ["a"], "no rows"),
        ([SheetRow(plain(), [plain()])], ["a", "b"], "row 0 .* 1 overlays and 0 notes for 2 columns"),
        ([SheetRow(plain(), [plain()], notes=["x", "y"])], ["a"], "1 overlays and 2 notes for 1 columns"),
    ],
)
def test_rows_that_do_not_fit_the_columns_are_refused(rows, columns, message):
    with pytest.raises(UsageError, match=message):
        sheet(rows, columns=columns)


@pytest.mark.parametrize("options", [{"limit": 0}, {"cell": 0}, {"scale": 0.0}])
def test_a_sheet_without_room_is_refused(options):
    with pytest.raises(UsageError, match="expected positive numbers"):
        sheet([SheetRow(plain(), [])], columns=[], **options)


def test_what_must_be_said_of_the_weights_stands_whole_in_the_footer(monkeypatch):
    plans = []
    paint = sheet_module._paint
    monkeypatch.setattr(sheet_module, "_paint", lambda plan: plans.append(plan) or paint(plan))
    title = "package.module:" + "a_long_name_" * 20 + " with partly random weights: 60 of 62 loaded"
    for caution in ("partly random weights: 60 of 62 loaded", None):
        sheet([SheetRow(plain(), [plain()])], columns=["gradcam"], title=title, caution=caution)
    said, unsaid = (" ".join(label.text for label in plan.labels[3:]) for plan in plans)
    assert "partly random weights: 60 of 62 loaded" in said
    assert "random" not in unsaid
