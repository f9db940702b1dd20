"""DeepLIFT's multipliers: they sum to the score's difference through every part they are exact for."""

import pytest
import torch
import torch.nn.functional as F
from tests.engine import networks
from tests.engine.test_suffix import suffix_of
from torch import nn

from whycam import explain
from whycam.engine import address_of, capture, explaining
from whycam.engine.lift import multipliers
from whycam.engine.recording import Key, remember
from whycam.targets import Probability, as_target


class Tail(nn.Module):
    """A convolution, a function of its output, the mean, a linear head."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)
        self.after = nn.Conv2d(8, 8, 3)
        self.function = function
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        return self.head(self.function(self.after(self.layer(images))).mean((2, 3)))


def gated(x):
    return x * x.mean((2, 3), keepdim=True).sigmoid()


def in_place(x):
    y = F.relu(x, inplace=True)
    return x + y.mul_(x.tanh())


def divided(x):
    return x / (1.0 + x.square().sum(1, keepdim=True))


FUNCTIONS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "gelu": nn.GELU(),
    "silu": F.silu,
    "hardswish": nn.Hardswish(),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "method": lambda x: x.tanh().clamp(-0.5, 0.5),
    "powers": lambda x: x**2 + 1 / (2 + x.abs()) + x.exp(),
    "gate": gated,
    "in place": in_place,
    "division": divided,
    "softmax": lambda x: x.softmax(1) * x,
    "batch norm": nn.BatchNorm2d(8),
    "group norm": nn.GroupNorm(2, 8),
    "layer norm": nn.LayerNorm([8, 8, 8]),
    "rms norm": nn.RMSNorm([8, 8, 8], eps=1e-6),
}


def shares(model, layer, target, images):
    """Return multiplier times activation, summed over each image, and the difference it should sum to."""
    with explaining(model) as live:
        suffix = suffix_of(live, images, layer)
        clean = suffix.layer.activations()
        found = multipliers(suffix, target)
        rows = torch.arange(len(images))
        with torch.no_grad():
            difference = target(suffix(rows, clean)) - target(suffix(rows, torch.zeros_like(clean)))
    assert suffix.reason == ""
    return (found * clean).flatten(1).sum(1), difference


@pytest.mark.parametrize("name", FUNCTIONS)
def test_contributions_sum_to_the_difference_from_zeros(name):
    model = networks.settle(Tail(FUNCTIONS[name])).double()
    images = networks.pictures(3, dtype=torch.float64)
    sums, difference = shares(model, "layer", as_target([0, 1, 2], 3), images)
    torch.testing.assert_close(sums, difference, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("layer", ["patches", "blocks.0", "blocks.1.norm1"])
def test_contributions_sum_through_attention_and_norms(layer):
    model = networks.settle(networks.Transformer((3, 3), pool="token")).double()
    sums, difference = shares(model, layer, as_target(1, 2), networks.pictures(2, dtype=torch.float64))
    torch.testing.assert_close(sums, difference, rtol=1e-7, atol=1e-10)


def test_a_target_that_is_not_linear_is_part_of_it():
    model = networks.settle(networks.Plain()).double()
    target = as_target(Probability(2), 2)
    sums, difference = shares(model, "body_norm", target, networks.pictures(2, dtype=torch.float64))
    torch.testing.assert_close(sums, difference, rtol=1e-7, atol=1e-10)


def test_the_fused_attention_is_taken_apart_exactly():
    def attend(x):
        tokens = 0.1 * x.flatten(2).mT
        return F.scaled_dot_product_attention(tokens, 2 * tokens, tokens.tanh()).mT[..., None]

    model = networks.settle(Tail(attend)).double()
    sums, difference = shares(model, "layer", as_target(1, 2), networks.pictures(2, dtype=torch.float64))
    torch.testing.assert_close(sums, difference, rtol=1e-7, atol=1e-10)


def test_an_attention_whose_exponentials_no_number_holds_gives_finite_multipliers():
    model = networks.settle(Tail(lambda x: (1e6 * x).softmax(1) * x)).double()
    sums, _ = shares(model, "layer", as_target(1, 2), networks.pictures(2, dtype=torch.float64))
    assert sums.isfinite().all()


def test_weights_keep_their_flags_when_the_target_raises():
    model = networks.settle(networks.Plain())
    model.stem.weight.requires_grad = False
    before = [parameter.requires_grad for parameter in model.parameters()]

    class Failing:
        def select(self, rows):
            raise ZeroDivisionError

    with explaining(model) as live:
        suffix = suffix_of(live, networks.pictures(2), "body")
        with pytest.raises(ZeroDivisionError):
            multipliers(suffix, Failing())
    assert [parameter.requires_grad for parameter in model.parameters()] == before


class TokensFirst(nn.Module):
    """Works on [tokens, batch, channels], as PyTorch's own transformer does by default."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        tokens = self.layer(images).flatten(2).permute(2, 0, 1)
        return self.head(F.gelu(self.norm(tokens)).mean(0))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_tokens_that_come_before_the_images_are_no_pairs_and_pass_their_plain_gradient_on(batch):
    model = networks.settle(TokensFirst()).double()
    images, target = networks.pictures(batch, dtype=torch.float64), as_target(1, batch)
    with explaining(model) as live:
        suffix = suffix_of(live, images, "layer")
        found = multipliers(suffix, target)
        captured = capture(live, images, [address_of(live, "layer")])
        (expected,) = captured.gradients(captured.score(target))
    torch.testing.assert_close(found, expected)


def test_activations_and_their_references_stay_together_in_whole_forwards_of_large_images(monkeypatch):
    model, images = networks.settle(networks.Plain()).double(), networks.pictures(2, dtype=torch.float64)
    with explaining(model) as live:
        expected = multipliers(suffix_of(live, images, "body"), as_target(1, 2))
        whole = suffix_of(live, images, "body")
        remember(live, Key.of("body", images), "it is not to be")
        for place in ("suffix", "activations"):
            monkeypatch.setattr(f"whycam.engine.{place}.chunk_size", lambda values, share=1.0: 1)
        found = multipliers(whole, as_target(1, 2))
        assert whole.plan is None
    torch.testing.assert_close(found, expected)


def test_weights_made_in_inference_mode_before_the_layer_keep_their_flags():
    model, images = networks.settle(networks.Plain()), networks.pictures(2)
    with torch.inference_mode():
        model.stem = nn.Conv2d(3, 8, 3, padding=1)
    explain(model, images, method="liftcam", layer="last", target=1)
    assert all(weight.requires_grad for weight in model.parameters())
