"""Compiled, data-parallel and otherwise wrapped models, and several explanations of one model at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.engine.networks import CLASSES, Plain, Repeated, Residual, every_part, pictures, settle
from torch import nn

from whycam import Contrast, choose_layer, explain, explain_methods
from whycam.engine import capture, explaining
from whycam.engine.capture import Address
from whycam.engine.session import unwrap


class Counter:
    """A backend for torch.compile that counts the runs of the graphs that it was given."""

    def __init__(self):
        self.runs = 0

    def __call__(self, graph, examples):
        def run(*arguments):
            self.runs += 1
            return graph(*arguments)

        return run


@pytest.fixture
def backend():
    torch._dynamo.reset()
    yield Counter()
    torch._dynamo.reset()


def whole(model, backend):
    return torch.compile(model, backend=backend)


def in_place(model, backend):
    model.compile(backend=backend)
    return model


def parts(model, backend):
    model.blocks = torch.compile(model.blocks, backend=backend)
    return model


def one_block_in_place(model, backend):
    model.blocks[1].compile(backend=backend)
    return model


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("compiled", [whole, in_place, parts, one_block_in_place])
def test_a_compiled_model_is_explained_as_the_eager_one(compiled, warm, backend):
    expected = explain(settle(Residual()), pictures(), layer="blocks.0")
    model = compiled(settle(Residual()), backend)
    if warm:
        with torch.no_grad():
            model(pictures())
    path = "blocks._orig_mod.0" if compiled is parts else "blocks.0"
    for layer in (path, unwrap(model).get_submodule(path)):
        found = explain(model, pictures(), layer=layer)
        torch.testing.assert_close(found.maps, expected.maps)
        torch.testing.assert_close(found.scores, expected.scores)
    runs = backend.runs
    with torch.no_grad():
        model(pictures())
    assert backend.runs > runs  # it runs compiled again


def test_a_layer_is_chosen_in_a_compiled_model(backend):
    model = settle(Residual())
    expected = choose_layer(model, pictures())
    assert choose_layer(torch.compile(model, backend=backend), pictures()) == expected
    inner = parts(settle(Residual()), backend)
    chosen = choose_layer(inner, pictures())
    torch.testing.assert_close(
        explain(inner, pictures(), layer=chosen).maps, explain(model, pictures(), layer=expected).maps
    )
    assert backend.runs == 0


def test_a_compiled_model_runs_compiled_again_after_an_error(backend):
    model = torch.compile(settle(Plain()), backend=backend)
    with pytest.raises(ZeroDivisionError):
        explain(model, pictures(), layer="last", target=lambda outputs: 1 / 0)
    model(pictures())
    assert backend.runs == 1


def test_compiled_models_run_compiled_again_after_interleaved_threads(backend):
    """One thread's session ends in the middle of another's."""
    models = [in_place(settle(Plain()), backend) for _ in range(2)]
    entered, left = threading.Event(), threading.Event()

    def first():
        with explaining(models[0]):
            entered.wait(10)
        left.set()

    def second():
        with explaining(models[1]):
            entered.set()
            left.wait(10)

    run_all([first, second], in_turn=True)
    models[0](pictures())
    assert backend.runs == 1


def run_all(jobs, in_turn=False):
    """Run each job on a thread of its own and raise what any of them raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = []
        for job in jobs:
            futures.append(pool.submit(job))
            if in_turn:
                time.sleep(0.05)
        return [future.result(60) for future in futures]


@pytest.mark.parametrize("layer", [None, "blocks.1", "module.blocks.1"])
def test_a_data_parallel_model_is_explained_as_the_module_inside(layer):
    model = settle(Residual())
    wrapped = nn.DataParallel(model).train()
    expected = explain(model, pictures(), layer="blocks.1" if layer else None)
    found = explain(wrapped, pictures(), layer=layer)
    assert torch.equal(found.maps, expected.maps)
    assert found.layer == expected.layer
    assert all(part.training for part in every_part(wrapped))


