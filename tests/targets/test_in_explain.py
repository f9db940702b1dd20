"""Targets that hold something of each image go through batches, noise and several targets unharmed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whycam import (
    BoxCoordinate,
    BoxScore,
    Contrast,
    NoiseAverage,
    SegmentationClass,
    Similarity,
    TargetError,
    explain,
    explain_targets,
)

PAGE = Path(__file__).parents[2] / "docs" / "targets.md"


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Any:
        # the pixels' own colours decide which class is strongest where
        return self.head(self.stage(images).relu()) + 20 * F.avg_pool2d(images, 2)


class Boxes(Dense):
    """Two boxes an image, one of each label, at places and with scores that the image decides."""

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        found = super().forward(images).mean((2, 3)).sigmoid()
        corners = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0]])
        return [
            {"boxes": corners + one[2], "labels": torch.tensor([1, 2]), "scores": one[:2]} for one in found
        ]


class Embeds(Dense):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mean((2, 3))


MASKS = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.5
CASES = [
    (Dense, SegmentationClass(1, torch.ones(1, 1) > 0)),
    (Dense, SegmentationClass(1, MASKS)),
    (Dense, SegmentationClass(0)),
    (Dense, Contrast(SegmentationClass(0, MASKS), SegmentationClass(1, MASKS))),
    (Dense, [SegmentationClass(at % 3, MASKS[at]) for at in range(5)]),
    (Boxes, BoxScore()),
    (Boxes, BoxCoordinate("right", label=2)),
    (Embeds, Similarity(torch.randn(5, 3, generator=torch.Generator().manual_seed(2)))),
]


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize(("build", "target"), CASES)
def test_batches_and_several_targets_give_what_each_image_alone_gives(build: Any, target: Any) -> None:
    model, images = build(), torch.rand(5, 3, 16, 16)
    whole = explain(model, images, target=target, layer="stage")
    # 5 images in equal batches: outputs that are a list have to be of one length to be joined
    step = 5 if build is Boxes else 2
    batched = explain_targets(model, images, [target, target], layer="stage", batch_size=step)
    for found in batched:
        torch.testing.assert_close(found.maps, whole.maps)
        torch.testing.assert_close(found.scores, whole.scores)
        assert torch.equal(found.classes, whole.classes)
        assert found.targets.describe() == whole.targets.describe()
    alone = [
        explain(model, images[i : i + 1], target=whole.targets.part(i, i + 1), layer="stage")
        for i in range(5)
    ]
    torch.testing.assert_close(torch.cat([one.maps for one in alone]), whole.maps)


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize(("build", "target"), CASES)
def test_noise_is_explained_for_the_clean_images_target(build: Any, target: Any) -> None:
    model, images = build(), torch.rand(5, 3, 16, 16)
    clean = explain(model, images, target=target, layer="stage")
    still = explain(model, images, target=target, layer="stage", smoothing=NoiseAverage(2, sigma=0.0))
    torch.testing.assert_close(still.maps, clean.maps)
    noisy = explain(model, images, target=target, layer="stage", smoothing=NoiseAverage(2, sigma=0.2))
    again = explain(model, images, target=clean.targets, layer="stage", smoothing=NoiseAverage(2, sigma=0.2))
    torch.testing.assert_close(noisy.maps, again.maps)


@pytest.mark.parametrize(
    ("build", "target"),
    [
        (Dense, SegmentationClass(1, MASKS)),
        (Dense, Contrast(SegmentationClass(0), SegmentationClass(1, MASKS))),
        (Embeds, Similarity(torch.ones(5, 3))),
    ],
)
def test_what_is_of_another_number_of_images_is_refused_before_the_first_batch(
    build: Any, target: Any
) -> None:
    with pytest.raises(TargetError, match="5 targets for 6 images"):
        explain(build(), torch.rand(6, 3, 16, 16), target=target, layer="stage", batch_size=5)


@pytest.mark.usefixtures("seed")
def test_the_page_works() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert "other" in names
