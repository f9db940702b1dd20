"""Extremal perturbations against their oracle in float64, and where the answer is known."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from tests.oracles import extremal as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain
from whycam.engine import variants
from whycam.errors import MethodError
from whycam.methods import METHODS
from whycam.methods.extremal import extremal

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SHORT = partial(METHODS["extremal"].function, steps=3, cells=5, sigma=1.2)


class Uneven(nn.Module):
    """A score that is different at every pixel, so that no two cells of a mask are alike."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.features = nn.Sequential(CONVOLUTIONS[len(size)](2, 4, 3, padding=1), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * torch.Size(size).numel(), 3)

    def forward(self, images: Tensor) -> Tensor:
        return 40 * self.head(self.features(images))


def gradient_of(model: nn.Module, label: int) -> oracle.GradientOf:
    def at(image: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(image)[None].requires_grad_()
        (found,) = torch.autograd.grad(model(leaf)[0, label], leaf)
        return found[0].numpy()

    return at


@pytest.mark.parametrize("size", [(9,), (6, 7), (3, 4, 5)])
@pytest.mark.parametrize("areas", [(0.2,), (0.1, 0.35)])
def test_extremal_is_what_its_paper_says(size, areas, seed):
    model = Uneven(size).double().eval()
    images = 2 * torch.randn(2, 2, *size, dtype=torch.float64)
    maps = explain(model, images, method=partial(SHORT, areas=areas), target=[2, 0]).maps
    for image, label, found in zip(images, (2, 0), maps, strict=True):
        masks = [
            oracle.extremal(image.numpy(), gradient_of(model, label), area, steps=3, cells=5, sigma=1.2)
            for area in areas
        ]
        assert disagreement(found, sum(masks) / len(masks)) < 1e-9


class ReadsOneCell(nn.Module):
    """The score is the contrast inside one cell: a blur takes it away."""

    def __init__(self, top: int, left: int) -> None:
        super().__init__()
        self.top, self.left = top, left

    def forward(self, images: Tensor) -> Tensor:
        cell = images[:, :, self.top : self.top + 6, self.left : self.left + 6]
        return 100 * cell.square().flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize(("top", "left"), [(4, 20), (18, 10)])
def test_the_one_cell_that_matters_is_kept_and_the_area_is_held(top, left, seed):
    images = torch.sign(torch.randn(1, 1, 32, 32))
    method = partial(extremal, areas=(0.1,), steps=150, cells=16, sigma=1.5)
    found = explain(ReadsOneCell(top, left), images, method=method, target=0).heatmaps()[0]
    inside = found[top : top + 6, left : left + 6]
    assert inside.mean() > 0.8
    assert found.mean() < 0.2
    far = found.clone()
    far[max(0, top - 6) : top + 12, max(0, left - 6) : left + 12] = 0
    assert far.mean() < 0.05


def test_a_map_does_not_depend_on_batches_or_chunks(seed, monkeypatch):
    model, images = Uneven((6, 7)).double().eval(), torch.randn(3, 2, 6, 7, dtype=torch.float64)
    method = partial(SHORT, areas=(0.2, 0.4))
    whole = explain(model, images, method=method, target=[0, 1, 2]).maps
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 8 * images[0].numel())
    parts = explain(model, images, method=method, target=[0, 1, 2], batch_size=2).maps
    assert torch.allclose(whole, parts, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_frozen_and_without_autograd(dtype, seed):
    model = Uneven((6, 7)).to(dtype).eval().requires_grad_(False)
    with torch.inference_mode():
        maps = explain(model, torch.randn(2, 2, 6, 7, dtype=dtype), method=SHORT, target=0).maps
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_real_networks_are_explained_at_any_layout(seed):
    for model in (
        timm.create_model("resnet18", num_classes=5),
        timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64),
    ):
        found = explain(model.eval(), torch.randn(2, 3, 64, 64), method=SHORT, target=1)
        assert found.maps.shape == (2, 5, 5)
        assert found.maps.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"areas": ()}, r"areas are \(\); expected shares"),
        ({"areas": (0.1, 1.0)}, r"areas are \(0.1, 1.0\)"),
        ({"steps": 0}, "steps=0"),
        ({"sigma": 0.0}, "sigma=0.0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(MethodError, match=message):
        explain(Uneven((6, 7)), torch.randn(1, 2, 6, 7), method=partial(extremal, **options), target=0)
