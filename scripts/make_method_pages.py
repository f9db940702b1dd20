"""Write a page for each method from what the code says of it: docs/methods/NAME.md, with a picture.

    python scripts/make_method_pages.py              all of it, a few minutes
    python scripts/make_method_pages.py --text-only  the pages without their pictures, in seconds

The text is the method's docstring and its line in the registry, so it is mended there and not on the page.
The pictures are the demo network's, on one of the demo's images.
"""

import argparse
import inspect
import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image

import whycam
from whycam.cli.methods import KINDS
from whycam.demo import demo_images
from whycam.methods import METHODS, Method
from whycam.methods.gradient import WeightedSum
from whycam.methods.needs import NEEDS
from whycam.render import SheetRow, heatmap_picture, sheet, to_heatmaps

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = DOCS / "methods"
PICTURES = PAGES / "pictures"
WIDTH = 110

SHOWN = "12-four.png"
CELL, SCALE = 96, 1.5
MOST_BYTES = 20_000
COLOURS = ((64, 96), (64, 64), (48, 48), (32, 40), (32, 32), (24, 32), (24, 24), (16, 24), (16, 16))
"""How many colours of the map and of the photograph are tried, until a picture is small enough."""
GRAYS = (26, 64, 90, 128, 160, 192, 220, 240, 255)
ATTENTION_MODEL = "timm:vit_tiny_patch16_224"

ALIKE = (
    ("cam", "gradcam", "xgradcam", "hirescam", "shapleycam"),
    ("gradcam++", "smoothgradcam++"),
    ("layercam", "gradcam-elementwise"),
    ("eigengradcam", "segeigencam"),
    ("ablationcam", "liftcam"),
)
"""Methods whose maps are the same, up to a factor, on the demo's network."""

COSTS = {
    "F": "a forward of the whole model",
    "B": "a backward of the whole model",
    "s-backward": "a backward from the score to the layer",
    "s": "a forward of what follows the layer",
    "C": "the layer's channels",
    "Z": "the layer's positions",
    "tail": "what follows the last block, forward and back",
}
WORKS_ON = {
    "any": "any image model",
    "ViT": "vision transformers",
    "GAP head": "models whose head averages over the positions and is linear after that",
}
RESOLUTIONS = {
    "grid": "the layer's own grid",
    "size": "the image's own size",
    "cells": "a grid of the method's own, `cells` an axis",
    "finest": "the finest layer's grid",
}
SEES_NO_SCORE = {"images", "activations", "attentions", "tokens"}
"""What a method may ask for without learning which class is explained."""


def page_name(method: str) -> str:
    """Return the page's file name without its ending: no plus signs, which links would have to escape."""
    return method.replace("+", "-plus")


def said_of(method: Method) -> str:
    """Return the method's docstring; of a weighted sum, its weights' and then what becomes of them."""
    function = method.function
    if isinstance(function, WeightedSum):
        return f"{inspect.getdoc(function.weights)}\n\n{inspect.getdoc(function.__call__)}"
    return inspect.getdoc(function) or ""


def knows_class(method: Method) -> bool:
    """Say whether anything that the method is given depends on what is explained."""
    return not method.needs <= SEES_NO_SCORE


def resolution(method: Method) -> str:
    """Return the map's shape, as the docstring gives it, and what that resolution is."""
    (axes,) = set(re.findall(r"\[B, \*(\w+)\]", paragraph(said_of(method))))
    meaning = "the grid of the image's tokens" if method.takes_attention else RESOLUTIONS[axes]
    return f"`[B, *{axes}]`: B images, {meaning}"


def as_markdown(docstring: str) -> str:
    """Turn a docstring into paragraphs of Markdown, with formulas and shapes as code."""
    paragraphs = docstring.replace("``", "`").split("\n\n")
    return "\n\n".join(wrapped(shapes_as_code(one)) for one in paragraphs)


def shapes_as_code(text: str) -> str:
    """Join a paragraph's lines, and make code of its shapes: their stars would else be read as emphasis."""
    parts = re.split(r"(`[^`]*`)", paragraph(text))
    return "".join(
        part if part.startswith("`") else re.sub(r"\w*\[[^\]]+\]", r"`\g<0>`", part) for part in parts
    )


