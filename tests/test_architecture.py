"""The house: arrows point one way, hooks live in the engine, tensors stay on the device."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "whycam"

# A room may import from rooms of a lower rank, and from itself. Rooms of one rank don't know each other.
RANKS = {
    "types": 0,
    "errors": 0,
    "targets": 1,
    "engine": 1,
    "methods": 1,
    "render": 1,
    "store": 1,
    "decomposition": 2,
    "explainer": 2,
    "explanation": 2,
    "passes": 2,
    "rows": 2,
    "data": 3,
    "demo": 3,
    "models": 4,
    "runs": 5,
    "training": 5,
    "selection": 5,
    "callbacks": 5,
    "testbeds": 5,
    "evaluation": 6,
    "reports": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}
# One room in a few files: what an explanation is, how it is made, how it is kept.
TOGETHER = {"decomposition", "explainer", "explanation", "passes", "rows"}
HOOKS = {
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_post_accumulate_grad_hook",
    "register_multi_grad_hook",
    "register_hook",
    "saved_tensors_hooks",
}
AUTOGRAD = {"backward", "grad", "enable_grad", "requires_grad_"}
# Training takes the parameters' gradients, which explaining never does: here, and nowhere else.
TRAINS = {Path("testbeds/training.py")}
TO_HOST = {"cpu", "numpy", "item"}
ON_THE_HOST = {"figures.py", "measurements.py", "summary.py", "verdict.py"}
"""Files of evaluation that work on figures which have left the device."""


def room_of(file: Path, root: Path) -> str:
    return file.relative_to(root).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give (line, room) for each import of a room of whycam, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
            if node.module == "whycam":
                names = [f"whycam.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "whycam":
                yield node.lineno, rest.split(".")[0] or "__init__"


def called_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.lineno, node.func.attr


def violations(root: Path) -> list[str]:
    found = []
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        room = room_of(file, root)
        where = file.relative_to(root)
        for line, other in imported_rooms(tree):
            together = {room, other} <= TOGETHER
            if room != other and not together and RANKS.get(other, 8) >= RANKS[room]:
                found.append(f"{where}:{line}: {room} imports {other}")
        for line, name in called_names(tree):
            trains = name == "backward" and where in TRAINS
            if name in HOOKS | AUTOGRAD and room != "engine" and not trains:
                found.append(f"{where}:{line}: {name} outside the engine")
            on_the_device = room in ("engine", "methods", "evaluation") and file.name not in ON_THE_HOST
            if name in TO_HOST and on_the_device:
                found.append(f"{where}:{line}: .{name}() in {room}")
    return found


def test_arrows_point_one_way_and_each_room_keeps_to_its_trade() -> None:
    assert violations(SOURCE) == []


def test_every_room_has_a_rank() -> None:
    rooms = {room_of(file, SOURCE) for file in SOURCE.rglob("*.py")}
    assert rooms <= set(RANKS)


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("methods/gradient.py", "from whycam.explainer import explain", "methods imports explainer"),
        ("engine/grid.py", "import whycam.models", "engine imports models"),
        ("targets/base.py", "from whycam import cli", "targets imports cli"),
        ("methods/fusion.py", "def late():\n    from whycam.engine import capture", "methods imports engine"),
        ("types.py", "import whycam", "types imports __init__"),
        ("render/__init__.py", "def f(m, g):\n    m.register_forward_hook(g)", "outside the engine"),
        ("explainer.py", "def f(t):\n    return torch.autograd.grad(t.sum(), t)", "grad outside the engine"),
        ("testbeds/training.py", "def f(t):\n    return torch.autograd.grad(t.sum(), t)", "grad outside"),
        ("testbeds/bed.py", "def f(t):\n    t.backward()", "backward outside the engine"),
        ("methods/controls.py", "def f(t):\n    return t.cpu()", ".cpu() in methods"),
        ("engine/capture.py", "def f(t):\n    return t.sum().item()", ".item() in engine"),
        ("evaluation/curves.py", "def f(t):\n    return t.numpy()", ".numpy() in evaluation"),
    ],
)
def test_a_turned_arrow_is_found(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    root = shutil.copytree(SOURCE, tmp_path / "whycam", ignore=shutil.ignore_patterns("*.png", "__pycache__"))
    assert violations(root) == []
    with (root / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    assert any(complaint in violation for violation in violations(root))
