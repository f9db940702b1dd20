"""Whether a score is the sum of its parts: exactly for piecewise linear networks, and said where not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.engine.networks import NORMS, settle
from torch import Tensor, nn

import whycam
from whycam import UsageError, completeness

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Net(nn.Module):
    """A network with biases of every kind; one convolution and one ReLU run twice."""

    def __init__(self, axes: int = 2, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = CONVOLUTIONS[axes](2, 6, 3, padding=1)
        self.norm = NORMS[axes](6)
        self.act = activation()
        self.twice = CONVOLUTIONS[axes](6, 6, 3, padding=1)
        self.pool = POOLS[axes](2)
        self.hidden = nn.Linear(6, 7)
        self.head = nn.Linear(7, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm(self.stem(images))))
        x = x + self.act(self.twice(self.act(self.twice(x))))
        x = self.hidden(x.flatten(2).mean(2))
        return self.head(F.linear(x, torch.eye(7, dtype=x.dtype), torch.ones(7, dtype=x.dtype)).relu())


@pytest.mark.parametrize("size", [(12,), (8, 10), (4, 6, 8)])
@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.LeakyReLU(0.1), lambda: nn.ReLU(inplace=True)])
def test_a_relu_network_is_complete_to_rounding(size, activation, seed):
    model = settle(Net(len(size), activation).double())
    found = completeness(model, torch.randn(4, 2, *size, dtype=torch.float64), target=[0, 3, 1, 2])
    assert found.residuals.max() < 1e-12
    assert found.complete.all()
    assert all(line.startswith("complete: ") for line in found.describe())


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, lambda: nn.GroupNorm(2, 6)])
def test_a_network_that_is_not_piecewise_linear_is_not_and_says_so(activation, seed):
    model = settle(Net(2, activation).double())
    found = completeness(model, torch.randn(4, 2, 8, 10, dtype=torch.float64), target=1)
    assert found.residuals.min() > 1e-3
    assert not found.complete.any()
    assert all("not piecewise linear" in line and "\n" not in line for line in found.describe())


def test_a_bias_that_is_not_seen_is_told_of(seed):
    class Adds(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images + 1.0)

    model = settle(Adds().double())
    assert not completeness(model, torch.randn(2, 2, 8, 10, dtype=torch.float64), target=1).complete.any()


def test_scores_are_the_models_and_totals_do_not_depend_on_the_batch(seed):
    model = settle(Net(2, nn.SiLU).double())
    images = torch.randn(3, 2, 8, 10, dtype=torch.float64)
    whole = completeness(model, images, target=[0, 3, 1])
    parts = completeness(model, images, target=[0, 3, 1], batch_size=2)
    torch.testing.assert_close(whole.scores, model(images)[range(3), [0, 3, 1]].detach())
    torch.testing.assert_close(whole.totals, parts.totals, rtol=1e-12, atol=1e-12)
    assert not whole.scores.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_that_a_layer_folds_into_the_batch_are_told_apart(seed):
    class Halves(Net):
        def forward(self, images: Tensor) -> Tensor:
            left, right = images.chunk(2, dim=-1)  # all left halves first: no image's are side by side
            return sum(super().forward(torch.cat([left, right])).chunk(2))

    model = settle(Halves().double())
    images = torch.randn(3, 2, 8, 12, dtype=torch.float64)
    found = completeness(model, images, target=[0, 3, 1])
    assert found.residuals.max() < 1e-12
    alone = [
        whycam.explain(model, one[None], method="fullgrad", target=at).maps
        for one, at in zip(images, (0, 3, 1), strict=True)
    ]
    together = whycam.explain(model, images, method="fullgrad", target=[0, 3, 1]).maps
    torch.testing.assert_close(together, torch.cat(alone))


def test_real_architectures_are_what_they_are(seed):
    import timm

    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for name, complete in [("resnet18", True), ("regnety_002", True), ("mobilenetv3_small_050", False)]:
        model = timm.create_model(name)
        for part in model.modules():  # a fresh network's biases are 0
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.bias, std=0.1)
                nn.init.normal_(part.running_mean, std=0.1)
        found = completeness(model.double(), images, target=1)
        assert bool(found.complete.all()) is complete, name
        assert (float(found.residuals.max()) < 1e-12) is complete


def test_a_score_of_zero_is_complete_where_its_parts_are_zero():
    model = settle(Net().double())
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    found = completeness(model, torch.randn(1, 2, 8, 8, dtype=torch.float64), target=1)
    assert found.residuals.tolist() == [0.0]


def test_an_empty_batch_size_is_refused():
    with pytest.raises(UsageError, match="batch_size is 0"):
        completeness(Net(), torch.randn(1, 2, 8, 8), batch_size=0)
