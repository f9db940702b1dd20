"""A browser for the tests of pages, and runs to write pages of."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, Run, RunWriter, read_run

SIZE = (64, 48)
"""The pictures' (height, width)."""


PATIENCE = 10_000
"""Milliseconds to wait for what a quiet machine shows at once."""


@dataclass
class Seen:
    """A page in the browser, and what it complained of or asked the network for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def hear(self, message: Any) -> None:
        """Keep what the page says on the console, but for what only the tests' reading of pixels causes."""
        if "willReadFrequently" not in message.text:
            self.complaints.append(message.text)

    def names(self) -> list[str]:
        """The names on the cards in the document, in their order."""
        return self.page.eval_on_selector_all(".card .name", "all => all.map(one => one.textContent)")

    def settle(self) -> None:
        """Wait until every picture in the window is drawn."""
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.frame')].every(one => 'drawn' in one.dataset)"
            " && [...document.querySelectorAll('img')].every(one => one.complete)"
        )

    def change(self, control: str, value: str) -> None:
        """Set a control as a user does, and wait until the list and the maps have followed."""
        self.page.evaluate(
            "([id, value]) => { const control = document.getElementById(id); control.value = value;"
            " control.dispatchEvent(new Event('input', {bubbles: true})) }",
            [control, value],
        )
        self.page.wait_for_timeout(120)


class Browser:
    """Headless Chromium; ``open`` gives a page in a context of its own."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(
        self, path: Path, address: str = "", *, width: int = 1200, height: int = 2300, scheme: str = "light"
    ) -> Iterator[Seen]:
        """Open a page from ``file://``; at the end nothing was complained of, nothing left the machine."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        seen = Seen(page)
        page.on("console", seen.hear)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: seen.requests.append(request.url))
        try:
            page.goto(f"{path.resolve().as_uri()}{address}")
            yield seen
            assert seen.complaints == []
            assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
        finally:
            context.close()


def _absent(reason: str) -> None:
    if os.environ.get("WHYCAM_NEEDS_ALL") == "1":
        pytest.fail(f"{reason}, and WHYCAM_NEEDS_ALL=1 says that it must be there")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give headless Chromium, one a module."""
    executable = shutil.which("chromium")
    if executable is None:
        _absent("chromium is not installed (scripts/system_packages.sh)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed (pip install 'whycam[dev]')")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()


@contextmanager
def without_checks() -> Iterator[None]:
    """Turn the types' checks off: of the many calls for many rows they would take most of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def manifest(**changes: Any) -> Manifest:
    """Give a manifest as a run of a timm model would have it."""
    known: dict[str, Any] = {
        "command": ("whycam", "explain", "timm:resnet18", "two words"),
        "versions": {"whycam": "0.1.0", "torch": "2.10.0"},
        "device": "cpu",
        "seed": 7,
        "model": ModelRecord(
            reference="timm:resnet18", provenance="weights of best.pth", weights_sha256="ab" * 32
        ),
        "preprocessing": {"resize": "shorter", "size": [32, 32]},
        "class_names": ("cat", "犬"),
        "methods": (MethodRecord(name="gradcam"), MethodRecord(name="layercam")),
        "target": "top class",
        "layer": LayerRecord(paths=("layer4",), reason="the deepest block with gradient everywhere"),
        "sources": ("cats",),
        "image_count": 6,
        "style": {"colormap": "viridis"},
        "created": "2026-01-02T03:04:05Z",
    }
    return Manifest(**{**known, **changes})


def jpeg(shade: int = 128, size: tuple[int, int] = SIZE) -> bytes:
    """Encode a gray picture of (height, width)."""
    buffer = BytesIO()
    Image.new("RGB", (size[1], size[0]), (shade, shade, shade)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def ramp(height: int = 4, width: int = 3) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give a map that rises from its first to its last cell, with evidence against the target too."""
    return np.linspace(-0.5, 2.0, height * width, dtype=np.float32).reshape(height, width)


def row(index: int, **changes: Any) -> Row:
    """Give a row of an image that is a cat and is taken for one."""
    known: dict[str, Any] = {
        "id": f"{index}.jpg",
        "path": f"cats/{index}.jpg",
        "content_hash": f"{index:02x}" * 32,
        "label": "cat",
        "prediction": 0,
        "prediction_name": "cat",
        "probability": 0.9,
        "target": "top class",
        "target_class": 0,
        "score": float(index),
        "method": "gradcam",
        "layer": "layer4",
        "map": ramp(),
        "original": SIZE,
        "box": (0.0, 0.0, *map(float, SIZE)),
    }
    return Row(index=index, **{**known, **changes})


def write_run(
    folder: Path,
    rows: Sequence[Row],
    *,
    pictures: Mapping[str, bytes] | None = None,
    finished: Any = True,
    **changes: Any,
) -> Run:
    """Write a run; ``pictures`` are files' contents by name, as rows name them."""
    with RunWriter.create(folder, manifest(**changes)) as writer:
        for name, content in (pictures or {}).items():
            assert writer.save_picture(name, content) == name
        writer.write(rows)
        if finished:
            writer.finish()
    return read_run(folder)
