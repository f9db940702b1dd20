"""Occlusion, RISE and Sobol indices against their oracles in float64, and where the answer is known."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from tests.oracles import perturbation as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain, explain_targets
from whycam.engine import variants
from whycam.errors import MethodError
from whycam.methods import METHODS, perturbation
from whycam.methods.perturbation import occlusion, rise, sobol

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = [(11,), (6, 8), (4, 5, 6)]
LABELS = (2, 0, 1)
SHORT = {
    "occlusion": METHODS["occlusion"].function,
    "rise": partial(rise, masks=9, cells=3, keep=0.4, seed=5),
    "sobol": partial(sobol, cells=2, designs=4, seed=5),
}


class Small(nn.Module):
    """A convolution with a smooth activation, averaged, and three classes."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(CONVOLUTIONS[axes](2, 4, 3), nn.Tanh())
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(2).mean(2))


def score_of(model: nn.Module, label: int) -> oracle.ScoreOf:
    def of(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(model(torch.from_numpy(image)[None])[0, label])

    return of


def expected_of(name: str, model: nn.Module, image: Tensor, label: int, fill: float = 0.0) -> np.ndarray:
    size, score = image.shape[1:], score_of(model, label)
    if name == "occlusion":
        patch = [-(-length // 7) for length in size]
        stride = [max(1, width // 2) for width in patch]
        return oracle.occlusion(image.numpy(), score, patch, stride, fill)
    if name == "rise":
        random = torch.Generator().manual_seed(5)
        kept = torch.rand(9, *[3] * len(size), generator=random) < 0.4
        cell = torch.tensor([-(-length // 3) for length in size])
        shifts = (torch.rand(9, len(size), generator=random) * cell).long()
        return oracle.rise(image.numpy(), score, kept.double().numpy(), shifts.tolist(), 0.4, fill)
    cells = 2 ** len(size)
    points = torch.quasirandom.SobolEngine(2 * cells, scramble=True, seed=5).draw(4, dtype=torch.float64)
    first, second = (half.reshape(4, *[2] * len(size)).numpy() for half in points.split(cells, 1))
    return oracle.sobol(image.numpy(), score, first, second, fill)


@pytest.fixture(params=SIZES, ids=["signal", "image", "volume"])
def case(request, seed):
    size = request.param
    return Small(len(size)).double().eval(), 2 * torch.randn(3, 2, *size, dtype=torch.float64)


@pytest.mark.parametrize("fill", [0.0, -1.5])
@pytest.mark.parametrize("name", SHORT)
def test_a_perturbation_method_is_what_its_paper_says(name, fill, case):
    model, images = case
    explanation = explain(model, images, method=partial(SHORT[name], fill=fill), target=LABELS)
    assert explanation.layer == "input"
    for image, label, found in zip(images, LABELS, explanation.maps, strict=True):
        assert disagreement(found, expected_of(name, model, image, label, fill)) < 1e-9


@pytest.mark.parametrize("name", SHORT)
def test_a_map_does_not_depend_on_batches_or_chunks(name, case, monkeypatch):
    model, images = case
    whole = explain(model, images, method=SHORT[name], target=LABELS).maps
    monkeypatch.setattr(variants, "VALUES_AT_ONCE", 3 * images[0].numel())
    monkeypatch.setattr(perturbation, "VALUES_AT_ONCE", 2 * images[0, 0].numel())
    parts = explain(model, images, method=SHORT[name], target=LABELS, batch_size=2).maps
    assert torch.allclose(whole, parts, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SHORT)
def test_targets_share_the_forwards(name, case):
    model, images = case
    ran = []
    model.register_forward_pre_hook(lambda part, inputs: ran.append(len(inputs[0])))
    alone = explain(model, images, method=SHORT[name], target=2).maps
    once = sum(ran)
    together = explain_targets(model, images, [0, 1, 2], method=SHORT[name])
    assert sum(ran) == 2 * once
    assert torch.equal(alone, together[2].maps)


@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (4, 4), (2, 1), (50, 1)])
def test_patches_of_any_size_end_at_the_border(patch, stride, case):
    model, images = case
    found = explain(model, images, method=partial(occlusion, patch=patch, stride=stride), target=1).maps[0]
    widths = [min(patch, length) for length in images.shape[2:]]
    expected = oracle.occlusion(images[0].numpy(), score_of(model, 1), widths, [stride] * len(widths))
    assert disagreement(found, expected) < 1e-9


class Weighted(nn.Module):
    """A score that adds up the pixels under known weights."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.weights).flatten(1).sum(1, keepdim=True)


def test_occluding_single_pixels_of_a_linear_model_gives_each_pixels_share(seed):
    weights, images = torch.randn(2, 5, 6).double(), torch.randn(3, 2, 5, 6).double()
    found = explain(Weighted(weights), images, method=partial(occlusion, patch=1, fill=0.5), target=0).maps
    assert torch.allclose(found, ((images - 0.5) * weights).sum(1), atol=1e-12)


def test_rise_converges_to_what_keeping_a_cell_is_worth(seed):
    weights = torch.zeros(1, 21, 21)
    weights[0, 8:13, 8:13] = 1 / 25
    found = explain(
        Weighted(weights), torch.ones(1, 1, 21, 21), method=partial(rise, masks=6000), target=0
    ).maps[0]
    # By the same masks' own covariance: E[(y - E y) M] / keep, from another seed's draws.
    drawn = perturbation._RandomMasks(torch.ones(1, 1, 21, 21), 20000, 7, 0.5, 99)
    masks = drawn.masks(torch.arange(20000))
    scores = (masks * weights).sum((1, 2))
    expected = torch.einsum("n,nhw->hw", scores - scores.mean(), masks) / 20000 / 0.5
    assert (found - expected).abs().max() < 0.06 * expected.max()
    assert found.argmax().item() // 21 in range(8, 13)
    assert found[:3].abs().max() < 0.06 * found.max()


def test_the_masks_of_rise_keep_every_pixel_equally_often():
    masks = perturbation._RandomMasks(torch.zeros(1, 1, 10, 13), 20000, 4, 0.3, 0).masks(torch.arange(20000))
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert (masks.mean(0) - 0.3).abs().max() < 0.015


def test_the_indices_of_an_additive_model_are_its_terms_shares_of_the_variance(seed):
    terms = torch.tensor([[3.0, 0.0], [1.0, 2.0]]).double()
    weights = terms.repeat_interleave(1, 0)[None]
    found = explain(
        Weighted(weights),
        torch.ones(1, 1, 2, 2).double(),
        method=partial(sobol, cells=2, designs=1024),
        target=0,
    ).maps[0]
    assert torch.allclose(found, terms.square() / terms.square().sum(), atol=0.02)
    assert found[0, 1] == 0


@pytest.mark.parametrize("name", SHORT)
def test_a_score_that_does_not_move_gives_zeros(name):
    model = nn.Sequential(Small(2), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
    assert (explain(model, torch.randn(2, 2, 6, 8), method=SHORT[name], target=1).maps == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SHORT)
def test_half_precision_frozen_and_without_autograd(name, dtype, seed):
    model = Small(2).to(dtype).eval().requires_grad_(False)
    with torch.inference_mode():
        images = torch.randn(2, 2, 6, 8, dtype=dtype)
        maps = explain(model, images, method=SHORT[name], target=0).maps
    assert maps.dtype == torch.float32
    wide = explain(model.double(), images.double(), method=SHORT[name], target=0).maps
    assert (maps - wide).abs().max() < (0.2 if dtype == torch.bfloat16 else 1e-4) * wide.abs().max()


@pytest.mark.parametrize("name", SHORT)
def test_the_same_seed_gives_the_same_map_and_callers_chance_is_left_alone(name, seed):
    model, images = Small(2).eval(), torch.randn(1, 2, 6, 8)
    state = torch.get_rng_state()
    first, again = (explain(model, images, method=SHORT[name], target=0).maps for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    if name != "occlusion":
        other = explain(model, images, method=partial(SHORT[name], seed=6), target=0).maps
        assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", SHORT)
def test_real_networks_are_explained_at_any_layout(name, seed):
    for model in (
        timm.create_model("resnet18", num_classes=5),
        timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64),
    ):
        found = explain(model.eval(), torch.randn(1, 3, 64, 64), method=SHORT[name], target=1)
        assert found.maps.isfinite().all()
        assert found.heatmaps().shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (partial(occlusion, patch=0), "patch is 0; expected at least 1"),
        (partial(occlusion, stride=0), "stride is 0; expected at least 1"),
        (partial(occlusion, patch=2, stride=3), "stride 3 passes over pixels between patches of 2"),
        (partial(rise, masks=0), "masks is 0"),
        (partial(rise, keep=1.0), "keep is 1.0; expected a probability between 0 and 1"),
        (partial(sobol, designs=1), "designs is 1; expected at least 2"),
        (partial(sobol, cells=200), "40000 cells need a Sobol' sequence of 80000 axes"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(method, message):
    with pytest.raises(MethodError, match=message):
        explain(Small(2), torch.randn(1, 2, 6, 8), method=method, target=0)
