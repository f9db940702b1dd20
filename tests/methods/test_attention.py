"""Attention methods against their oracles: on tensors, and on a transformer with open attention."""

from functools import partial
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.oracles import attention as oracle
from tests.oracles.draws import disagreement
from torch import Tensor, nn

from whycam import explain, explain_methods, explain_targets
from whycam.errors import MethodError
from whycam.methods import METHODS, Tokens, attention

NAMES = ("rollout", "attentiongradient", "chefer", "legrad")
CLASSES = 3


class OpenAttention(nn.Module):
    """Self-attention with heads, written out; it keeps its probabilities for the test."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        self.kept = (2 * query @ key.mT).softmax(-1)
        return self.out((self.kept @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), OpenAttention(width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm(tokens))
        return tokens + self.mlp(tokens)


class Tiny(nn.Module):
    """Patches of 2 pixels, ``before`` tokens before them and ``after`` behind; reads ``pool``."""

    def __init__(
        self, grid: tuple[int, ...], before: int, after: int = 0, pool: str = "token", blocks: int = 3
    ) -> None:
        super().__init__()
        width, tokens = 8, before + prod(grid) + after
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(grid)]
        self.before, self.cells, self.pool = before, prod(grid), pool
        self.patches = convolution(2, width, 2, stride=2)
        self.extra = nn.Parameter(torch.randn(1, before + after, width))
        self.position = nn.Parameter(torch.randn(1, tokens, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        if len(grid) == 3:  # a volume this small could have been cut up in several ways
            self.num_prefix_tokens, self.patch_embed = before, SimpleNamespace(grid_size=grid)

    def tail(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        inside = tokens[:, self.before : self.before + self.cells]
        return self.head(tokens[:, 0] if self.pool == "token" else inside.mean(1))

    def forward(self, images: Tensor) -> Tensor:
        extra = self.extra.expand(len(images), -1, -1)
        patches = self.patches(images).flatten(2).mT
        tokens = torch.cat([extra[:, : self.before], patches, extra[:, self.before :]], 1) + self.position
        self.outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            self.outputs.append(tokens)
        return self.tail(tokens)


def tiny(grid: tuple[int, ...], before: int, after: int = 0, pool: str = "token") -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(grid) + before)
        return Tiny(grid, before, after, pool).double().eval()


def pictures(grid: tuple[int, ...], batch: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(7)
    return torch.randn(batch, 2, *[2 * cells for cells in grid], generator=random, dtype=torch.float64)


def by_hand(model: Tiny, image: Tensor, label: int, name: str) -> np.ndarray:
    """Return the oracle's map of one image, from one plain forward whose tensors the model keeps."""
    score = model(image[None])[0, label]
    kept = [block.attention.kept for block in model.blocks]
    place = {"first": model.before, "cells": model.cells}
    if name == "legrad":
        own = [model.tail(tokens)[0, label] for tokens in model.outputs]
        found = [torch.autograd.grad(o, k, retain_graph=True)[0] for o, k in zip(own, kept, strict=True)]
        return oracle.legrad([gradient[0].numpy() for gradient in found], **place)
    gradients = [gradient[0].numpy() for gradient in torch.autograd.grad(score, kept)]
    attentions = [one[0].detach().numpy() for one in kept]
    read = [0] if model.pool == "token" else list(range(model.before, model.before + model.cells))
    if name == "rollout":
        return oracle.rollout(attentions, read, **place)
    function = {"chefer": oracle.chefer, "attentiongradient": oracle.attention_gradient}[name]
    return function(attentions, gradients, read, **place)


MODELS = [
    ((3, 4), 1, 0, "token"),
    ((3, 4), 0, 0, "mean"),
    ((4, 3), 3, 0, "token"),
    ((3, 3), 2, 0, "mean"),
    ((3, 4), 1, 2, "token"),
    ((6,), 0, 0, "mean"),
    ((2, 2, 3), 1, 0, "token"),
]


@pytest.mark.parametrize(("grid", "before", "after", "pool"), MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_an_attention_method_is_what_its_paper_says(name, grid, before, after, pool):
    model, images, labels = tiny(grid, before, after, pool), pictures(grid), [2, 0, 1]
    explanation = explain(model, images, method=name, target=labels)
    assert explanation.maps.shape == (3, *grid)
    for image, label, found in zip(images, labels, explanation.maps, strict=True):
        expected = by_hand(model, image, label, name)
        assert np.abs(expected).max() > 0
        assert disagreement(found, expected.reshape(grid)) < 1e-9


@pytest.mark.parametrize("size", [1, 2])
def test_the_batch_does_not_change_a_map(size):
    model, images = tiny((3, 4), 1), pictures((3, 4))
    whole, parts = (explain_methods(model, images, NAMES, target=[2, 0, 1], batch_size=n) for n in (3, size))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other.maps, one.maps, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_several_targets_on_one_forward_give_the_maps_of_each_alone(name):
    model, images = tiny((3, 4), 1), pictures((3, 4))
    together = explain_targets(model, images, [0, [2, 0, 1]], method=name)
    for target, found in zip((0, [2, 0, 1]), together, strict=True):
        assert torch.equal(explain(model, images, method=name, target=target).maps, found.maps)


@pytest.mark.parametrize(("name", "sees"), [("rollout", False), *[(name, True) for name in NAMES[1:]]])
def test_all_but_rollout_see_the_class(name, sees):
    model, images = tiny((3, 4), 1), pictures((3, 4))
    first, second = (one.maps for one in explain_targets(model, images, [0, 1], method=name))
    assert torch.equal(first, second) is not sees


@pytest.mark.parametrize("name", NAMES)
def test_a_score_that_does_not_move_gives_zeros_and_rollout_the_usual_row(name):
    model, images = tiny((3, 4), 1), pictures((3, 4))
    usual = explain(model, images, method="rollout").maps
    found = explain(model, images, method=name, target=lambda outputs: 0 * outputs[:, 1]).maps
    assert torch.equal(found, usual if name == "rollout" else torch.zeros_like(usual))


def stacks(tokens: int, blocks: int = 3, heads: int = 2) -> tuple[list[Tensor], list[Tensor]]:
    random = torch.Generator().manual_seed(tokens)
    shape = (2, heads, tokens, tokens)
    draw = partial(torch.randn, shape, generator=random, dtype=torch.float64)
    return [draw().softmax(-1) for _ in range(blocks)], [draw() for _ in range(blocks)]


def places(tokens: int, read: list[list[int]], first: int, grid: tuple[int, ...]) -> Tokens:
    flags = torch.zeros(len(read), tokens, dtype=torch.bool)
    for row, numbers in zip(flags, read, strict=True):
        row[numbers] = True
    return Tokens(first, grid, flags)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.3, 0.9])
