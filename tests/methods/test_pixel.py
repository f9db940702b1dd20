"""Pixel methods against their oracles, on a small network in float64 over signals, images and volumes."""

import numpy as np
import pytest
import torch
from tests.oracles import pixel as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
ORACLES = {"gradient": oracle.gradient}


class Small(nn.Module):
    """Two convolutions with a smooth activation, averaged, and three classes."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.features = nn.Sequential(
            convolution(2, 4, 3, padding=1), nn.Tanh(), convolution(4, 5, 3, padding=1), nn.Softplus()
        )
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(2).mean(2))


def gradient_of(model: nn.Module, label: int) -> oracle.GradientOf:
    def at(image: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(image)[None].requires_grad_()
        (found,) = torch.autograd.grad(model(leaf)[0, label], leaf)
        return found[0].numpy()

    return at


@pytest.mark.parametrize("size", [(7,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("name", ORACLES)
def test_a_pixel_method_is_what_its_paper_says(name, size, seed):
    model = Small(len(size)).double().eval()
    images = torch.randn(3, 2, *size, dtype=torch.float64)
    explanation = explain(model, images, method=name, target=[2, 0, 1])
    assert (explanation.layer, explanation.maps.shape) == ("input", (3, *size))
    for image, label, found in zip(images, (2, 0, 1), explanation.maps, strict=True):
        expected = ORACLES[name](image.numpy(), gradient_of(model, label))
        assert disagreement(found, expected) < 1e-9


def test_a_model_without_a_layer_is_explained_by_its_pixels(seed):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).eval()
    images = torch.randn(2, 1, 3, 4)
    explanation = explain(model, images, method="gradient", target=1)
    assert torch.allclose(explanation.maps, model[1].weight[1].view(1, 3, 4).expand(2, 3, 4))
    assert explanation.reason == "the method looks at the input itself, and at no layer"
