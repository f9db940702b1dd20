"""Score-CAM and its kin against their oracles, in float64 on a small network, and in known cases."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from tests.oracles import masking as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain, explain_targets
from whycam.engine import variants
from whycam.errors import MethodError
from whycam.methods import METHODS
from whycam.methods.masking import iscam, opticam, scorecam, sscam

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = [(9,), (6, 8), (4, 4, 6)]
LABELS = (2, 0, 1)
SHORT = {
    "scorecam": METHODS["scorecam"].function,
    "sscam": partial(sscam, samples=3, sigma=0.5, seed=4),
    "iscam": partial(iscam, steps=3),
    "opticam": partial(opticam, steps=4),
}


class Small(nn.Module):
    """A layer at half the image's resolution, one channel of which is dead, and three classes."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.features = convolution(2, 5, 3, stride=2, padding=1)
        self.after = nn.Sequential(nn.ReLU(), convolution(5, 4, 2), nn.Tanh())
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.features.weight[3] = 0.0

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.after(self.features(images)).flatten(2).mean(2))


def score_of(model: nn.Module, label: int) -> oracle.ScoreOf:
    def of(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(model(torch.from_numpy(image)[None])[0, label])

    return of


def gradient_of(model: nn.Module, label: int) -> oracle.GradientOf:
    def at(image: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(image)[None].requires_grad_()
        (found,) = torch.autograd.grad(model(leaf)[0, label], leaf)
        return found[0].numpy()

    return at


def expected_of(name: str, model: nn.Module, image: Tensor, label: int) -> np.ndarray:
    with torch.no_grad():
        activations = model.features(image[None])[0].numpy()
    given = (image.numpy(), activations)
    if name == "opticam":
        return oracle.opticam(*given, gradient_of(model, label), steps=4)
    score = score_of(model, label)
    if name == "sscam":
        drawn = torch.randn(3, *image.shape[1:], generator=torch.Generator().manual_seed(4))
        return oracle.sscam(*given, score, [0.5 * noise.double().numpy() for noise in drawn])
    return oracle.scorecam(*given, score) if name == "scorecam" else oracle.iscam(*given, score, steps=3)


@pytest.fixture(params=SIZES, ids=["signal", "image", "volume"])
def case(request, seed):
    size = request.param
    model = Small(len(size)).double().eval()
    return model, 2 * torch.randn(3, 2, *size, dtype=torch.float64)


@pytest.mark.parametrize("name", SHORT)
def test_a_masking_method_is_what_its_paper_says(name, case):
    model, images = case
    maps = explain(model, images, method=SHORT[name], target=LABELS, layer="features").maps
    for image, label, found in zip(images, LABELS, maps, strict=True):
        assert disagreement(found, expected_of(name, model, image, label)) < 1e-9


@pytest.mark.parametrize("name", SHORT)
def test_a_map_does_not_depend_on_batches_or_chunks(name, case, monkeypatch):
    model, images = case
    whole = explain(model, images, method=SHORT[name], target=LABELS, layer="features").maps
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 3 * images[0].numel())
    parts = explain(model, images, method=SHORT[name], target=LABELS, layer="features", batch_size=2).maps
    assert torch.allclose(whole, parts, rtol=1e-9)


@pytest.mark.parametrize(("channels", "baseline"), [(3, 0.0), (2, 0.7), (None, -1.2), (50, 0.0)])
def test_score_cams_options_are_what_they_say(channels, baseline, case):
    model, images = case
    method = partial(scorecam, channels=channels, baseline=baseline)
    maps = explain(model, images, method=method, target=LABELS, layer="features").maps
    for image, label, found in zip(images, LABELS, maps, strict=True):
        activations = model.features(image[None])[0].detach().numpy()
        score = score_of(model, label)
        expected = oracle.scorecam(image.numpy(), activations, score, channels, baseline)
        assert disagreement(found, expected) < 1e-9


def test_score_cam_takes_the_channels_of_the_largest_mean_gradients_where_asked_to(case):
    model, images = case
    method = partial(scorecam, channels=2, by="gradient")
    several = explain_targets(model, images, [LABELS, 1], method=method, layer="features")
    for labels, explanation in zip((LABELS, [1] * len(images)), several, strict=True):
        for image, label, found in zip(images, labels, explanation.maps, strict=True):
            leaf = model.features(image[None]).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                model.head(model.after(leaf).flatten(2).mean(2))[0, label], leaf
            )
            means = [abs(float(channel.mean())) for channel in gradient[0]]
            chosen = sorted(range(len(means)), key=lambda k: -means[k])[:2]
            score = score_of(model, label)
            expected = oracle.scorecam_of(image.numpy(), leaf[0].detach().numpy(), score, chosen, 0.0)
            assert disagreement(found, expected) < 1e-9


