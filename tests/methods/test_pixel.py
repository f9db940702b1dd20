"""Pixel methods against their oracles, on a small network in float64 over signals, images and volumes."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from tests.brief import brief
from tests.methods.networks import Small, gradient_of, seen_by
from tests.oracles import gradient as layer_oracle
from tests.oracles import pixel as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain
from whycam.engine import variants
from whycam.errors import MethodError
from whycam.methods import METHODS, pixel

LABELS = (2, 0, 1)
SIZES = [(7,), (5, 6), (3, 4, 5)]
ORACLES = {"gradient": oracle.gradient, "inputxgradient": oracle.input_x_gradient}
NOISY = {"smoothgrad": oracle.smoothgrad, "vargrad": oracle.vargrad}
RULES = {"guidedbackprop": "guided", "deconvnet": "deconvnet"}
EVERY = [*ORACLES, *NOISY, *RULES, "guidedgradcam"]


def drawn(*size: int, count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    random = torch.Generator().manual_seed(sum(size))
    return torch.randn(count, 2, *size, generator=random, dtype=dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ORACLES)
def test_a_pixel_method_is_what_its_paper_says(name, size, seed):
    model, images = Small(len(size)).double().eval(), drawn(*size)
    explanation = explain(model, images, method=name, target=list(LABELS))
    assert (explanation.layer, explanation.maps.shape) == ("input", (3, *size))
    for image, label, found in zip(images, LABELS, explanation.maps, strict=True):
        expected = ORACLES[name](image.numpy(), gradient_of(model, label))
        assert disagreement(found, expected) < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NOISY)
def test_a_method_of_noisy_copies_is_what_its_paper_says_of_the_copies_that_the_model_saw(name, size, seed):
    model, images = Small(len(size)).double().eval(), drawn(*size)
    for image, label in zip(images, LABELS, strict=True):
        seen = seen_by(model)
        (found,) = explain(
            model, image[None], method=partial(METHODS[name].function, samples=20), target=label
        ).maps
        noisy = torch.cat(seen[1:])  # after the clean image
        assert len(noisy) == 20
        expected = NOISY[name]([copy.numpy() for copy in noisy], gradient_of(model, label))
        assert disagreement(found, expected) < 1e-9


def test_noise_is_in_proportion_to_an_images_range_and_new_in_every_copy(seed):
    model, images = Small(2).double().eval(), drawn(20, 30, count=1)
    for factor in (1.0, 100.0):
        seen = seen_by(model)
        explain(model, factor * images, method=partial(pixel.smoothgrad, samples=40, sigma=0.2), target=0)
        noise = torch.cat(seen[1:]) - factor * images
        unit = noise / (0.2 * factor * (images.max() - images.min()))
        assert abs(float(unit.mean())) < 0.02  # 48,000 draws: the standard error is 0.005
        assert abs(float(unit.std()) - 1.0) < 0.02
        apart = torch.pdist(unit.flatten(1))  # sqrt(2 * 1,200) = 49 between independent draws
        assert 44 < float(apart.min()) < float(apart.max()) < 54


@pytest.mark.parametrize("name", NOISY)
def test_the_same_seed_gives_the_same_map_and_the_global_generator_is_left_alone(name, seed):
    model, images = Small(2).double().eval(), drawn(5, 6)
    state = torch.get_rng_state()
    maps = [
        explain(model, images, method=partial(METHODS[name].function, samples=3, seed=s), target=0).maps
        for s in (5, 5, 6)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", EVERY)
def test_a_map_depends_neither_on_the_batch_nor_on_what_goes_through_at_once(name, seed, monkeypatch):
    model, images = Small(2, nn.ReLU(), nn.ReLU()).double().eval(), drawn(5, 6)
    layer = "features.2" if name == "guidedgradcam" else None
    give = partial(explain, model, method=name, target=list(LABELS), layer=layer)
    whole = give(images).maps
    assert torch.allclose(give(images, batch_size=1).maps, whole, rtol=1e-11, atol=1e-14)
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 7 * 60 / variants.SLOPES_SHARE)
    assert torch.allclose(give(images).maps, whole, rtol=1e-11, atol=1e-14)


def test_smoothgrad_without_noise_is_the_gradient_and_vargrad_is_nothing(seed):
    model, images = Small(2).double().eval(), drawn(5, 6)
    clean = explain(model, images, method="gradient", target=1).maps
    smooth = explain(model, images, method=partial(pixel.smoothgrad, sigma=0.0), target=1).maps
    assert disagreement(smooth, clean.numpy()) < 1e-12
    varied = explain(model, images, method=partial(pixel.vargrad, sigma=0.0), target=1).maps
    assert varied.max() < 1e-28 * clean.abs().max()  # rounding


@pytest.mark.parametrize(("name", "samples"), [("smoothgrad", 0), ("vargrad", 1)])
def test_too_few_copies_are_refused(name, samples, seed):
    method = partial(METHODS[name].function, samples=samples)
    with pytest.raises(MethodError, match=f"samples is {samples};"):
        explain(Small(2).double().eval(), drawn(5, 6), method=method, target=0)


def matrices(model: Small, size: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the convolutions as matrices on flattened values."""
    found = []
    shape = (2, *size)
    for convolution in (model.features[0], model.features[2]):
        with torch.no_grad():
            basis = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
            nothing = convolution(torch.zeros(1, *shape, dtype=torch.float64))
            matrix = (convolution(basis) - nothing).flatten(1).T.numpy()
        found.append((matrix, nothing.flatten().numpy()))
        shape = tuple(nothing.shape[1:])
    return found


