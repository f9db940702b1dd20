"""Concepts: parts of a layer that the model is asked about one by one."""

import pytest
import torch
from torch import nn

from whycam.decomposition import concepts
from whycam.errors import UsageError


class TwoThings(nn.Module):
    """Channel 0 fires on the left, channel 1 on the right; class 0 reads the one and class 1 the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 8, 1, bias=False)
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.weight[0, 0] = self.layer.weight[1, 1] = 1
            self.head.weight.zero_()
            self.head.weight[0, 0] = self.head.weight[1, 1] = 20

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean((2, 3)))


def left_and_right() -> torch.Tensor:
    image = torch.zeros(1, 2, 4, 4)
    image[:, 0, :, :2] = 1
    image[:, 1, :, 2:] = 2
    return image


def test_each_concept_is_where_its_channel_fires_and_names_its_class() -> None:
    found = concepts(TwoThings(), left_and_right(), count=2, layer="layer", top=1)
    by_class = {int(c): k for k, c in enumerate(found.classes[0, :, 0])}
    assert set(by_class) == {0, 1}
    for label, columns in ((0, slice(0, 2)), (1, slice(2, 4))):
        where = found.maps[0, by_class[label]]
        assert where[:, columns].sum() > 0.99 * where.sum()
        assert found.probabilities[0, by_class[label], 0] > 0.99


def test_concepts_add_up_to_the_positive_activations() -> None:
    image = left_and_right()
    found = concepts(TwoThings(), image, count=2, layer="layer")
    rebuilt = torch.einsum("bkhw,bkc->bchw", found.maps, found.vectors)
    torch.testing.assert_close(rebuilt[:, :2], image, atol=1e-3, rtol=0)


def test_hooks_are_gone_and_the_mode_is_back() -> None:
    model = TwoThings().train()
    concepts(model, left_and_right(), count=2, layer="layer")
    assert model.training
    assert not model.layer._forward_hooks


def test_no_concept_is_an_error() -> None:
    with pytest.raises(UsageError, match="count is 0"):
        concepts(TwoThings(), left_and_right(), count=0)
