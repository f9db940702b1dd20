"""The HTML document: templates, styles and scripts of this folder, put into one file."""

import base64
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import resources
from typing import Any

from whycam.errors import MissingExtraError
from whycam.reports.page.evaluation import EvaluationText
from whycam.reports.page.facts import RunText, Warned

_STYLES = ("theme.css", "layout.css", "list.css", "image.css")
_EVALUATION_STYLE = "evaluation.css"
# Later ones use what earlier ones define.
_SCRIPTS = (
    "dom.js",
    "data.js",
    "colours.js",
    "sampling.js",
    "settings.js",
    "panel.js",
    "query.js",
    "list.js",
    "image.js",
    "controls.js",
    "keyboard.js",
    "main.js",
)


def document(
    *,
    title: str,
    runs: Sequence[RunText],
    warnings: Sequence[Warned],
    evaluations: Sequence[EvaluationText],
    options: dict[str, Any],
    images: int,
    chunks: Iterator[str],
    index: str,
) -> Iterator[str]:
    """Return the document piece by piece; ``chunks`` and ``index`` are JSON that may stand in a script.

    Raises MissingExtraError without Jinja2.
    """
    styles = (*_STYLES, _EVALUATION_STYLE) if evaluations else _STYLES
    style = "\n".join(_read("style", name) for name in styles)
    script = '(() => {\n"use strict";\n' + "\n".join(_read("script", name) for name in _SCRIPTS) + "\n})();"
    pieces: Iterator[str] = (
        _environment()
        .get_template("page.html")
        .generate(
            title=title,
            runs=runs,
            warnings=warnings,
            evaluations=evaluations,
            options=options,
            images=images,
            chunks=chunks,
            index=index,
            style=style,
            script=script,
            policy=_policy(style, script),
        )
    )
    return pieces


def check_installed() -> None:
    """Raise MissingExtraError without Jinja2, before anything is read or written."""
    _environment()


def _policy(style: str, script: str) -> str:
    """Allow this very style and script, the data files that it asks for, and pictures beside the page.

    ``'self'`` is no place on ``file://`` for every browser, so that ``file:`` stands beside it.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}' 'strict-dynamic'",
            f"style-src '{_hash(style)}'",
            "img-src data: 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode("ascii")


def _read(folder: str, name: str) -> str:
    return resources.files(__package__).joinpath(folder, name).read_text(encoding="utf-8")


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError(
            "report.html needs jinja2, which is not installed; pip install 'whycam[report]'"
        ) from None

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _read("templates", name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
