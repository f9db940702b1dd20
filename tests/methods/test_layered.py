"""Methods over layers, with biases, with curvature or on compared classes, on small nets in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from tests.engine.networks import NORMS, settle
from tests.oracles import gradient as gradient_oracle
from tests.oracles import layered as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

import whycam
from whycam import explain, explain_methods
from whycam.methods import layered

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = [(9,), (6, 8), (4, 5, 6)]


class Small(nn.Module):
    """Two convolutions, averaged, and five classes; ``last`` is the activation of the second."""

    def __init__(self, axes: int, last: nn.Module, classes: int = 5) -> None:
        super().__init__()
        self.stem = CONVOLUTIONS[axes](2, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.body = CONVOLUTIONS[axes](8, 9, 3, padding=1, stride=2)
        self.last = last
        self.head = nn.Linear(9, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.body(self.relu(self.stem(images)))).flatten(2).mean(2))


class WithDepth(nn.Module):
    """Three stages of 32, 16 and 8 positions a side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.second, self.relu2 = nn.Conv2d(8, 10, 3, padding=1, stride=2), nn.ReLU()
        self.third, self.relu3 = nn.Conv2d(10, 12, 3, padding=1, stride=2), nn.ReLU()
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        middle = self.relu2(self.second(self.relu1(self.stem(images))))
        return self.head(self.relu3(self.third(middle)).mean((2, 3)))


def activations_of(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda part, given, output: kept.append(output))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]


# --- Finer-CAM


@pytest.mark.parametrize("size", SIZES)
def test_on_a_gap_head_finercam_weighs_channels_by_differences_of_class_weights(size, seed):
    model = Small(len(size), nn.ReLU()).double().eval()
    images, labels = torch.randn(3, 2, *size, dtype=torch.float64), [2, 0, 4]
    explanation = explain(model, images, method="finercam", target=labels, layer="last")
    activations, matrix = activations_of(model, "last", images), model.head.weight.detach().numpy()
    for image, label, scores, found, score in zip(
        activations, labels, model(images).tolist(), explanation.maps, explanation.scores, strict=True
    ):
        against = oracle.references(scores, label, 3)
        weights = oracle.finer_channel_weights(matrix, label, 0.6, against)
        cells = image[0].numel()
        expected = gradient_oracle.weighted_sum(image.numpy(), [weight / cells for weight in weights])
        assert disagreement(found, expected) < 1e-9
        assert float(score) == pytest.approx(oracle.finer_score(scores, label, 0.6, against))


def test_finercam_is_gradcam_on_the_target_and_shares_its_forward_with_other_methods(seed):
    model = Small(2, nn.SiLU()).double().eval()
    images = torch.randn(4, 2, 6, 8, dtype=torch.float64)
    calls: list[int] = []
    model.stem.register_forward_hook(lambda part, given, output: calls.append(len(output)))
    several = explain_methods(
        model, images, ["gradcam", "finercam", "layercam", "finercam"], layer="last", batch_size=3
    )
    assert calls == [3, 1]
    assert [one.method for one in several] == ["gradcam", "finercam", "layercam", "finercam"]
    plain = explain(model, images, method="gradcam", layer="last")
    finer = explain(model, images, method="gradcam", layer="last", target=whycam.Finer())
    torch.testing.assert_close(several[0].maps, plain.maps)
    for one in (several[1], several[3]):
        torch.testing.assert_close(one.maps, finer.maps)
        torch.testing.assert_close(one.scores, finer.scores)
    assert not torch.allclose(plain.maps, finer.maps)
    torch.testing.assert_close(several[2].maps, explain(model, images, method="layercam", layer="last").maps)


def test_finercam_of_a_comparison_compares_once(seed):
    model = Small(2, nn.SiLU()).double().eval()
    images = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    target = whycam.Finer(1, gamma=0.3, references=[0])
    (plain, finer) = explain_methods(model, images, ["gradcam", "finercam"], layer="last", target=target)
    torch.testing.assert_close(finer.maps, plain.maps)


def test_finercam_keeps_its_classes_under_smoothing(seed):
    model = Small(2, nn.SiLU()).double().eval()
    images = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    smooth = explain(model, images, method="finercam", layer="last", smoothing=whycam.FlipAverage())
    target = whycam.Finer().pin(model(images).detach())
    again = [
        explain(model, view, method="gradcam", layer="last", target=target).maps
        for view in (images, images.flip(-1))
    ]
    torch.testing.assert_close(smooth.maps, (again[0] + again[1].flip(-1)) / 2)


# --- ShapleyCAM


