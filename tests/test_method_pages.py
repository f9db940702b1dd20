"""The page of each method says what the code says now; its picture is there, and its links lead somewhere."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import whycam
from whycam.demo import demo_images
from whycam.methods import METHODS
from whycam.methods.gradient import WeightedSum

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "methods"
DRAWN = [name for name, method in METHODS.items() if not method.takes_attention]
FIGURES = """
- **flat head**: the largest gap;
  0 is right.
- **one-cell head**: the share outside.

| method | flat head | one-cell head |
| --- | --- | --- |
| `gradcam` | - | 0.62 |
| `hirescam` | 3e-07 | 0 |

| case | method | expected | measured | holds |
| --- | --- | --- | --- | --- |
| one-cell head | `hirescam` | 0 within 1e-06 | 0 | yes |
"""


@pytest.fixture(scope="module")
def made() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        return importlib.import_module("make_method_pages")


def test_every_method_has_its_page_and_no_page_is_left_over(made: ModuleType) -> None:
    assert {path.name for path in PAGES.glob("*.md")} == {path.name for path in made.pages()}
    assert {f"{made.page_name(name)}.md" for name in METHODS} <= {path.name for path in made.pages()}


def test_the_pages_are_what_the_code_says_now(made: ModuleType) -> None:
    old = [path.name for path, text in made.pages().items() if path.read_text(encoding="utf-8") != text]
    assert old == [], "python scripts/make_method_pages.py --text-only writes them again"


def test_a_changed_docstring_changes_the_page(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made.page(METHODS["rise"])
    monkeypatch.setattr(METHODS["rise"].function, "__doc__", "Something else. Returns [B, *size].")
    assert "Something else. Returns `[B, *size]`." in made.page(METHODS["rise"])
    assert made.page(METHODS["rise"]) != before


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_small_and_shows_something(made: ModuleType, name: str) -> None:
    path = PAGES / "pictures" / f"{made.page_name(name)}.png"
    assert path.stat().st_size <= made.MOST_BYTES
    with Image.open(path) as picture:
        assert picture.width > 400
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 16)) > 24


def test_pictures_differ_and_none_is_left_over(made: ModuleType) -> None:
    pictures = {path.stem: path.read_bytes() for path in (PAGES / "pictures").iterdir()}
    assert pictures.keys() == {made.page_name(name) for name in DRAWN}
    assert len(set(pictures.values())) == len(pictures)


def test_the_methods_that_are_said_to_be_alike_on_the_demo_are(made: ModuleType) -> None:
    model, (path, *_) = whycam.load("demo"), demo_images()
    for group in made.ALIKE:
        first, *others = (whycam.explain(model, [path], method=name).heatmaps() for name in group)
        assert all(torch.allclose(first, other, atol=1e-4) for other in others), group


def test_a_method_on_attention_says_why_it_has_no_picture(made: ModuleType) -> None:
    page = made.page(METHODS["rollout"])
    assert "](pictures/" not in page
    assert "has no attention to read" in page


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_tells_shape_source_and_every_option(made: ModuleType, name: str) -> None:
    method = METHODS[name]
    said = made.paragraph(made.said_of(method))
    assert re.search(r"\[B, \*\w+\]", said)
    assert "Source: " in said or method.kind == "control"
    assert [option for option in method.parameters if f"``{option}``" not in said] == []
    lines = (
        inspect.getdoc(
            method.function.weights if isinstance(method.function, WeightedSum) else method.function
        )
        or ""
    ).splitlines()
    assert lines[0].endswith((".", ":"))


def test_only_methods_that_say_so_are_blind_to_the_class(made: ModuleType) -> None:
    blind = {name for name, method in METHODS.items() if not made.knows_class(method)}
    said = {name for name, method in METHODS.items() if "blind to the class" in method.summary}
    assert blind == said | {"random", "centre", "edges"}


def test_stars_of_shapes_are_no_emphasis_and_formulas_are_not_broken(made: ModuleType) -> None:
    text = made.as_markdown("Of [B, *grid] and ``a [B,\n*size]`` too.\n\n" + "word " * 21 + "``one formula``")
    first, second = text.split("\n\n")
    assert first == "Of `[B, *grid]` and `a [B, *size]` too."
    assert second.splitlines()[1] == "`one formula`"


def test_figures_are_shown_where_they_were_measured_and_left_out_where_not(made: ModuleType) -> None:
    shown = "\n".join(made.known_answers("hirescam", FIGURES))
    assert "| flat head | 3e-07 | the largest gap; 0 is right. |" in shown
    assert "| one-cell head | 0 within 1e-06 | 0 | yes |" in shown
    assert "flat head" not in "\n".join(made.known_answers("gradcam", FIGURES))
    assert made.known_answers("rise", FIGURES) == []


def test_the_overview_links_every_method_to_its_page(made: ModuleType) -> None:
    overview = (PAGES.parent / "methods.md").read_text(encoding="utf-8")
    assert [n for n in METHODS if f"[`{n}`](methods/{made.page_name(n)}.md)" not in overview] == []


@pytest.mark.parametrize("name", METHODS)
def test_the_python_of_a_page_compiles_and_finds_the_method(made: ModuleType, name: str) -> None:
    from whycam.methods import find_method

    blocks = re.findall(r"```python\n(.*?)```", made.page(METHODS[name]), flags=re.DOTALL)
    setting = "\n".join(line for block in blocks for line in block.splitlines() if "model" not in line)
    names: dict[str, object] = {}
    exec(setting, names)
    if METHODS[name].parameters:
        assert find_method(names["with_options"]).needs == METHODS[name].needs