def test_rollout_fuses_heads_and_discards_as_it_is_told(fusion, discard):
    attentions, _ = stacks(8)
    attentions[1][:] = 1 / 8  # equal entries: which ones go must not be left to chance
    read = [[0], [1, 4, 5]]
    found = attention.rollout(attentions, places(8, read, 2, (2, 3)), fusion=fusion, discard=discard)
    for b, rows in enumerate(read):
        images = [one[b].numpy() for one in attentions]
        expected = oracle.rollout(images, rows, 2, 6, fusion, discard)
        assert disagreement(found[b], expected.reshape(2, 3)) < 1e-9


def test_gradient_methods_average_the_rows_that_are_read_in_each_image():
    attentions, gradients = stacks(7)
    read = [[6], [0, 2, 3]]
    for name, by_loops in (("chefer", oracle.chefer), ("attentiongradient", oracle.attention_gradient)):
        found = METHODS[name].function(attentions, gradients, places(7, read, 1, (5,)))
        for b, rows in enumerate(read):
            images = [[one[b].numpy() for one in many] for many in (attentions, gradients)]
            assert disagreement(found[b], by_loops(*images, rows, 1, 5)) < 1e-9


def test_a_relevance_far_below_the_rounding_of_1_is_not_lost():
    attentions, gradients = stacks(5)
    tokens = places(5, [[0, 1, 2, 3, 4]] * 2, 0, (5,))
    small = [1e-12 * one.float() for one in gradients]
    found = attention.chefer([one.float() for one in attentions], small, tokens)
    sums = sum((a * g).relu().mean(1).mean(1) for a, g in zip(attentions, gradients, strict=True))
    torch.testing.assert_close(found.double() * 1e12, sums, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"fusion": "sum"}, "'sum'; expected one of mean, max, min"), ({"discard": 1.0}, "discard is 1.0")],
)
def test_rollout_refuses_options_that_mean_nothing(options, complaint):
    attentions, _ = stacks(5)
    with pytest.raises(MethodError, match=complaint):
        attention.rollout(attentions, places(5, [[0]] * 2, 1, (2, 2)), **options)


def test_an_explanation_says_which_attentions_it_read():
    explanation = explain(tiny((3, 4), 1), pictures((3, 4)), method="chefer")
    assert explanation.layer == "attention"
    assert explanation.reason == (
        "3 self-attentions over a grid of 3 x 4: blocks.0.attention to blocks.2.attention"
    )


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise [count, 2, 8, 8] with two coloured patches, their classes [count, 2] and places."""
    random = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 2, 8, 8, generator=random)
    labels = torch.rand(count, 3, generator=random).argsort(1)[:, :2]
    spots = torch.rand(count, 16, generator=random).argsort(1)[:, :2]
    colours = torch.tensor([[2.0, -2.0], [-2.0, 2.0], [2.0, 2.0]])[labels]
    patches = torch.zeros(count, 16, 2).scatter(1, spots[..., None].expand_as(colours), colours)
    painted = patches.mT.unflatten(2, (4, 4)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return images + painted, labels, spots


@pytest.fixture(scope="module", params=[("token", 2), ("mean", 3)], ids=["token", "mean"])
def trained(request) -> nn.Module:
    """Say of each of three colours whether a patch has it."""
    pool, blocks = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tiny((4, 4), 1, 0, pool, blocks)
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for step in range(150):
            images, labels, _ = scenes(64, 1000 + step)
            truth = torch.zeros(64, 3).scatter(1, labels, 1.0)
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def test_of_two_patches_the_one_of_the_class_is_shown_but_by_rollout(trained):
    images, labels, spots = scenes(64, 5)
    found = explain_methods(trained, images, NAMES, target=labels[:, 0].tolist())
    for name, maps in ((one.method, one.maps.flatten(1)) for one in found):
        own, other = (maps.gather(1, spots) / maps.sum(1, keepdim=True)).nanmean(0)
        if name == "rollout":
            assert 0.8 * other < own < 1.25 * other
        else:
            assert own > 0.1  # a flat map has 1 / 16
            assert own > 3 * other
