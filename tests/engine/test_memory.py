"""Memory comes back: no graph, no activation and no hook outlives an explanation."""

import gc
import weakref
from contextlib import suppress

import psutil
import pytest
import torch
from tests.engine.networks import InPlace, Plain, Residual, Transformer, pictures, settle
from torch import nn

from whycam import FlipAverage, choose_layer, explain, explain_methods, explain_targets
from whycam.engine import address_of, capture, explaining


def living_tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.fixture
def no_collector():
    """Without the cycle collector only what is in no reference cycle dies."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def some_explanations(models, images):
    plain, residual, transformer = models
    explain(plain, images)
    explain(plain, images, smoothing=FlipAverage(), layer="last", method="layercam")
    explain(residual, images, layer=["stem", "blocks.0", "blocks.1"])
    explain_targets(transformer, images, [0, None, lambda outputs: outputs[:, 1]])
    explain_methods(residual, images, ["gradcam", "eigencam", "cam"], layer="blocks.1")
    with suppress(ZeroDivisionError):
        explain(residual, images, target=lambda outputs: 1 / 0)


def test_two_hundred_calls_leave_no_tensor_behind(no_collector, unchecked):
    models, images = [settle(Plain()), settle(Residual()), settle(Transformer((3, 3)))], pictures()
    some_explanations(models, images)
    before = living_tensors()
    for _ in range(200 // 6 + 1):
        some_explanations(models, images)
    assert living_tensors() == before


def test_two_hundred_calls_leave_the_process_at_its_size(unchecked):
    model, images = settle(Residual(channels=16)), pictures(8, size=(64, 64))
    for _ in range(10):
        explain(model, images, layer="blocks.1")
    before = psutil.Process().memory_info().rss
    for _ in range(190):
        explain(model, images, layer="blocks.1")
    grown = psutil.Process().memory_info().rss - before
    activations = 8 * 16 * 32 * 32 * 4  # bytes of one layer's output: 190 of these would be 100 MB
    assert grown < 50 * activations


@pytest.mark.parametrize("layer", ["stem", "blocks.1"])
def test_activations_die_with_the_explanation_without_the_collector(layer, no_collector):
    model, kept = settle(Residual()), []

    def spy(activations, gradients):
        kept.extend([weakref.ref(activations), weakref.ref(gradients)])
        return (activations * gradients).sum(1)

    found = explain(
        model, pictures(), layer=layer, method=spy, target=lambda o: kept.append(weakref.ref(o)) or o[:, 0]
    )
    assert len(kept) == 3
    assert [reference() for reference in kept] == [None, None, None]
    assert not found.outputs.requires_grad
    assert not found.maps.requires_grad
    assert not found.scores.requires_grad
    assert found.maps._base is None or found.maps._base.numel() == found.maps.numel()


def test_activations_die_when_the_target_raises(no_collector):
    model, kept = settle(Residual()), []

    def failing(outputs):
        kept.append(weakref.ref(outputs))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        explain(model, pictures(), layer="stem", target=failing)
    del caught
    assert kept[0]() is None


def test_a_captures_graph_dies_with_it(no_collector):
    model = settle(InPlace())
    with explaining(model) as module:
        kept = capture(module, pictures(), [address_of(module, "relu"), address_of(module, "body")])
        gradients = kept.gradients(kept.score(lambda outputs: outputs[:, 0]))
        references = [weakref.ref(layer.node) for layer in kept.layers]
        references += [weakref.ref(kept.outputs), *map(weakref.ref, gradients)]
        del kept, gradients
        assert [reference() for reference in references] == [None] * 5


NODES = []


class GraphNode(torch.autograd.Function):
    """Does nothing; its context lives as long as the graph that it is in."""

    @staticmethod
    def forward(context, x):
        NODES.append(weakref.ref(context))
        return x * 1

    @staticmethod
    def backward(context, gradient):
        return gradient


class Passing(nn.Module):
    def forward(self, x):
        return GraphNode.apply(x)


def test_no_graph_outlives_a_choice_or_an_explanation(no_collector):
    model = settle(Residual())
    model.blocks.append(Passing())
    for way in (choose_layer, explain, lambda m, x: explain(m, x, layer=["stem", "blocks.1"])):
        NODES.clear()
        result = way(model, pictures())
        assert NODES
        assert [node() for node in NODES] == [None] * len(NODES)
        del result


@pytest.mark.parametrize("way", [choose_layer, lambda m, x: explain(m, x, layer="blocks.1")])
def test_no_graph_outlives_a_forward_that_raises(way):
    model = settle(Residual())
    model.blocks.append(Passing())
    model.head.forward = lambda x: 1 / 0
    NODES.clear()
    with pytest.raises(ZeroDivisionError):
        way(model, pictures())
    gc.collect()  # the traceback is in a cycle of its own
    assert [node() for node in NODES] == [None]


@pytest.mark.parametrize("build", [Plain, Residual, lambda: Transformer((3, 3))])
def test_weights_die_with_their_model(build, no_collector):
    for way in (
        choose_layer,
        explain,
        lambda m, x: explain(m, x, layer=explain(m, x).layer, method="layercam"),
    ):
        model = settle(build())
        weights = [weakref.ref(value) for value in model.parameters()]
        way(model, pictures())
        del model
        assert [weight() for weight in weights] == [None] * len(weights)


def test_a_model_is_not_kept_alive_by_what_is_remembered_of_it(no_collector):
    model = settle(Residual())
    explain(model, pictures())
    reference = weakref.ref(model)
    del model
    assert reference() is None


def test_a_chunk_is_freed_before_the_next_one_runs(no_collector):
    alive = []

    class Spying(nn.Module):
        def forward(self, x):
            x = x * 1
            alive.append(weakref.ref(x))
            return x

    model = settle(Residual())
    model.blocks.append(Spying())
    most = []
    model.stem.register_forward_pre_hook(lambda *_: most.append(sum(one() is not None for one in alive)))
    explain(model, pictures(6), layer="blocks.0", batch_size=1)
    assert most == [0] * 6


def test_averaging_holds_one_views_graph_at_a_time(no_collector):
    alive, most = [], []

    class Spying(nn.Module):
        def forward(self, x):
            x = x * 1
            alive.append(weakref.ref(x))
            return x

    class Many:
        def views(self, images):
            for _ in range(8):
                yield images, lambda maps: maps

    model = settle(Residual())
    model.blocks.append(Spying())
    model.stem.register_forward_pre_hook(lambda *_: most.append(sum(one() is not None for one in alive)))
    explain(model, pictures(), layer="blocks.0", smoothing=Many())
    assert max(most) <= 2  # the clean image's and the last view's, until the next takes its place
