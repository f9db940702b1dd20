"""``whycam doctor``: what is installed, and does it explain as it should?"""

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.options import JsonOption

if TYPE_CHECKING:
    from whycam.explanation import Explanation

NOT_FOR_USERS = frozenset({"dev", "bench"})
SCRIPTS = {"Chinese": "猫", "Japanese": "ねこ", "Korean": "고양이"}
TOLERANCE = 5e-3
"""How far a probability, or a map as a share of its peak, may be from the expected one."""


def doctor(json: JsonOption = False) -> Answer:
    """Check the installation, and that the demo's map comes out right.

    Exits with 0 when all is well and with 1 when something is missing or wrong. Nothing is downloaded.
    """
    required, extras = _packages()
    problems = [f"{name} is not installed; pip install whycam" for name in required if not required[name]]
    # without them nothing of the rest can be imported
    devices, fonts, tested = ({}, {}, {}) if problems else (_devices(), _fonts(), _self_test())
    problems += tested.get("problems", [])
    data = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": required,
        "extras": extras,
        "devices": devices,
        "fonts": fonts,
        "self_test": tested,
        "ok": not problems,
    }
    return Answer(_lines(data, problems), data, SOME_FAILED if problems else DONE)


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Return the versions of what whycam needs, None where absent, and the same for each extra."""
    needed: dict[str, str | None] = {"whycam": _version("whycam")}
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in (requires("whycam") or []) if needed["whycam"] else []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([^'\"]+)", requirement)
        if extra is None:
            needed[name] = _version(name)
        elif extra[1] not in NOT_FOR_USERS:
            extras.setdefault(extra[1], {})[name] = _version(name)
    return needed, extras


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "cpu": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
    }


def _fonts() -> dict[str, str | None]:
    """Return the file name of the font that draws class names in each script, None where there is none."""
    from whycam.render import font_for

    found = {script: font_for(text) for script, text in SCRIPTS.items()}
    return {script: path.name if path else None for script, path in found.items()}


def _self_test() -> dict[str, Any]:
    """Explain the demo's first image, and hold its numbers against those in the package."""
    try:
        from whycam.demo import demo_expectation, demo_images
        from whycam.explainer import explain
        from whycam.models import load

        expected = demo_expectation()
        (image,) = (path for path in demo_images() if path.name == expected["image"])
        explanation = explain(load("demo"), [image], method=expected["method"], layer=expected["layer"])
        return _compared(explanation, expected)
    # whatever is wrong with the installation is what this command is to tell
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return {"problems": [f"the self-test failed: {said}; install whycam and its packages again"]}


def _compared(explanation: "Explanation", expected: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    probabilities = explanation.outputs[0].softmax(0)
    prediction = int(probabilities.argmax())
    probability = float(probabilities[expected["class"]])
    found, map_ = explanation.maps[0].double(), torch.tensor(expected["map"], dtype=torch.float64)
    heat = explanation.heatmaps()
    same_grid = found.shape == map_.shape
    deviation = float((found - map_).abs().max() / map_.abs().max()) if same_grid else math.inf
    wanted, sure = expected["class"], expected["probability"]
    checks = {
        f"the prediction is class {prediction}, expected {wanted}": prediction == wanted,
        f"the probability is {probability:.4f}, expected {sure:.4f}": abs(probability - sure) <= TOLERANCE,
        "the map holds NaN or infinity": bool(found.isfinite().all()),
        f"the map is off by {deviation:.2g} of its peak, expected {TOLERANCE} at most": (
            deviation <= TOLERANCE
        ),
        "the heatmap is not normalised to [0, 1]": float(heat.min()) >= 0 and float(heat.max()) == 1,
    }
    mend = "install torch again, or report it with what whycam doctor --json prints"
    wrong = [f"the self-test failed: {text}; {mend}" for text, holds in checks.items() if not holds]
    return {
        "image": expected["image"],
        "prediction": prediction,
        "probability": probability,
        "map_deviation": deviation,
        "problems": wrong,
    }


def _lines(data: Mapping[str, Any], problems: Sequence[str]) -> list[str]:
    rows = [("python", f"{data['python']} on {data['platform']}")]
    rows += [(name, found or "not installed") for name, found in data["packages"].items()]
    rows += [(f"extra {name}", _extra_text(name, packages)) for name, packages in data["extras"].items()]
    rows += _device_rows(data["devices"]) if data["devices"] else []
    rows += [(f"font {script}", name or _FONTS_MEND) for script, name in data["fonts"].items()]
    rows += _test_rows(data["self_test"])
    verdict = [f"problem: {problem}" for problem in problems] or ["all is well"]
    return [*table(("", ""), rows)[1:], "", *verdict]


def _device_rows(devices: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("device cpu", f"{devices['cpu']['threads']} threads")]
    rows += [(f"device cuda:{number}", name) for number, name in enumerate(devices["cuda"])]
    return [*rows, ("device mps", "available")] if devices["mps"] else rows


def _test_rows(tested: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "image" not in tested:
        return []
    said = f"class {tested['prediction']} ({tested['probability']:.1%})"
    return [("self-test", f"{tested['image']}: {said}, its map off by {tested['map_deviation']:.1g}")]


_FONTS_MEND = "none, names are drawn as their index; pip install 'whycam[fonts]'"


def _extra_text(extra: str, packages: Mapping[str, str | None]) -> str:
    there = ", ".join(f"{name} {found}" for name, found in packages.items() if found)
    absent = ", ".join(name for name, found in packages.items() if not found)
    missing = f"{absent} not installed; pip install 'whycam[{extra}]'" if absent else ""
    return "; ".join(part for part in (there, missing) if part)
