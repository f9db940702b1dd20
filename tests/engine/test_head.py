"""A head that averages the layer and is linear after that is found by its numbers, and no other is."""

import pytest
import torch
from tests.engine.networks import CLASSES, Mean, Plain, Transformer, pictures, plain_autograd, settle
from torch import nn

from whycam import MethodError, Probability, explain


def features(channels=8):
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.SiLU())


def build(*head):
    return settle(nn.Sequential(features(), *head)).double()


HEADS = {
    "mean, linear": lambda: (Mean(), nn.Linear(8, CLASSES)),
    "adaptive pooling, linear": lambda: (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
    "mean, dropout, linear": lambda: (Mean(), nn.Dropout(0.5), nn.Linear(8, CLASSES)),
    "mean, linear without bias": lambda: (Mean(), nn.Linear(8, CLASSES, bias=False)),
    "1x1 convolution, mean": lambda: (nn.Conv2d(8, CLASSES, 1), Mean()),
    "1x1 convolution, adaptive pooling, flatten": lambda: (
        nn.Conv2d(8, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "adaptive pooling, 1x1 convolution, flatten": lambda: (
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, CLASSES, 1), nn.Flatten()),
    "dropout, 1x1 convolution, mean": lambda: (nn.Dropout(0.5), nn.Conv2d(8, CLASSES, 1), Mean()),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_cam_weights_the_layer_by_the_heads_row(head):
    model, images = build(*HEADS[head]()), pictures(dtype=torch.float64)
    matrix = next(part.weight for part in reversed(list(model.modules())) if hasattr(part, "weight"))
    row = matrix.detach().flatten(1)[2]
    activations, gradients, _ = plain_autograd(model, images, "0", lambda outputs: outputs[:, 2])
    found = explain(model.train(), images, method="cam", layer="0", target=2)
    torch.testing.assert_close(found.maps, torch.einsum("c,bchw->bhw", row, activations), rtol=1e-12, atol=0)
    # For such a head Grad-CAM is the same but for the number of positions.
    same = torch.einsum("bc,bchw->bhw", gradients.mean((2, 3)), activations) * activations[0, 0].numel()
    torch.testing.assert_close(found.maps, same, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_cam_on_grids_of_any_number_of_axes(axes):
    model, images = settle(Plain(axes)).double(), pictures(size=(6,) * axes, dtype=torch.float64)
    found = explain(model, images, method="cam", layer="last", target=1)
    gradcam = explain(model, images, method="gradcam", layer="last", target=1)
    torch.testing.assert_close(found.maps, gradcam.maps * gradcam.maps[0].numel(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cam_in_every_precision(dtype):
    model = settle(Plain()).to(dtype)
    found = explain(model, pictures(dtype=dtype), method="cam", layer="last", target=1)
    gradcam = explain(model.float(), pictures(dtype=dtype).float(), layer="last", target=1)
    error = (found.maps - gradcam.maps * 36).abs().max() / (gradcam.maps * 36).abs().max()
    assert error < {torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float32: 1e-4}[dtype]


def test_cam_of_a_contrast_and_of_a_probability_follows_the_target():
    model, images = settle(Plain()).double(), pictures(dtype=torch.float64)
    for target in (Probability(1), lambda outputs: outputs[:, 1] - 2 * outputs[:, 3]):
        found = explain(model, images, method="cam", layer="last", target=target)
        gradcam = explain(model, images, layer="last", target=target)
        torch.testing.assert_close(found.maps, gradcam.maps * 36, rtol=1e-8, atol=1e-12)


def test_cam_works_on_the_layer_that_is_chosen():
    """The usual small network: convolution, ReLU, pooling, linear."""
    for activation in (nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU()):
        model = settle(
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                activation,
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 5),
            )
        )
        assert explain(model, pictures(), method="cam").maps.abs().max() > 0
    assert explain(settle(Plain()), pictures(), method="cam").maps.abs().max() > 0


class Squared(nn.Module):
    def forward(self, x):
        return x.square()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


OTHER_HEADS = {
    "flatten, linear": lambda: (nn.Flatten(), nn.Linear(8 * 144, CLASSES)),
    "maximum, linear": lambda: (nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
    "mean, two linear": lambda: (Mean(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, CLASSES)),
    "mean, linear, softmax": lambda: (Mean(), nn.Linear(8, CLASSES), nn.Softmax(1)),
    "mean, norm, linear": lambda: (Mean(), nn.LayerNorm(8), nn.Linear(8, CLASSES)),
    "square, mean, linear": lambda: (Squared(), Mean(), nn.Linear(8, CLASSES)),
    "double, mean, linear": lambda: (Doubled(), Mean(), nn.Linear(8, CLASSES)),
    "mean, linear, double": lambda: (Mean(), nn.Linear(8, CLASSES), Doubled()),
    "3x3 convolution, mean": lambda: (nn.Conv2d(8, CLASSES, 3, padding=1), Mean()),
    "1x1 convolution with stride, mean": lambda: (nn.Conv2d(8, CLASSES, 1, stride=2), Mean()),
    "1x1 convolution, SiLU, mean": lambda: (nn.Conv2d(8, CLASSES, 1), nn.SiLU(), Mean()),
    "1x1 convolution, maximum": lambda: (nn.Conv2d(8, CLASSES, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
    "mean alone": lambda: (Mean(),),
}


@pytest.mark.parametrize("head", OTHER_HEADS)
def test_another_head_is_refused_by_the_name_of_gradcam(head):
    with pytest.raises(MethodError, match=r"cam needs a head.*use gradcam") as caught:
        explain(build(*OTHER_HEADS[head]()), pictures(dtype=torch.float64), method="cam", layer="0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", ["stem", "body", "body_norm"])
def test_an_earlier_layer_is_refused(layer):
    with pytest.raises(MethodError, match=f"averages '{layer}' over its positions"):
        explain(settle(Plain()), pictures(), method="cam", layer=layer)


def test_a_transformer_with_a_class_token_is_refused():
    with pytest.raises(MethodError, match="use gradcam"):
        explain(settle(Transformer((3, 3))), pictures(), method="cam", layer="blocks.1")


def test_cam_of_a_mean_over_patch_tokens():
    model = settle(Transformer((3, 2), pool="mean", prefix=2)).double()
    images = pictures(size=(12, 8), dtype=torch.float64)
    found = explain(model, images, method="cam", layer="norm", target=1)
    gradcam = explain(model, images, layer="norm", target=1)
    torch.testing.assert_close(found.maps, gradcam.maps * 6, rtol=1e-9, atol=1e-12)


def test_cam_leaves_no_hooks_when_its_own_forward_raises():
    model = settle(Plain())
    runs = []

    def failing(part, inputs):
        runs.append(part)
        if len(runs) == 2:
            raise ZeroDivisionError

    model.pool.register_forward_pre_hook(failing)
    with pytest.raises(ZeroDivisionError):
        explain(model, pictures(), method="cam", layer="last")
    assert not any(part._forward_hooks for part in model.modules())
