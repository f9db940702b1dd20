"""The guides: what they tell to type works, their figures were measured, both languages say the same."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from whycam.demo import demo_images

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ["choosing-a-layer", "choosing-a-method", "reading-a-heatmap", "can-i-trust-it"]
CHINESE = re.compile("[\u4e00-\u9fff]")


def text_of(guide: str, language: str = "") -> str:
    return (DOCS / f"{guide}{language}.md").read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines()]


def test_what_the_guides_tell_to_type_works(tmp_path: Path) -> None:
    Image.open(demo_images()[0]).convert("RGB").resize((301, 223)).save(tmp_path / "photo.jpg")
    typed = [shlex.split(command)[1:] for guide in GUIDES for command in commands(text_of(guide))]
    python = "\n".join(block for guide in GUIDES for block in blocks(text_of(guide), "python"))
    # one process for all of them: most of the time goes into the imports
    code = f"import whycam.cli\nprint([whycam.cli.run(words) for words in {typed!r}])\n{python}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str([0] * len(typed)) in done.stdout.splitlines()
    assert "blocks.10 is explained" in done.stdout
    for words in typed:
        if words[0] == "explain" and "--out" in words:
            overlays = list((tmp_path / words[-1] / "overlays").rglob("*.png"))
            assert len(overlays) == max(1, words.count("--method"))
    assert (tmp_path / "against-zero.png").stat().st_size > 0


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guides_figures_are_in_the_verification(guide: str) -> None:
    measured = (DOCS / "verification.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in re.findall(r"^\| `.*", measured, re.MULTILINE)[::-1]}
    for method, figures in re.findall(r"^\| `(.*?)` \| (\d.*)\|$", text_of(guide), re.MULTILINE):
        cells = [cell.split(" ")[0] for cell in rows[method].split(" | ")]
        assert cells[3:] == figures.strip().split(" | "), method
    for figure in re.findall(r"\b0\.\d+\b", text_of(guide)):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}\b", measured), figure


@pytest.mark.parametrize("guide", GUIDES)
def test_both_languages_say_the_same(guide: str) -> None:
    english, chinese = text_of(guide), text_of(guide, ".zh-CN")
    assert commands(english) == commands(chinese)
    codes = zip(blocks(english, "python"), blocks(chinese, "python"), strict=True)
    assert all(re.sub(r"\s*#.*", "", one) == re.sub(r"\s*#.*", "", other) for one, other in codes)
    for counted in (r"^#+ ", r"^- \*\*", r"^\d\. ", r"^\|"):
        assert len(re.findall(counted, english, re.MULTILINE)) == len(
            re.findall(counted, chinese, re.MULTILINE)
        ), counted
    for named in (r"`[^`\n]+`", r"\d+\.\d+"):
        assert set(re.findall(named, english)) == set(re.findall(named, chinese)), named
    links = [
        {link.replace(".zh-CN", "") for link in re.findall(r"\]\(([^)]+)\)", text)}
        for text in (english, chinese)
    ]
    assert links[0] == links[1]
    assert not CHINESE.search(english.replace("中文", ""))