def paragraph(text: str) -> str:
    """Join a paragraph's lines."""
    return " ".join(text.split())


def wrapped(text: str) -> str:
    """Break a paragraph into lines, never inside code."""
    glued = re.sub(r"`[^`]*`", lambda code: code.group().replace(" ", "\0"), text)
    broken = textwrap.fill(glued, WIDTH, break_long_words=False, break_on_hyphens=False)
    return broken.replace("\0", " ")


def sentence(text: str) -> str:
    """Make a registry's summary a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Give a Markdown table's lines; bars inside cells are escaped."""
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def notation(method: Method) -> str:
    """Say what the letters of the formulas stand for, those that occur."""
    of_layer = bool(method.needs & {"activations", "stages"})
    meanings = [
        (r"\bA(_k)?\b", "`A` are the activations at the layer, `[B, C, *grid]`", of_layer),
        (r"\bg(_k)?\b", "`g` is the score's gradient at the layer, `[B, C, *grid]`", of_layer),
        (r"\bA\b", "`A` are a block's attention probabilities, `[B, heads, N, N]`", method.takes_attention),
        (r"\bg\b", "`g` is the score's gradient at them", method.takes_attention),
        (r"_k\b", "`k` numbers the channels", of_layer),
        (r"\bh\b", "`h` numbers the heads", method.takes_attention),
        (r"\bS\[", "`S[.]` sums over the grid's positions", of_layer),
        (r"\by\b", "`y` is the score that the target gives", knows_class(method)),
        (r"\bbands\b", "`bands` are the image's channels", True),
    ]
    text = said_of(method)
    # single letters are words elsewhere
    formulas = " ".join(re.findall(r"``[^`]*``|\w+[\[(][^\])]*[\])]|, \w+_\w\b", text))
    used = [meaning for pattern, meaning, applies in meanings if applies and re.search(pattern, formulas)]
    return wrapped(f"Here {'; '.join(used)}.") if used else ""


def cost(method: Method) -> str:
    """Return the method's cost with what its letters count."""
    letters = dict.fromkeys(re.findall(r"s-backward|\btail\b|\b[A-Z]\b|\bs\b", method.cost))
    return f"{method.cost} ({'; '.join(f'{letter}: {COSTS[letter]}' for letter in letters)})"


def layer(method: Method) -> str:
    """Say which layers the method looks at."""
    if method.takes_all_layers_at_once:
        return "several at once; one at each resolution unless they are given"
    if method.takes_layer:
        return "one, chosen by tracing unless it is given; maps of several are fused"
    return "none: all of the model's attention" if method.takes_attention else "none"


def facts(method: Method) -> Iterator[str]:
    """Give the table of what the registry knows."""
    explained = {
        "target": "the target's score",
        "difference": "the score less that of the classes most like it",
    }
    rows = [
        ("kind", f"{method.kind}: {KINDS[method.kind]}"),
        ("cost", cost(method)),
        ("layer", layer(method)),
        ("works on", WORKS_ON[method.works_on]),
        ("map", resolution(method)),
        ("knows the class", "yes" if knows_class(method) else "no: the same map for every class"),
        *([("explains", explained[method.explained])] if knows_class(method) else []),
        ("source", method.source),
        ("is given", "; ".join(f"`{need}`: {given(need)}" for need in NEEDS if need in method.needs)),
    ]
    yield from table(("", ""), rows)


def given(need: str) -> str:
    """Return what a method is given under a name."""
    return shapes_as_code(NEEDS[need].meaning)


def options(method: Method) -> Iterator[str]:
    """Give the table of the options, and how one is set."""
    if not method.parameters:
        yield "None."
        return
    signature = inspect.signature(method.function).parameters
    rows = [
        (f"`{name}`", f"`{type_name(signature[name].annotation)}`", f"`{literal(default)}`")
        for name, default in method.parameters.items()
    ]
    yield from table(("option", "type", "default"), rows)
    module, function = method.function.__module__, method.function.__name__
    values = ", ".join(f"{name}={literal(default)}" for name, default in method.parameters.items())
    room, name = module.rsplit(".", 1)
    call = f"with_options = partial({name}.{function}, {values})"
    yield from (
        "",
        "They are fixed in Python, here at their defaults; the command line takes the defaults.",
        "",
        "```python",
        "from functools import partial",
        "",
        f"from {room} import {name}",
        "",
        *([call] if len(call) <= WIDTH else broken_call(method)),
        'explanation = whycam.explain(model, ["photo.jpg"], method=with_options)',
        "```",
    )


