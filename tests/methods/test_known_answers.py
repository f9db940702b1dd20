"""Real networks whose right explanation is known from their head, in float64, through plain autograd."""

import pytest
import torch
from torch import nn

from whycam.methods import activation, gradient

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CLASSES = 4
CHANNELS = 6
CELLS = 7


class GlobalAverage(nn.Module):
    """Average every channel over all positions."""

    def forward(self, activations):
        return activations.flatten(2).mean(2)


class OneCell(nn.Module):
    """Read the middle cell and nothing else."""

    def forward(self, activations):
        middle = activations.shape[2] // 2
        return activations.flatten(2).unflatten(2, activations.shape[2:])[
            (slice(None), slice(None), *[middle] * (activations.ndim - 2))
        ]


class Net(nn.Module):
    """Two convolutions, then the pooling that makes the answer known, then a linear layer with a bias."""

    def __init__(self, axes: int, pooling: nn.Module, inputs: int, last: nn.Module) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.features = nn.Sequential(
            convolution(3, 5, 3, padding=1), nn.SiLU(), convolution(5, CHANNELS, 3, padding=1), last
        )
        self.pooling = pooling
        self.linear = nn.Linear(inputs, CLASSES)

    def head(self, activations):
        return self.linear(self.pooling(activations))

    def forward(self, images):
        return self.head(self.features(images))


def built(axes: int, pooling: nn.Module, inputs: int, last: nn.Module | None = None) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20 + axes)
        return Net(axes, pooling, inputs, last or nn.ReLU()).double().eval()


def pictures(axes: int, batch: int = 4) -> torch.Tensor:
    random = torch.Generator().manual_seed(axes)
    return torch.randn(batch, 3, *[CELLS] * axes, generator=random, dtype=torch.float64)


def captured(net: Net, images: torch.Tensor, classes: torch.Tensor):
    """Return activations, gradients of each image's class at them, and its logit without the bias."""
    activations = net.features(images).detach().requires_grad_()
    logits = net.head(activations)
    scores = logits.gather(1, classes[:, None]).squeeze(1)
    (gradients,) = torch.autograd.grad(scores.sum(), activations)
    return activations.detach(), gradients, (scores - net.linear.bias[classes]).detach()


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def mass_outside_the_middle(maps: torch.Tensor) -> float:
    """Share of the positive mass outside the middle cell, over all images."""
    positive = maps.relu()
    middle = positive[(slice(None), *[n // 2 for n in maps.shape[1:]])]
    return float((positive.sum() - middle.sum()) / positive.sum())


EQUAL_ON_GAP = {
    "gradcam": gradient.gradcam,
    "hirescam": gradient.hirescam,
    "xgradcam": gradient.xgradcam,
}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("last", [nn.ReLU(), nn.SiLU()], ids=["rectified", "signed"])
@pytest.mark.parametrize("name", EQUAL_ON_GAP)
def test_on_a_gap_head_the_gradient_methods_are_cam_over_the_number_of_cells(axes, last, name):
    net, classes = built(axes, GlobalAverage(), CHANNELS, last), torch.tensor([0, 3, 1, 2])
    activations, gradients, evidence = captured(net, pictures(axes), classes)
    cells = CELLS**axes
    cam = activation.cam(activations, net.linear.weight.detach()[classes]) / cells
    maps = EQUAL_ON_GAP[name](activations, gradients)
    assert relative(maps, cam) < 1e-9
    assert relative(cam.flatten(1).sum(1), evidence) < 1e-9
    assert relative(maps.flatten(1).sum(1), evidence) < 1e-9


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_on_a_gap_head_removing_a_channel_costs_what_its_map_says(axes):
    net, classes = built(axes, GlobalAverage(), CHANNELS), torch.tensor([0, 3, 1, 2])
    activations, gradients, _ = captured(net, pictures(axes), classes)
    whole = net.head(activations).gather(1, classes[:, None]).squeeze(1)
    for k in range(CHANNELS):
        without = activations.clone()
        without[:, k] = 0.0
        drop = (whole - net.head(without).gather(1, classes[:, None]).squeeze(1)).detach()
        expected = net.linear.weight.detach()[classes, k] * activations[:, k].flatten(1).mean(1)
        torch.testing.assert_close(drop, expected, rtol=1e-9, atol=1e-12)
        for method in EQUAL_ON_GAP.values():
            alone = method(activations[:, k : k + 1], gradients[:, k : k + 1])
            torch.testing.assert_close(alone.flatten(1).sum(1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_on_a_flatten_head_hirescam_sums_to_the_logit_and_gradcam_does_not(axes):
    net, classes = built(axes, nn.Flatten(1), CHANNELS * CELLS**axes), torch.tensor([0, 3, 1, 2])
    activations, gradients, evidence = captured(net, pictures(axes), classes)
    assert relative(gradient.hirescam(activations, gradients).flatten(1).sum(1), evidence) < 1e-7
    assert relative(gradient.gradcam(activations, gradients).flatten(1).sum(1), evidence) > 0.1


def test_on_a_one_cell_head_hirescam_and_layercam_stay_in_the_cell_and_gradcam_does_not():
    net, classes = built(2, OneCell(), CHANNELS), torch.arange(64) % CLASSES
    activations, gradients, _ = captured(net, pictures(2, batch=64), classes)
    for exact in (gradient.hirescam, gradient.layercam, gradient.gradcam_elementwise):
        maps = exact(activations, gradients)
        assert maps[:, 3, 3].relu().sum() > 0
        maps[:, 3, 3] = 0.0
        assert not maps.any()
    # one cell of 49: a map spread evenly has 0.98 of its mass outside; measured here 0.978 and 0.925
    assert mass_outside_the_middle(gradient.gradcam(activations, gradients)) == pytest.approx(0.98, abs=0.01)
    assert 0.9 < mass_outside_the_middle(gradient.xgradcam(activations, gradients)) < 0.98