@pytest.mark.parametrize("name", ["scorecam", "sscam", "iscam"])
def test_constant_channels_share_their_forwards_and_so_do_targets(name, seed):
    model = Small(2).double().eval()
    with torch.no_grad():
        model.features.weight[1:3] = 0.0
    samples, ran = {"scorecam": 1, "sscam": 3, "iscam": 3}[name], []
    model.register_forward_pre_hook(lambda part, inputs: ran.append(len(inputs[0])))
    images = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    together = explain_targets(model, images, [0, 2], method=SHORT[name], layer="features")
    assert sum(ran) == 2 + 2 * (2 + 1) * samples  # two channels that vary, one for the three that don't
    for label, one in zip((0, 2), together, strict=True):
        for image, found in zip(images, one.maps, strict=True):
            assert disagreement(found, expected_of(name, model, image, label)) < 1e-9


class ReadsOneRegion(nn.Module):
    """Channel 0 lights up in the left half, channel 1 in the right; class 0 is the left half's brightness."""

    def __init__(self) -> None:
        super().__init__()
        left = torch.zeros(1, 1, 8, 8)
        left[..., :4] = 1.0
        self.register_buffer("halves", torch.cat([left, 1 - left], 1))
        self.features = nn.AvgPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images * self.halves)
        return 40 * features.flatten(2).mean(2)


@pytest.mark.parametrize("name", SHORT)
def test_the_channel_whose_region_is_read_gets_the_weight(name):
    method = partial(sscam, samples=8, sigma=0.1) if name == "sscam" else SHORT[name]
    share = (
        0.5 if name == "opticam" else 0.99
    )  # from a half on, its mask is right and it has no reason to go on
    images = torch.ones(1, 1, 8, 8)
    for label in (0, 1):
        (found,) = explain(ReadsOneRegion(), images, method=method, target=label, layer="features").maps
        halves = (found[:, :2].sum(), found[:, 2:].sum())
        assert halves[label] > share * sum(halves)


@pytest.mark.parametrize("name", SHORT)
def test_a_layer_that_is_silent_gives_zeros(name):
    model = Small(2).eval()
    with torch.no_grad():
        model.features.weight.zero_()
        model.features.bias.zero_()
    found = explain(model, torch.randn(2, 2, 6, 8), method=SHORT[name], layer="features", target=0)
    assert (found.maps == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SHORT)
def test_half_precision_frozen_and_without_autograd(name, dtype, seed):
    model = Small(2).to(dtype).eval().requires_grad_(False)
    with torch.inference_mode():
        images = torch.randn(2, 2, 6, 8, dtype=dtype)
        maps = explain(model, images, method=SHORT[name], layer="features", target=0).maps
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    wide = explain(model.double(), images.double(), method=SHORT[name], layer="features", target=0).maps
    assert (maps - wide).abs().max() < (0.1 if dtype == torch.bfloat16 else 1e-4) * wide.abs().max()


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("vit_tiny_patch16_224", "blocks.10")])
def test_a_real_network_and_the_channels_that_vary_most(name, layer, seed):
    options = {"img_size": 64} if name.startswith("vit") else {}
    model, images = timm.create_model(name, num_classes=5, **options).eval(), torch.randn(1, 3, 64, 64)
    found = explain(model, images, method=partial(scorecam, channels=6), layer=layer, target=1)
    assert found.maps.shape[1:] == ((2, 2) if name == "resnet18" else (4, 4))
    assert found.maps.isfinite().all()
    assert found.maps.std() > 0


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (partial(scorecam, channels=0), "channels"),
        (partial(sscam, samples=0), "samples"),
        (partial(iscam, steps=0), "steps"),
        (partial(opticam, steps=-1), "steps"),
    ],
)
def test_a_count_below_one_is_refused(method, name):
    with pytest.raises(MethodError, match=rf"{name} is -?\d; expected at least 1"):
        explain(Small(2), torch.randn(1, 2, 6, 8), method=method, layer="features")


def test_channels_by_anything_else_are_refused(case, unchecked):
    model, images = case
    with pytest.raises(MethodError, match="'spread' or by 'gradient'"):
        explain(model, images, method=partial(scorecam, channels=1, by="size"), layer="features")