def test_a_distributed_model_is_explained_as_the_module_inside():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = settle(Residual())
        wrapped = nn.parallel.DistributedDataParallel(model)
        found = explain(wrapped, pictures(), layer="module.blocks.1")
        assert torch.equal(found.maps, explain(model, pictures(), layer="blocks.1").maps)
        assert all(value.grad is None for value in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_wrappers_around_wrappers_are_all_taken_off(backend):
    model = settle(Plain())
    for wrapped in (
        nn.DataParallel(torch.compile(model, backend=backend)),
        torch.compile(nn.DataParallel(model), backend=backend),
        nn.DataParallel(nn.DataParallel(model)),
    ):
        assert unwrap(wrapped) is model


def test_a_target_may_explain_the_same_model():
    model = settle(Residual()).train()
    before = [part.training for part in every_part(model)]
    images, others = pictures(), pictures(3, seed=5)
    expected = explain(model, images, layer="blocks.0", target=1)
    expected_inner = explain(model, others, layer="stem", target=2, method="hirescam")
    inner = []

    def explaining_target(outputs):
        inner.append(explain(model, others, layer="stem", target=2, method="hirescam"))
        inner.append(explain(model, others))
        return outputs[:, 1]

    found = explain(model, images, layer="blocks.0", target=explaining_target)
    assert torch.equal(found.maps, expected.maps)
    assert torch.equal(inner[0].maps, expected_inner.maps)
    assert [part.training for part in every_part(model)] == before
    assert not any(part._forward_hooks for part in every_part(model))


def test_a_method_may_explain_the_same_model():
    model = settle(Residual())
    images = pictures()

    def difference(activations, gradients):
        inner = explain(model, images, layer="blocks.0", target=2)
        return (activations * gradients).sum(1) - inner.maps

    found = explain(model, images, layer="blocks.0", method=difference, target=1)
    expected = (
        explain(model, images, layer="blocks.0", method="hirescam", target=1).maps
        - explain(model, images, layer="blocks.0", target=2).maps
    )
    torch.testing.assert_close(found.maps, expected)


def test_captures_of_one_model_may_be_used_in_any_order():
    model = settle(Residual()).double()
    one, other = pictures(dtype=torch.float64), pictures(dtype=torch.float64, seed=3)
    with explaining(model) as module:
        first = capture(module, one, [Address("blocks.0")])
        second = capture(module, other, [Address("blocks.0")])
        (of_first,) = first.gradients(first.score(lambda outputs: outputs[:, 1].square()))
        (of_second,) = second.gradients(second.score(lambda outputs: outputs[:, 1].square()))
        alone = capture(module, other, [Address("blocks.0")])
        (expected,) = alone.gradients(alone.score(lambda outputs: outputs[:, 1].square()))
    assert torch.equal(of_second, expected)
    assert not torch.equal(of_first, of_second)


def test_views_of_a_smoothing_may_explain_the_same_model():
    model = settle(Residual())

    class Nosy:
        def views(self, images):
            yield images, lambda maps: maps
            explain(model, images, layer="blocks.0")
            yield images, lambda maps: maps

    found = explain(model, pictures(), layer="blocks.1", smoothing=Nosy())
    torch.testing.assert_close(found.maps, explain(model, pictures(), layer="blocks.1").maps)


class Slow(Residual):
    """Gives other threads their turn in the middle of its forward."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images):
        x = self.stem(images)
        for block in self.blocks:
            time.sleep(0.001)
            x = self.norm(block(x))
        return self.head(x.mean((2, 3)))


def test_threads_explain_one_model_as_one_thread_does():
    model = settle(Slow()).train()
    model.blocks[0].eval()
    before = [part.training for part in every_part(model)]
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    jobs = [
        {"layer": layer, "target": target, "method": method}
        for layer, target, method in zip(
            ["stem", "blocks.0", "blocks.1", None, ["stem", "blocks.1"], "norm#1", "blocks.0.first", "stem"],
            [0, 1, None, 2, 3, Contrast(1, 2), 4, lambda outputs: outputs.square().sum(1)],
            ["gradcam", "layercam", "eigencam", "hirescam", "gradcam++", "xgradcam", "eigengradcam", "fem"],
            strict=True,
        )
    ]
    sets = [pictures(2, seed=seed) for seed in range(3)]

    def work(options):
        return [explain(model, images, **options) for images in sets]

    expected = [work(options) for options in jobs]
    found = run_all([lambda options=options: work(options) for options in jobs])
    for several, others in zip(found, expected, strict=True):
        for one, other in zip(several, others, strict=True):
            torch.testing.assert_close(one.maps, other.maps)
            torch.testing.assert_close(one.scores, other.scores)
    assert [part.training for part in every_part(model)] == before
    assert not any(part._forward_hooks for part in every_part(model))
    for name, value in model.named_buffers():
        assert torch.equal(value, statistics[name])


def test_another_threads_forward_is_not_captured():
    """A server predicts on one thread while another explains: the hooks are for one thread's calls."""
    model = settle(Residual())
    images, others = pictures(), pictures(3, seed=4)
    expected = explain(model, images, layer=["blocks.0", "blocks.1"], target=1)
    with torch.no_grad():
        expected_outputs = model(others)
    in_the_middle, predicted = threading.Event(), threading.Event()
    explainer = []

    class Waiting(nn.Module):
        def forward(self, x):
            if threading.get_ident() in explainer:
                in_the_middle.set()
                assert predicted.wait(30)
            return x

    model.blocks.insert(1, Waiting())

    def explain_it():
        explainer.append(threading.get_ident())
        return explain(model, images, layer=["blocks.0", "blocks.2"], target=1)

    def predict():
        assert in_the_middle.wait(30)
        try:
            with torch.no_grad():
                return model(others)
        finally:
            predicted.set()

    found, outputs = run_all([explain_it, predict])
    torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(outputs, expected_outputs)
    assert not outputs.requires_grad


def test_methods_on_one_forward_equal_methods_on_their_own():
    model = settle(Plain())
    names = ["gradcam", "gradcam++", "hirescam", "eigencam", "cam", "edges", "random"]
    for found in explain_methods(model, pictures(), names, layer="last"):
        alone = explain(model, pictures(), method=found.method, layer="last")
        assert torch.equal(found.maps, alone.maps)


def test_a_repeated_module_inside_a_wrapper_is_indexed_all_the_same():
    model = settle(Repeated())
    found = explain(nn.DataParallel(model), pictures(), layer="module.relu#2")
    assert torch.equal(found.maps, explain(model, pictures(), layer="relu#2").maps)
    assert found.outputs.shape == (2, CLASSES)
