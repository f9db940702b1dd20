"""Half precision, autocast and float64: maps in float32 or wider, close to the exact ones."""

import pytest
import torch
from tests.brief import brief
from tests.engine.networks import CLASSES, Plain, Residual, Transformer, pictures, plain_autograd, settle
from torch import nn

from whycam import METHODS, FlipAverage, choose_layer, explain, explain_targets
from whycam.engine import address_of, capture, explaining

HALVES = [torch.float16, torch.bfloat16]
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 8e-2}  # of the map's largest value; ten roundings or so
QUICK = [name for name, method in METHODS.items() if name != "dff" and not method.takes_attention]


def off_by(found, expected):
    """Return the largest difference as a share of the largest value."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("build", [Plain, Residual, lambda: Transformer((3, 3), pool="mean")])
def test_half_precision_gives_float32_maps_near_the_exact_ones(build, dtype):
    exact = settle(build()).double()
    rounded = settle(build()).to(dtype)
    layer = choose_layer(exact, pictures(dtype=torch.float64)).path
    expected = explain(exact, pictures(dtype=dtype).double(), layer=layer, target=1)
    found = explain(rounded, pictures(dtype=dtype), layer=layer, target=1)
    assert found.maps.dtype == torch.float32
    assert off_by(found.maps, expected.maps) < TOLERANCE[dtype]
    assert found.outputs.dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_a_layer_is_chosen_in_half_precision(dtype):
    expected = choose_layer(settle(Residual()), pictures())
    assert choose_layer(settle(Residual()).to(dtype), pictures(dtype=dtype)).path == expected.path


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", QUICK)
def test_every_method_gives_finite_float32_maps_in_half_precision(method, dtype):
    model = settle(Plain()).to(dtype)
    for smoothing in (None, FlipAverage()):
        found = explain(model, pictures(dtype=dtype), method=brief(method), layer="last", smoothing=smoothing)
        assert found.maps.dtype == torch.float32
        assert found.maps.isfinite().all()
        assert not found.blank.any()


@pytest.mark.parametrize("method", QUICK)
def test_a_float64_model_gives_float64_maps(method):
    model = settle(Plain()).double()
    found = explain(model, pictures(dtype=torch.float64), method=brief(method), layer="last")
    assert found.maps.dtype == torch.float64
    assert found.scores.dtype == torch.float64


def test_float64_is_not_rounded_on_the_way():
    model = settle(Plain()).double()
    images = pictures(dtype=torch.float64)
    found = explain(model, images, layer="last", method="hirescam", target=1)
    activations, gradients, _ = plain_autograd(model, images, "last", lambda outputs: outputs[:, 1])
    torch.testing.assert_close(found.maps, (activations * gradients).sum(1), rtol=1e-13, atol=1e-15)


class Spread(nn.Module):
    """Averages a large grid, so that every position's gradient is tiny."""

    def __init__(self, weight, scale=1.0, size=64):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)
        self.scale, self.size = scale, size
        settle(self)
        with torch.no_grad():
            self.head.weight.copy_(weight * (1 + torch.arange(CLASSES * 8).view(CLASSES, 8)) / 40)

    def forward(self, images):
        return self.head(self.convolution(images).sigmoid().mean((2, 3))) * self.scale


@pytest.mark.parametrize("weight", [0.05, 2e-4])  # over 4,096 positions: 1e-5, and 5e-8 below float16's least
def test_tiny_gradients_are_not_flushed_in_float16(weight):
    exact, rounded = Spread(weight).double(), Spread(weight).half()
    images = pictures(size=(64, 64), dtype=torch.float16)
    expected = explain(exact, images.double(), layer="convolution", target=1, method="hirescam")
    found = explain(rounded, images, layer="convolution", target=1, method="hirescam")
    assert off_by(found.maps, expected.maps) < 2e-2


def test_tiny_gradients_do_not_hide_a_layer_from_the_choice_in_float16():
    images = pictures(1, size=(64, 64), dtype=torch.float16)
    expected = choose_layer(Spread(2e-5).float(), images.float())
    assert expected.candidates[0].support == 1.0
    found = choose_layer(Spread(2e-5).half(), images)
    with torch.autocast("cpu", torch.float16):
        under_autocast = choose_layer(Spread(2e-5), images.float())
    for choice in (found, under_autocast):
        assert choice.path == expected.path
        assert choice.candidates[0].support == 1.0


