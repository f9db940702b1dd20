"""Opened attention on the libraries' transformers: equal outputs and gradients, the right tokens."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from tests.engine.networks import Plain, Transformer, pictures, settle
from torch import Tensor, nn

from whycam import explain, explain_methods
from whycam.engine import Inputs, explaining
from whycam.engine.attention import attend
from whycam.engine.opened import OpenedAttention
from whycam.errors import EngineError, MethodError
from whycam.methods import METHODS
from whycam.targets import logits_of

NAMES = [name for name, method in METHODS.items() if method.takes_attention]


def vit(name: str, **options: Any) -> nn.Module:
    small = {"embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 5}
    return timm.create_model(name, **{**small, **options})


def from_timm_unfused(name: str, **options: Any) -> nn.Module:
    model = vit(name, **options)
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    return model


def from_torchvision() -> nn.Module:
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5)
    nn.init.normal_(model.heads.head.weight)  # it is zero at first
    return model


NARROW = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
PATCHED = {**NARROW, "image_size": 32, "patch_size": 8}


def from_transformers(kind: str, implementation: str, **options: Any) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(**{**PATCHED, **options}, num_labels=5)
    config._attn_implementation = implementation
    name = f"{kind}{'ForImageClassificationWithTeacher' if kind == 'DeiT' else 'ForImageClassification'}"
    return getattr(transformers, name)(config)


def clip(implementation: str) -> nn.Module:
    text = {**NARROW, "vocab_size": 20, "eos_token_id": 19, "max_position_embeddings": 17}
    config = transformers.CLIPConfig(text_config=text, vision_config=PATCHED, projection_dim=16)
    config._attn_implementation = implementation
    return transformers.CLIPModel(config)


class Texts(nn.Module):
    """Both towers of open_clip, on images and as many texts, of as many tokens as the image has."""

    def __init__(self) -> None:
        super().__init__()
        vision = open_clip.CLIPVisionCfg(layers=3, width=24, head_width=12, patch_size=8, image_size=32)
        text = open_clip.CLIPTextCfg(context_length=17, vocab_size=20, width=24, heads=2, layers=2)
        self.net = open_clip.CLIP(16, vision, text)
        self.register_buffer("words", torch.arange(17).repeat(2, 1))

    def forward(self, images: Tensor) -> Tensor:
        image, text, scale = self.net(images, self.words)
        return scale * image @ (text * torch.tensor([[1.0], [-1.0]])).mT


# name -> model, number of attentions, the token the grid starts at, and the rows read ("grid": all of it)
MODELS: dict[str, tuple[Callable[[], nn.Module], int, int, list[int] | str]] = {
    "timm vit": (lambda: vit("vit_tiny_patch16_224"), 3, 1, [0]),
    "timm vit unfused": (lambda: from_timm_unfused("vit_tiny_patch16_224"), 3, 1, [0]),
    "timm vit not square": (lambda: vit("vit_tiny_patch16_224", img_size=(32, 48)), 3, 1, [0]),
    "timm registers": (lambda: vit("vit_tiny_patch16_224", reg_tokens=4), 3, 5, [0]),
    "timm registers and no class token": (lambda: vit("vit_medium_patch16_reg4_gap_256"), 3, 4, "grid"),
    "timm averaged": (lambda: vit("vit_tiny_patch16_224", global_pool="avg"), 3, 1, "grid"),
    "timm distilled": (lambda: vit("deit_tiny_distilled_patch16_224"), 3, 2, [0, 1]),
    "timm beit": (lambda: vit("beit_base_patch16_224"), 3, 1, "grid"),
    "timm eva": (lambda: vit("eva02_tiny_patch14_224"), 3, 1, "grid"),
    "timm siglip": (lambda: vit("vit_base_patch16_siglip_224"), 3, 0, "grid"),
    "torchvision": (from_torchvision, 3, 1, [0]),
    **{
        f"transformers {kind} {how}": (lambda kind=kind, how=how: from_transformers(kind, how), 3, at, rows)
        for kind, at, rows in [("ViT", 1, [0]), ("DeiT", 2, [0, 1]), ("Dinov2", 1, "all")]
        for how in ("eager", "sdpa")
    },
    **{
        f"transformers registers {how}": (
            lambda how=how: from_transformers("Dinov2WithRegisters", how, num_register_tokens=3), 3, 4, "all"
        )
        for how in ("eager", "sdpa")
    },
    "transformers CLIP eager": (lambda: clip("eager"), 3, 1, [0]),
    "transformers CLIP sdpa": (lambda: clip("sdpa"), 3, 1, [0]),
    "open_clip": (Texts, 3, 1, [0]),
}  # fmt: skip


@cache
def built(name: str) -> tuple[nn.Module, Inputs]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = MODELS[name][0]().eval()
    images = pictures(2, (32, 48) if "not square" in name else (32, 32))
    if "CLIP" in name:
        words = torch.tensor([[3, 4, 19], [5, 6, 19]])
        return model, Inputs.of({"pixel_values": images, "input_ids": words})
    return model, Inputs.of(images)


def given(inputs: Inputs) -> Any:
    return {**inputs.beside, inputs.place: inputs.images} if inputs.place else inputs.images


def outputs_and_slopes(model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    leaf = inputs.images.clone().requires_grad_()
    logits = logits_of(inputs.run(model, leaf))
    return logits.detach(), torch.autograd.grad(logits[:, 1].sum(), leaf)[0]


@pytest.mark.parametrize("name", MODELS)
def test_opened_attention_changes_outputs_and_gradients_by_rounding_only(name):
    model, inputs = built(name)
    expected = outputs_and_slopes(model, inputs)
    seen: list[Tensor] = []
    with OpenedAttention(lambda logits, probabilities: seen.append(probabilities) is None):
        found = outputs_and_slopes(model, inputs)
    assert len(seen) >= 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("name", MODELS)
def test_the_images_own_attention_is_found_with_its_grid_and_the_rows_that_are_read(name):
    _, count, first, rows = MODELS[name]
    model, inputs = built(name)
    with explaining(model) as live:
        run = attend(live, inputs)
        read = run.rows_read(run.score(lambda outputs: logits_of(outputs)[:, 1]))
    grid = (4, 6) if "not square" in name else (4, 4)
    assert (len(run.nodes), run.first, run.grid) == (count, first, grid)
    assert not any("text" in path for path in run.paths)
    for one in run.attentions():
        assert one.shape == (2, one.shape[1], first + grid[0] * grid[1], first + grid[0] * grid[1])
        torch.testing.assert_close(one.sum(-1), torch.ones(one.shape[:-1]))
    inside = list(range(first, first + grid[0] * grid[1]))
    expected = {"grid": inside, "all": [0, *inside]}[rows] if isinstance(rows, str) else rows
    assert [row.nonzero().flatten().tolist() for row in read] == [expected] * 2


@pytest.mark.parametrize("name", MODELS)
def test_every_attention_method_works_and_leaves_no_trace(name):
    model, inputs = built(name)
    for found in explain_methods(model, given(inputs), NAMES, target=1):
        assert found.maps.shape == (2, 4, 6 if "not square" in name else 4)
        assert found.maps.isfinite().all()
        assert found.maps.flatten(1).std(1).min() > 0
        assert (found.maps >= 0).all()
    assert_untouched(model)


def assert_untouched(model: nn.Module) -> None:
    assert torch.overrides._get_current_function_mode() is None
    for part in model.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert "forward" not in vars(part)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timm vit", "timm vit unfused"),
        *[(f"transformers {kind} eager", f"transformers {kind} sdpa")
          for kind in ("ViT", "DeiT", "registers", "CLIP")],
    ],
)  # fmt: skip
def test_the_kernel_of_the_attention_does_not_matter(one, other):
    pairs = [
        explain_methods(model, given(inputs), NAMES, target=1) for model, inputs in map(built, (one, other))
    ]
    for fused, plain in zip(*pairs, strict=True):
        torch.testing.assert_close(fused.maps, plain.maps, rtol=1e-3, atol=1e-4 * float(plain.maps.max()))


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "what is attended to": {"attn_mask": torch.tensor([[1, 0, 1, 1, 0], [0] * 5, *[[1] * 5] * 3]).bool()},
    "added": {"attn_mask": torch.linspace(-2, 2, 50).view(2, 1, 5, 5)},
    "a scale": {"scale": 0.3},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", MASKS)
def test_fused_attention_equals_its_formula(mask, dtype):
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=random).to(dtype)
    named = {
        k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in MASKS[mask].items()
    }
    for heads in (4, 2):
        some = {**named, "enable_gqa": heads < 4}
        arguments = (query, key[:, :heads], value[:, :heads])
        with OpenedAttention(lambda logits, probabilities: True):
            found = F.scaled_dot_product_attention(*arguments, **some)
        expected = F.scaled_dot_product_attention(*arguments, **some)
        loose = {"rtol": 0, "atol": 0.02} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(found, expected, **loose)
        assert found.dtype == dtype


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_every_path_of_pytorchs_own_layer_is_opened(batch_first, weights):
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    tokens = torch.randn(3, 3, 8, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    with torch.no_grad():
        expected = layer(tokens, tokens, tokens, need_weights=weights)[0]
        with OpenedAttention(lambda logits, probabilities: seen.append(probabilities) is None):
            found = layer(tokens, tokens, tokens, need_weights=weights)[0]
    torch.testing.assert_close(found, expected)
    assert [one.numel() for one in seen] == [3 * 2 * 3 * 3]


def test_pytorchs_encoder_is_opened_and_its_fast_path_is_back_afterwards():
    model = Encoder()
    calls = []
    native = torch._transformer_encoder_layer_fwd
    found = explain(model, pictures(2, (12, 12)), method="chefer", target=0)
    assert found.maps.shape == (2, 3, 3)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *a: calls.append(1) or native(*a))
        model(pictures(2, (12, 12)))
    assert len(calls) == 2


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(self.patches(images).flatten(2).mT).mean(1)


@pytest.mark.parametrize("method", NAMES)
def test_an_exception_leaves_no_trace(method):
    model, inputs = built("timm vit")
    calls = []

    def fail(module: nn.Module, inputs: Any) -> None:
        calls.append(1)
        if len(calls) == (3 if method == "legrad" else 2):  # in the replay, in the opened forward
            raise ArithmeticError

    handle = model.norm.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        explain(model, inputs.images, method=method)
    handle.remove()
    assert_untouched(model)


def test_legrad_runs_the_blocks_once_and_the_rest_once_a_block():
    model, inputs = built("timm vit")
    model, ran = deepcopy(model), []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *a: ran.append("block"))
    model.norm.register_forward_hook(lambda *a: ran.append("tail"))
    explain(model, inputs.images, method="legrad")
    assert (ran.count("block"), ran.count("tail")) == (2 * 3, 2 + 2)


def test_methods_and_targets_share_one_opened_forward():
    model, inputs = built("timm vit")
    model, ran = deepcopy(model), []
    model.blocks[0].register_forward_hook(lambda *a: ran.append(1))
    explain_methods(
        model, inputs.images, ["gradcam", "rollout", "chefer", "attentiongradient"], layer="blocks.0"
    )
    assert len(ran) == 2


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_frozen_models_and_modes_without_gradients_change_nothing(freeze, mode):
    model, inputs = deepcopy(built("timm vit")[0]), built("timm vit")[1]
    expected = [one.maps for one in explain_methods(model, inputs.images, NAMES)]
    model.requires_grad_(not freeze)
    with mode():
        found = explain_methods(model, inputs.images, NAMES)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.maps, other)
    assert all(parameter.grad is None for parameter in model.parameters())


TOLERANCE = {torch.bfloat16: 0.15, torch.float16: 0.03}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_half_precision_gives_float32_maps_near_the_exact_ones(dtype):
    exact = settle(Transformer((3, 3), prefix=2))
    rounded = settle(Transformer((3, 3), prefix=2)).to(dtype)
    expected = explain_methods(exact, pictures(), NAMES, target=1)
    found = explain_methods(rounded, pictures(dtype=dtype), NAMES, target=1)
    for one, other in zip(found, expected, strict=True):
        assert one.maps.dtype == torch.float32
        assert (one.maps - other.maps).abs().max() < TOLERANCE[dtype] * other.maps.max()


def swin() -> nn.Module:
    small = {"img_size": 56, "window_size": 7, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 1)}
    return timm.create_model("swin_tiny_patch4_window7_224", **small)


def xcit() -> nn.Module:
    small = {"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 4, "cls_attn_layers": 1}
    return timm.create_model("xcit_nano_12_p16_224", **small)


def pvt() -> nn.Module:
    return timm.create_model("pvt_v2_b0", embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4)


@pytest.mark.parametrize(
    ("build", "size", "complaint"),
    [
        (Plain, 12, "no softmax attention .*gradcam"),
        (swin, 56, r"'layers.0.blocks.0.attn[.a-z]*' gave \[8, 1, 49, 49\] for 2 images: windows, .*gradcam"),
        (xcit, 64, "something else than the image's positions"),
        (pvt, 64, "reduced keys"),
    ],
)
def test_a_model_without_attention_over_the_whole_grid_is_refused_in_one_line(build, size, complaint):
    model = build().eval()
    for method in NAMES:
        with pytest.raises(MethodError, match=complaint) as caught:
            explain(model, pictures(2, (size, size)), method=method)
        assert "\n" not in str(caught.value)
    assert_untouched(model)


class Shared(Transformer):
    """One block that runs three times."""

    def __init__(self) -> None:
        super().__init__((3, 3))
        self.blocks = nn.Sequential(*[self.blocks[0]] * 3)


def test_a_block_that_runs_several_times_has_no_score_of_its_own():
    model = settle(Shared())
    with pytest.raises(MethodError, match="no block has a score of its own; use chefer"):
        explain(model, pictures(), method="legrad")
    assert explain(model, pictures(), method="chefer").reason.startswith("3 self-attentions")


class Detaching(Transformer):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


def test_a_model_that_detaches_its_outputs_is_refused_by_name():
    with pytest.raises(EngineError, match="don't depend on the attention"):
        explain(settle(Detaching((3, 3))), pictures(), method="chefer", target=1)


def test_checkpointed_blocks_change_nothing():
    model, inputs = built("timm vit")
    expected = explain_methods(model, inputs.images, NAMES, target=1)
    checkpointed = deepcopy(model)
    checkpointed.set_grad_checkpointing()
    found = explain_methods(checkpointed, inputs.images, NAMES, target=1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.maps, other.maps)


class Frozen(Transformer):
    """Runs all but its head without autograd, as a backbone that is not trained."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            tokens = self.patches(images).flatten(2).mT
            tokens = torch.cat([self.extra.expand(len(images), -1, -1), tokens], 1) + self.position
            tokens = self.norm(self.blocks(tokens))[:, 0]
        return self.head(tokens)


def test_a_backbone_that_turns_autograd_off_is_explained_all_the_same():
    pairs = [
        explain_methods(settle(kind((3, 3))), pictures(), NAMES, target=1) for kind in (Frozen, Transformer)
    ]
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found.maps, expected.maps)
    assert torch.is_grad_enabled()


class Writing(Transformer):
    """Writes into what its blocks return, after the fact."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.extra.expand(len(images), -1, -1), tokens], 1) + self.position
        for block in self.blocks:
            tokens = block(tokens)
            tokens.mul_(1.5)
        return self.head(self.norm(tokens)[:, 0])


def test_what_is_written_into_a_blocks_output_does_not_reach_what_was_kept():
    class Copying(Transformer):
        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).mT
            tokens = torch.cat([self.extra.expand(len(images), -1, -1), tokens], 1) + self.position
            for block in self.blocks:
                tokens = block(tokens) * 1.5
            return self.head(self.norm(tokens)[:, 0])

    found, expected = (
        explain_methods(settle(build((3, 3))), pictures(), NAMES, target=1) for build in (Writing, Copying)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.maps, other.maps)