def broken_call(method: Method) -> list[str]:
    """Return a long call of partial, an option a line."""
    name = method.function.__module__.rsplit(".", 1)[1]
    values = [f"    {option}={literal(default)}," for option, default in method.parameters.items()]
    return [
        "with_options = partial(",
        f"    {name}.{method.function.__name__},",
        *values,
        ")",
    ]


def literal(value: object) -> str:
    """Return a default as the code has it."""
    return repr(value).replace("'", '"')


def type_name(annotation: object) -> str:
    """Return a type as it is written in the code, without its modules."""
    return re.sub(r"\b[a-z_.]+\.(?=\w)", "", inspect.formatannotation(annotation)).replace("'", '"')


def calls(method: Method) -> Iterator[str]:
    """Give the line of Python and the command."""
    model = ATTENTION_MODEL if method.takes_attention else "demo"
    yield from (
        "```python",
        "import whycam",
        "",
        f'model = whycam.load("{model}")',
        f'explanation = whycam.explain(model, ["photo.jpg"], method="{method.name}")',
        "```",
        "",
        "```sh",
        f"whycam explain {model} photo.jpg --method {method.name} --out run-{page_name(method.name)}",
        "```",
    )
    if method.takes_attention:
        yield from (
            "",
            "Without `--download` or `--weights FILE` the weights are random, and the map says nothing.",
        )


@cache
def verification() -> str:
    """Return the page that `make verify` writes."""
    return (DOCS / "verification.md").read_text(encoding="utf-8")


def rows_with(method: str, page: str) -> Iterator[Mapping[str, str]]:
    """Give the rows of a page's tables that are about the method, by their heads."""
    head: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        head = (head or cells) if cells else []
        row = dict(zip(head, cells, strict=True)) if cells else {}
        if row.get("method") == f"`{method}`":
            yield row


def known_answers(method: str, page: str) -> list[str]:
    """Return the method's figures where the right answer is known, with what they are."""
    about = re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=\n- |\n\n)", page, flags=re.MULTILINE | re.DOTALL)
    meaning = {case: paragraph(text) for case, text in about}
    rows = list(rows_with(method, page))
    found = {
        case: figure
        for row in rows
        if "case" not in row
        for case, figure in row.items()
        if case != "method" and figure != "-"
    }
    figures = [(case, figure, meaning.get(case, "")) for case, figure in found.items()]
    claims = [(row["case"], row["expected"], row["measured"], row["holds"]) for row in rows if "case" in row]
    lines = list(table(("network", "figure", "what it is"), figures)) if figures else []
    if claims:
        lines += ["", "Said beforehand:", "", *table(("network", "expected", "measured", "holds"), claims)]
    return [*lines, "", "From [verification](../verification.md), which says more."] if lines else []


def picture_lines(method: Method) -> Iterator[str]:
    """Give the picture with its caption, or why there is none."""
    if method.takes_attention:
        yield wrapped(
            "There is no picture here: the demo's network is convolutional and has no attention to read, and "
            "a transformer with random weights would show nothing."
        )
        return
    alternative = f"An image, the map of {method.name} over it, and the map alone"
    yield f"![{alternative}](pictures/{page_name(method.name)}.png)"
    yield ""
    what = {
        "target": "the demo network's top class, four",
        "difference": "what sets the demo network's top class, four, apart",
    }[method.explained]
    shown = f"The map is of {what}" if knows_class(method) else "The map is the same for every class"
    drawn = "on the right it is alone, at its own resolution. Negative values are drawn as 0."
    yield wrapped(f"{shown}; {drawn}{alike(method)}")


def alike(method: Method) -> str:
    """Say which methods have the same picture, and why."""
    others = [f"`{name}`" for group in ALIKE if method.name in group for name in group if name != method.name]
    if not others:
        return ""
    why = "since its head averages over the positions and is linear after that; elsewhere they can differ"
    return f" On this network the map is that of {', '.join(others)} too, {why}."