def test_large_gradients_do_not_overflow_in_float16():
    """Scores times 100, as contrastive models have them: what saves the tiny must not break the large."""
    exact, rounded = Spread(0.05, scale=100.0).double(), Spread(0.05, scale=100.0).half()
    images = pictures(size=(64, 64), dtype=torch.float16)
    expected = explain(exact, images.double(), layer="convolution", target=1, method="hirescam")
    found = explain(rounded, images, layer="convolution", target=1, method="hirescam")
    assert found.maps.isfinite().all()
    assert off_by(found.maps, expected.maps) < 2e-2


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layer", [None, "last", "stem"])
def test_under_autocast(layer, dtype):
    model = settle(Plain(inplace=True))
    expected = explain(model, pictures(), layer=layer, target=1)
    with torch.autocast("cpu", dtype):
        found = explain(model, pictures(), layer=layer, target=1)
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_cache_enabled()
    assert found.maps.dtype == torch.float32
    assert found.outputs.dtype == dtype
    assert off_by(found.maps, expected.maps) < TOLERANCE[dtype]


def loss_gradients(model, images, before):
    """Train one step's gradients inside one autocast region, after something else has run in it."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        before()
        model(images).square().mean().backward()
    return {name: value.grad for name, value in model.named_parameters()}


@pytest.mark.parametrize("layer", [None, "body"])
def test_training_goes_on_in_the_same_autocast_region(layer):
    model, images = settle(Plain()), pictures()
    expected = loss_gradients(model, images, lambda: None)
    found = loss_gradients(model, images, lambda: explain(model, images, layer=layer))
    for name, gradient in expected.items():
        assert found[name] is not None, name
        assert torch.equal(found[name], gradient), name


def test_no_weight_cast_without_autograd_stays_in_the_callers_autocast_cache():
    """Some versions of torch would hand it to the training that follows in the region."""

    class Noting(Plain):
        def forward(self, images):
            enabled.append(torch.is_autocast_cache_enabled())
            return super().forward(images)

    enabled = []
    with torch.autocast("cpu", torch.bfloat16):
        explain(settle(Noting()), pictures())
    assert enabled
    assert not any(enabled)


def test_the_autocast_cache_setting_is_restored_when_the_target_raises():
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError):
            explain(settle(Plain()), pictures(), target=lambda outputs: 1 / 0)
        assert torch.is_autocast_cache_enabled()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        explain(settle(Plain()), pictures())
        assert not torch.is_autocast_cache_enabled()


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_captures_are_float32_or_wider(dtype):
    model = settle(Plain()).to(dtype)
    with explaining(model) as module:
        kept = capture(module, pictures(dtype=dtype), [address_of(module, path) for path in ("stem", "last")])
        gradients = kept.gradients(kept.score(lambda outputs: outputs[:, 0]))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {layer.activations().dtype for layer in kept.layers} == {wide}
    assert {gradient.dtype for gradient in gradients} == {wide}


def test_scores_are_float32_in_half_precision():
    found = explain_targets(
        settle(Plain()).bfloat16(), pictures(dtype=torch.bfloat16), [None, 1], layer="last"
    )
    assert [one.scores.dtype for one in found] == [torch.float32, torch.float32]


def test_a_float16_scale_leaves_float32_layers_of_a_mixed_model_alone():
    """A layer in float32 in front of one in float16, captured together."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 3, padding=1).half()
            self.head = nn.Linear(8, CLASSES)

        def forward(self, images):
            return self.head(self.second(self.first(images).half()).float().sigmoid().mean((2, 3)))

    model = settle(Mixed())
    exact = settle(Mixed()).double()
    exact.second.half()
    with explaining(model) as module:
        layers = [address_of(module, path) for path in ("first", "second")]
        kept = capture(module, pictures(), layers)
        first, second = kept.gradients(kept.score(lambda outputs: outputs[:, 0]))
        (alone,) = (found := capture(module, pictures(), layers[:1])).gradients(
            found.score(lambda outputs: outputs[:, 0])
        )
    assert off_by(first, alone) < 2e-2
    assert second.abs().max() > 0


@pytest.mark.parametrize("name", QUICK)
def test_every_method_computes_in_full_precision_under_autocast(name):
    """Under an autocast that changes nothing in the model, the map stays the same to float32's rounding."""

    class Exact(Plain):
        def forward(self, images):
            with torch.autocast("cpu", enabled=False):
                return super().forward(images)

    model, images = settle(Exact()), pictures()
    expected = explain(model, images, method=brief(name), target=1, layer="last").maps
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(model, images, method=brief(name), target=1, layer="last").maps
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
