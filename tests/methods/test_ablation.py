"""Methods that change activations against their oracles, in float64 over signals, images and volumes."""

from math import prod

import pytest
import timm
import torch
import torch.nn.functional as F
from tests.oracles import ablation as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain, explain_targets
from whycam.engine import variants

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = [(7,), (5, 6), (3, 4, 5)]
LABELS = [2, 0, 1]
ON_SCORES = {"ablationcam": oracle.ablationcam, "reciprocam": oracle.reciprocam}
NAMES = ["ablationcam", "reciprocam", "liftcam"]


class Small(nn.Module):
    """A convolution, then two linear layers with an activation between them."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = CONVOLUTIONS[len(size)](2, 4, 3, padding=1)
        self.first = nn.Linear(4 * prod(size), 6)
        self.second = nn.Linear(6, 3)

    def tail(self, activations: Tensor) -> Tensor:
        return self.second(F.silu(self.first(activations.flatten(1))))

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.layer(images))


def small(size: tuple[int, ...]) -> tuple[Small, Tensor]:
    return Small(size).double().eval(), torch.randn(3, 2, *size, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ON_SCORES)
def test_a_method_of_changed_activations_is_what_its_paper_says(name, size, seed):
    model, images = small(size)
    maps = explain(model, images, method=name, layer="layer", target=LABELS).maps
    assert maps.shape == (3, *size)
    for image, label, found in zip(model.layer(images).detach(), LABELS, maps, strict=True):

        def score_of(activations, label=label):
            with torch.no_grad():
                return float(model.tail(torch.from_numpy(activations)[None])[0, label])

        assert disagreement(found, ON_SCORES[name](image.numpy(), score_of)) < 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_liftcam_is_deeplift_by_loops(size, seed):
    model, images = small(size)
    maps = explain(model, images, method="liftcam", layer="layer", target=LABELS).maps
    weights = [p.detach().numpy() for p in (model.first.weight, model.first.bias, model.second.weight)]

    def silu(value: float) -> float:
        return float(F.silu(torch.tensor(value, dtype=torch.float64)))

    for image, label, found in zip(model.layer(images).detach(), LABELS, maps, strict=True):
        expected = oracle.liftcam(image.numpy(), weights[0], weights[1], silu, weights[2][label])
        assert disagreement(found, expected) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_maps_do_not_depend_on_batches_chunks_or_other_targets(name, seed, monkeypatch):
    model, images = small((5, 6))
    whole = explain(model, images, method=name, layer="layer", target=LABELS).maps
    one = explain(model, images, method=name, layer="layer", target=LABELS, batch_size=1).maps
    torch.testing.assert_close(one, whole, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(variants, "BYTES_AT_ONCE", 3 * 4 * 30 * 8)
    torch.testing.assert_close(
        explain(model, images, method=name, layer="layer", target=LABELS).maps, whole, rtol=1e-9, atol=1e-12
    )
    shared = explain_targets(model, images, [0, LABELS, 2], method=name, layer="layer")
    torch.testing.assert_close(shared[1].maps, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["ablationcam", "reciprocam"])
def test_targets_share_the_forwards(name, seed):
    model, images = small((5, 6))
    calls = []
    model.second.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    explain(model, images, method=name, layer="layer")
    calls.clear()
    explain(model, images, method=name, layer="layer")
    alone = sum(calls)
    calls.clear()
    explain_targets(model, images, [0, 1, 2], method=name, layer="layer")
    assert sum(calls) == alone


class Pooled(nn.Module):
    """Averages a rectified layer: the drop without a channel is its weight times its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images).mean((2, 3)))


@pytest.mark.parametrize("name", ["ablationcam", "liftcam"])
def test_on_a_gap_head_a_channel_weighs_its_weight_times_its_mean(name, seed):
    model, images = Pooled().double().eval(), torch.randn(4, 2, 6, 6, dtype=torch.float64)
    classes = torch.tensor([0, 2, 1, 2])
    activations = model.layer(images).detach()
    logits = model(images).gather(1, classes[:, None]).squeeze(1).detach()
    drops = model.head.weight.detach()[classes] * activations.mean((2, 3))
    size = logits.abs() if name == "ablationcam" else torch.ones_like(logits)
    assert (logits < 0).any()
    expected = torch.einsum("bc,bchw->bhw", drops / size[:, None], activations)
    maps = explain(model, images, method=name, layer="layer", target=classes.tolist()).maps
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


def test_a_dead_channel_costs_nothing(seed):
    model, images = Pooled().double().eval(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        model.layer[0].weight[3], model.layer[0].bias[3] = 0.0, -1.0
    explain(model, images, method="ablationcam", layer="layer")
    calls = []
    model.head.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    maps = explain(model, images, method="ablationcam", layer="layer").maps
    assert sum(calls) == 2 + 2 * 4
    assert maps.any()


def test_a_layer_of_zeros_gives_zeros(seed):
    model, images = Pooled().double().eval(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        model.layer[0].weight.zero_()
        model.layer[0].bias.fill_(-1.0)
    for name in NAMES:
        explanation = explain(model, images, method=name, layer="layer")
        assert explanation.blank.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_real_architectures_frozen_and_in_half_precision(dtype, seed):
    for name, layer in (("resnet18", "layer4"), ("vit_tiny_patch16_224", "blocks.10")):
        arguments = {"img_size": 64} if name.startswith("vit") else {"zero_init_last": False}
        model = timm.create_model(name, **arguments).to(dtype).requires_grad_(False)
        images = torch.randn(2, 3, 64, 64, dtype=dtype)
        with torch.inference_mode():
            for method in ("reciprocam", "liftcam"):
                maps = explain(model, images, method=method, layer=layer).maps
                assert (maps.dtype, maps.shape[0]) == (torch.float32, 2)
                assert maps.isfinite().all()
                assert maps.flatten(1).std(1).min() > 0
        assert model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
