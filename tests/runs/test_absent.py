"""A target that speaks of something that not every image holds: it costs those images, not the run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whycam import AbsentError, Preprocessing, explain
from whycam.models import LoadedModel, Provenance
from whycam.runs import RunRequest, run_explain
from whycam.targets import BoxScore


class Detector(nn.Module):
    """Finds one box in every image that is bright anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 16, 4, stride=4)

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        scores = self.body(images).sigmoid().amax((1, 2, 3))
        bright = images.amax((1, 2, 3)) > 0.5
        box = torch.tensor([[2.0, 2.0, 9.0, 9.0]])
        return [
            {
                "boxes": box[: int(b)],
                "labels": torch.ones(int(b), dtype=torch.long),
                "scores": s[None][: int(b)],
            }
            for s, b in zip(scores, bright, strict=True)
        ]


@pytest.fixture
def loaded() -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(
        module=Detector().eval(),
        preprocessing=Preprocessing.for_size((16, 16), (0.0,) * 3, (1.0,) * 3),
        class_names=None,
        reference="detector",
        provenance=Provenance("factory", name="detector"),
        device=torch.device("cpu"),
    )


def pictures(folder: Path, *tones: int) -> Path:
    folder.mkdir()
    for number, tone in enumerate(tones):
        Image.fromarray(np.full((16, 16, 3), tone, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_images_without_a_box_have_an_error_in_their_row_and_the_others_are_explained(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "in", 0, 255, 0, 250)
    request = RunRequest(model=loaded, sources=(folder,), folder=tmp_path / "run", target=BoxScore())
    summary = run_explain(request)
    assert (summary.images, summary.done) == (4, 2)
    assert [name for name, _ in summary.failures] == ["0.png", "2.png"]
    assert all("0 detections" in error for _, error in summary.failures)


def test_a_run_of_which_no_image_holds_a_box_says_so_before_anything_is_written(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "in", 0, 0)
    request = RunRequest(model=loaded, sources=(folder,), folder=tmp_path / "run", target=BoxScore())
    with pytest.raises(AbsentError, match="not in any of the first 2 images"):
        run_explain(request)
    assert not (tmp_path / "run").exists()


def test_a_detectors_answers_are_joined_over_batches_of_different_sizes(loaded: LoadedModel) -> None:
    images = torch.full((5, 3, 16, 16), 0.9) + torch.arange(5.0).reshape(5, 1, 1, 1) / 100
    whole = explain(loaded.module, images, target=BoxScore(), layer="body")
    parts = explain(loaded.module, images, target=BoxScore(), layer="body", batch_size=2)
    assert len(parts.outputs) == 5
    torch.testing.assert_close(whole.maps, parts.maps)
    torch.testing.assert_close(whole.scores, parts.scores)