def ruled(model: Small, image: Tensor, label: int, activation: nn.Module, rule: str) -> np.ndarray:
    layers = matrices(model, tuple(image.shape[1:]))
    cells = len(layers[-1][1]) // 5
    head = np.repeat(model.head.weight.detach().numpy()[label] / cells, cells)

    def value(at: float) -> float:
        return float(activation(torch.tensor([at], dtype=torch.float64)))

    def slope(at: float) -> float:
        leaf = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        return float(torch.autograd.grad(activation(leaf), leaf)[0])

    return oracle.rule_backprop(image.numpy(), layers, head, slope, value, rule)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), nn.LeakyReLU(0.2)], ids=str)
@pytest.mark.parametrize(("name", "rule"), RULES.items())
def test_a_backward_rule_is_what_its_paper_says_for_each_image_of_a_batch(name, rule, activation, size, seed):
    model, images = Small(len(size), activation, activation).double().eval(), drawn(*size)
    maps = explain(model, images, method=name, target=list(LABELS)).maps
    plain = explain(model, images, method="gradient", target=list(LABELS)).maps
    for image, label, found, without in zip(images, LABELS, maps, plain, strict=True):
        assert disagreement(without, ruled(model, image, label, activation, "plain")) < 1e-9
        expected = ruled(model, image, label, activation, rule)
        assert disagreement(found, expected) < 1e-9
        assert disagreement(without, expected) > 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_guidedgradcam_is_guided_backprop_times_the_rectified_gradcam_at_the_images_size(size, seed):
    model, images = Small(len(size), nn.ReLU(), nn.ReLU()).double().eval(), drawn(*size)
    explanation = explain(model, images, method="guidedgradcam", target=list(LABELS), layer="features.2")
    assert (explanation.layer, explanation.maps.shape) == ("features.2", (3, *size))
    for image, label, found in zip(images, LABELS, explanation.maps, strict=True):
        activations = model.features[:3](image[None]).detach().requires_grad_()
        score = model.head(model.features[3](activations).flatten(2).mean(2))[0, label]
        (slopes,) = torch.autograd.grad(score, activations)
        coarse = layer_oracle.gradcam(activations[0].detach().numpy(), slopes[0].numpy())
        fine = oracle.resized(np.maximum(coarse, 0.0), size)
        expected = fine * ruled(model, image, label, nn.ReLU(), "guided")
        assert disagreement(found, expected, scale=1e-2) < 1e-9


def test_a_model_without_relu_like_activations_has_its_gradient_as_guided_backprop(seed):
    model, images = Small(2, nn.Tanh(), nn.Sigmoid()).double().eval(), drawn(5, 6)
    guided = explain(model, images, method="guidedbackprop", target=1).maps
    assert torch.equal(guided, explain(model, images, method="gradient", target=1).maps)


def test_a_model_without_a_layer_is_explained_by_its_pixels(seed):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).eval()
    images = torch.randn(2, 1, 3, 4)
    explanation = explain(model, images, method="gradient", target=1)
    assert torch.allclose(explanation.maps, model[1].weight[1].view(1, 3, 4).expand(2, 3, 4))
    assert explanation.reason == "the method looks at the input itself, and at no layer"
    weighted = explain(model, images, method="inputxgradient", target=1)
    assert torch.allclose(weighted.maps.flatten(1).sum(1), weighted.scores, atol=1e-6)


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224"])
def test_every_pixel_method_on_real_networks_tells_classes_apart(architecture, seed):
    timm = pytest.importorskip("timm")
    options = {"img_size": 64} if architecture.startswith("vit") else {}
    model = timm.create_model(architecture, num_classes=5, **options).eval()
    images = torch.randn(2, 3, 64, 64)
    for name in [name for name, method in METHODS.items() if method.kind == "pixel"]:
        if name == "guidedgradcam":
            continue  # with random weights, Grad-CAM may be negative everywhere
        maps = [explain(model, images, method=brief(name), target=label).maps for label in (0, 1)]
        assert maps[0].shape == (2, 64, 64)
        assert maps[0].isfinite().all()
        assert maps[0].abs().flatten(1).amax(1).min() > 0
        assert not torch.allclose(maps[0], maps[1], rtol=0.1)
