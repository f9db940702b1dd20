"""What the page on callbacks tells a reader to write works as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.callbacks.training import events_in

PAGE = Path(__file__).parents[2] / "docs" / "callbacks.md"

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.* argument is set as true but no accelerator"),
]


@pytest.fixture
def snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_pages_lightning_writes_pngs_and_nothing_else(snippets: list[str], tmp_path: Path) -> None:
    exec(compile(snippets[0], "docs/callbacks.md", "exec"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["heatmaps"]
    paths = sorted((tmp_path / "heatmaps" / "gradcam").rglob("*.png"))
    assert [str(path.parent.name) for path in paths[::2]] == [
        "0-00-zero",
        "1-01-one",
        "2-02-two",
        "3-03-three",
    ]
    assert {path.name for path in paths} == {"step-00000004.png", "step-00000008.png"}
    assert {np.asarray(Image.open(path)).shape for path in paths} == {(96, 96, 3)}


def test_the_pages_trainer_logs_to_tensorboard(snippets: list[str], tmp_path: Path) -> None:
    exec(compile(snippets[1], "docs/callbacks.md", "exec"), {})
    events = events_in(tmp_path / "training" / "runs" / "heatmaps")
    assert [event.step for event in events.Images("heatmaps/gradcam/1")] == [2, 4]