def page(method: Method) -> str:
    """Return the method's page."""
    lines = [
        f"# {method.name}",
        "",
        wrapped(sentence(method.summary)),
        "",
        *picture_lines(method),
        "",
        "## What it computes",
        "",
        as_markdown(said_of(method)),
        "",
    ]
    if method.explained == "difference":
        finer = as_markdown(inspect.getdoc(whycam.Finer) or "")
        lines += ["Explained is not the class's score but the target `Finer()`:", "", finer, ""]
    if notation(method):
        lines += [notation(method), ""]
    lines += ["## Facts", "", *facts(method), "", "## Calling it", "", *calls(method), ""]
    lines += ["## Options", "", *options(method), ""]
    known = known_answers(method.name, verification())
    if known:
        lines += ["## Where the answer is known", "", *known, ""]
    return "\n".join([*lines, "[All methods](README.md), [how they compare](../methods.md)", ""])


def index() -> str:
    """Return the page that lists the methods by kind."""
    lines = [
        "# The methods, one by one",
        "",
        "`make method-pages` writes these pages from the code; [methods](../methods.md) compares them.",
        "",
    ]
    for kind, meaning in KINDS.items():
        rows = [
            (f"[`{method.name}`]({page_name(method.name)}.md)", method.summary, method.cost, method.source)
            for method in METHODS.values()
            if method.kind == kind
        ]
        if rows:
            heading = [f"## {kind.capitalize()}", "", sentence(meaning), ""]
            lines += [*heading, *table(("method", "what it shows", "cost", "source"), rows), ""]
    letters = "; ".join(f"{letter}: {meaning}" for letter, meaning in COSTS.items())
    return "\n".join([*lines, wrapped(f"Costs: {letters}."), ""])


def pages() -> dict[Path, str]:
    """Return every page with its text."""
    of_methods = {PAGES / f"{page_name(method.name)}.md": page(method) for method in METHODS.values()}
    return {PAGES / "README.md": index(), **of_methods}


def picture(method: str) -> bytes:
    """Return a PNG of the demo's image, the method's map over it, and the map at its own resolution."""
    (path,) = [one for one in demo_images() if one.name == SHOWN]
    explanation = whycam.explain(whycam.load("demo"), [path], method=method)
    (alone,) = to_heatmaps(explanation.maps, explanation.maps.shape[1:])
    side = round(CELL * SCALE)
    flat = heatmap_picture(alone).resize((side, side), Image.Resampling.NEAREST)
    image, over = Image.open(path).convert("RGB"), explanation.overlays()[0]
    row = SheetRow(image, [over, flat])
    layer = explanation.layer if METHODS[method].takes_layer else ""
    drawn = sheet(
        [row], columns=("map over it", "map alone"), title=method, layer=layer, cell=CELL, scale=SCALE
    )
    return smallest(drawn, (image, over))


def smallest(drawn: Image.Image, photographs: Sequence[Image.Image]) -> bytes:
    """Return the PNG with the most colours that is small enough for a repository."""
    for of_map, of_photographs in COLOURS:
        file = io.BytesIO()
        chosen = palette(photographs, of_map, of_photographs)
        drawn.quantize(palette=chosen, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


def palette(photographs: Sequence[Image.Image], of_map: int, of_photographs: int) -> Image.Image:
    """Return so many colours of the map, evenly spaced, so many of the photographs, and the text's grays."""
    wide = Image.new("RGB", (sum(one.width for one in photographs), photographs[0].height))
    for number, one in enumerate(photographs):
        wide.paste(one, (number * one.width, 0))
    found = wide.quantize(of_photographs).getpalette() or []
    scale = heatmap_picture(torch.linspace(0, 1, of_map).unsqueeze(0)).tobytes()
    grays = [level for level in GRAYS for _ in range(3)]
    chosen = Image.new("P", (1, 1))
    chosen.putpalette([*found[: 3 * of_photographs], *scale, *grays])
    return chosen


def main() -> None:
    """Write the pages, and the pictures unless only text is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text-only", action="store_true", help="leave the pictures as they are")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    if arguments.text_only:
        return
    torch.set_num_threads(1)  # the order of sums, and with it the pictures, should not hang on the machine
    for method in METHODS.values():
        if not method.takes_attention:
            (PICTURES / f"{page_name(method.name)}.png").write_bytes(picture(method.name))
            print(method.name, flush=True)


if __name__ == "__main__":
    main()