def score_gradient(model: Small, label: int) -> Callable[[np.ndarray], np.ndarray]:
    """Give d score / d what ``stem`` returned, from what follows it."""

    def at(activations: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(activations)[None].requires_grad_()
        score = model.head(model.last(model.body(model.relu(leaf))).flatten(2).mean(2))[0, label]
        return torch.autograd.grad(score, leaf)[0][0].numpy()

    return at


@pytest.mark.parametrize("size", SIZES)
def test_shapleycam_takes_half_the_curvature_off_each_gradient(size, seed):
    model = Small(len(size), nn.SiLU()).double().eval()
    images, labels = torch.randn(3, 2, *size, dtype=torch.float64), [2, 0, 4]
    maps = explain(model, images, method="shapleycam", target=labels, layer="stem").maps
    plain = explain(model, images, method="gradcam", target=labels, layer="stem").maps
    for image, label, found in zip(activations_of(model, "stem", images), labels, maps, strict=True):
        gradient_of = score_gradient(model, label)
        product = oracle.hessian_product(gradient_of, image.numpy())
        expected = oracle.shapleycam(image.numpy(), gradient_of(image.numpy()), product)
        assert disagreement(found, expected) < 1e-8
    assert not torch.allclose(maps, plain, rtol=1e-3)


@pytest.mark.parametrize("layer", ["stem", "last"])
def test_shapleycam_is_gradcam_where_the_score_is_piecewise_linear(layer, seed):
    model = Small(2, nn.ReLU()).double().eval()
    images = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    (curved, plain) = explain_methods(model, images, ["shapleycam", "gradcam"], layer=layer)
    assert torch.equal(curved.maps, plain.maps)


def test_shapleycam_sees_a_curved_target(seed):
    model = Small(2, nn.ReLU()).double().eval()
    images = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    target = whycam.Probability()
    (curved, plain) = explain_methods(model, images, ["shapleycam", "gradcam"], layer="last", target=target)
    assert not torch.allclose(curved.maps, plain.maps, rtol=1e-3)


def test_shapleycam_of_an_image_depends_on_no_other_and_leaves_the_model_alone(seed):
    model = Small(2, nn.SiLU()).double().train().requires_grad_(False)
    images = torch.randn(3, 2, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        together = explain(model, images, method="shapleycam", layer="stem", target=[0, 1, 2]).maps
        alone = explain(model, images, method="shapleycam", layer="stem", target=[0, 1, 2], batch_size=1).maps
    torch.testing.assert_close(together, alone)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_shapleycam_works_through_fused_attention(seed):
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2).double().eval()
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    (fused, plain) = explain_methods(model, images, ["shapleycam", "gradcam"], layer="blocks.0", target=1)
    for block in model.blocks:
        block.attn.fused_attn = False
    written_out = explain(model, images, method="shapleycam", layer="blocks.0", target=1)
    torch.testing.assert_close(fused.maps, written_out.maps, rtol=1e-8, atol=1e-12)
    assert not torch.allclose(fused.maps, plain.maps, rtol=1e-3)


# --- FullGrad


class WithNorm(nn.Module):
    """Convolution, batch norm, ReLU, a strided convolution, ReLU, mean, linear; all with biases."""

    def __init__(self, axes: int, between: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = CONVOLUTIONS[axes](2, 4, 3, padding=1)
        self.norm = NORMS[axes](4)
        self.relu = between or nn.ReLU(inplace=True)
        self.body = CONVOLUTIONS[axes](4, 3, 2, stride=2)
        self.head = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.norm(self.stem(images)))
        return self.head(self.body(hidden).relu().flatten(2).mean(2))


def parts_by_hand(model: WithNorm, image: Tensor, label: int) -> list[np.ndarray]:
    """Input x gradient, and each bias x gradient, from a forward that keeps every intermediate value."""
    leaf = image[None].clone().requires_grad_()
    stem = model.stem(leaf)
    normed = model.norm(stem)
    body = model.body(normed.relu())
    score = model.head(body.relu().flatten(2).mean(2))[0, label]
    slopes = [slope[0].numpy() for slope in torch.autograd.grad(score, [leaf, stem, normed, body])]
    norm = [getattr(model.norm, name).detach().numpy() for name in ("running_mean", "running_var")]
    added = oracle.batch_norm_bias(
        *norm, model.norm.weight.detach().numpy(), model.norm.bias.detach().numpy(), model.norm.eps
    )
    biases = [model.stem.bias.detach().numpy(), added, model.body.bias.detach().numpy()]
    parts = [image.numpy() * slopes[0]]
    for bias, slope in zip(biases, slopes[1:], strict=True):
        parts.append(np.stack([slope[k] * bias[k] for k in range(len(bias))]))
    return parts


@pytest.mark.parametrize("size", SIZES)
def test_fullgrad_sums_the_magnitudes_of_the_input_and_of_every_bias(size, seed):
    model = settle(WithNorm(len(size)).double())
    images, labels = torch.randn(3, 2, *size, dtype=torch.float64), [2, 0, 4]
    explanation = explain(model, images, method="fullgrad", target=labels)
    assert (explanation.layer, explanation.maps.shape) == ("input", (3, *size))
    for image, label, found in zip(images, labels, explanation.maps, strict=True):
        expected = oracle.fullgrad(parts_by_hand(model, image, label), size)
        assert disagreement(found, expected) < 1e-9


def test_fullgrad_does_not_depend_on_the_batch_and_leaves_the_model_alone(seed):
    model = settle(WithNorm(2).double()).train().requires_grad_(False)
    images = torch.randn(3, 2, 6, 8, dtype=torch.float64)
    with torch.inference_mode():
        together = explain(model, images, method="fullgrad", target=[0, 1, 2]).maps
    alone = explain(model, images, method="fullgrad", target=[0, 1, 2], batch_size=1).maps
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_fullgrad_of_a_score_that_nothing_moves_is_zero():
    model = settle(WithNorm(2).double())
    nn.init.zeros_(model.head.weight)
    explanation = explain(model, torch.rand(2, 2, 6, 8, dtype=torch.float64), method="fullgrad", target=1)
    assert not explanation.maps.any()


def test_fullgrad_in_half_precision_gives_a_map_in_single(seed):
    model = settle(WithNorm(2)).bfloat16()
    maps = explain(model, torch.rand(2, 2, 6, 8).bfloat16(), method="fullgrad").maps
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert maps.amax() > 0


# --- RefineCAM


@pytest.mark.parametrize("size", SIZES)
def test_refinecam_multiplies_the_layers_maps(size, seed):
    model = Small(len(size), nn.SiLU()).double().eval()
    images, labels = torch.randn(3, 2, *size, dtype=torch.float64), [2, 0, 4]
    explanation = explain(model, images, method="refinecam", target=labels, layer=["last", "relu"])
    leaves = images.clone().requires_grad_()
    shallow = model.relu(model.stem(leaves))
    deep = model.last(model.body(shallow))
    scores = model.head(deep.flatten(2).mean(2))[range(3), labels]
    slopes = torch.autograd.grad(scores.sum(), [shallow, deep])
    for place, found in enumerate(explanation.maps):
        stages = [
            (value[place].detach().numpy(), slope[place].numpy())
            for value, slope in zip((shallow, deep), slopes, strict=True)
        ]
        assert disagreement(found, oracle.refinecam(stages, size)) < 1e-9


def test_refinecam_takes_the_stages_and_others_beside_it_the_chosen_layer(seed):
    model = settle(WithDepth())
    images = torch.randn(3, 3, 32, 32)
    calls: list[int] = []
    model.stem.register_forward_hook(lambda part, given, output: calls.append(len(output)))
    choice = whycam.choose_layer(model, images)
    calls.clear()
    refined, gradcam, edges = explain_methods(model, images, ["refinecam", "gradcam", "edges"])
    assert calls == [3]
    assert refined.layer == "relu1 + relu2 + relu3"
    assert refined.maps.shape == (3, 32, 32)
    assert refined.reason == "the deepest fit layer at each grid: 32 x 32, 16 x 16, 8 x 8"
    assert (gradcam.layer, gradcam.reason) == (choice.path, choice.reason)
    assert edges.layer == "input"
    alone = explain(model, images, method="gradcam")
    torch.testing.assert_close(gradcam.maps, alone.maps)
    torch.testing.assert_close(gradcam.gradient_peak, alone.gradient_peak)
    smooth = explain_methods(model, images, ["refinecam", "gradcam"], smoothing=whycam.ScaleAverage((1.0,)))
    torch.testing.assert_close(smooth[0].maps, refined.maps)
    torch.testing.assert_close(smooth[1].maps, gradcam.maps)


def test_refinecam_with_another_base_and_an_unknown_one():
    stage = whycam.methods.Stage(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4))
    product = layered.refinecam([stage, stage], base="hirescam")
    single = (stage.activations * stage.gradients).sum(1)
    torch.testing.assert_close(product, (single / single.max()) ** 2)
    assert not layered.refinecam([stage, whycam.methods.Stage(stage.activations, -stage.gradients)]).any()
    with pytest.raises(whycam.MethodError, match="base 'fullgrad' is unknown; choose gradcam"):
        layered.refinecam([stage], base="fullgrad")


def test_fused_attention_is_opened_in_this_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own switch of kernels is the process's: two threads' restores would cross."""
    monkeypatch.setattr(torch.nn.attention, "_sdpa_kernel", None)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=3).eval()
    found = explain(model, torch.randn(1, 3, 32, 32), method="shapleycam", layer="blocks.0", target=1)
    assert found.maps.isfinite().all()
