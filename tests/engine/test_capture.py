"""One forward and a short backward: what is captured is what the layer returned."""

import weakref
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from tests.engine.networks import (
    CLASSES,
    Bare,
    Branches,
    Counting,
    InContainer,
    InPlace,
    Plain,
    Repeated,
    Residual,
    Returning,
    Transformer,
    pictures,
    plain_autograd,
    settle,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from whycam import EngineError, LayerError, choose_layer, explain
from whycam.engine import Address, address_of, capture, explaining
from whycam.engine.capture import outputs_with
from whycam.targets import ClassIndex


def second_class(outputs):
    return outputs[:, 1]


def captured(model, images, *layers, score=second_class):
    """Return activations and gradients of the layers, in order."""
    with explaining(model) as module:
        kept = capture(module, images, [address_of(module, layer) for layer in layers])
        gradients = kept.gradients(kept.score(score))
    return [(layer.activations(), gradient) for layer, gradient in zip(kept.layers, gradients, strict=True)]


def assert_as_plain_autograd(model, reference, images, path, call=None):
    address = path if call is None else f"{path}#{call}"
    ((activations, gradients),) = captured(model, images, address)
    expected, expected_gradients, _ = plain_autograd(reference, images, path, second_class, call or 1)
    torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)
    assert gradients.abs().max() > 0


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("path", ["stem", "norm", "relu", "body", "body_norm", "last"])
def test_activations_and_gradients_are_those_of_plain_autograd(axes, path):
    model = settle(Plain(axes)).double()
    images = pictures(size=(12, 10, 8)[:axes], dtype=torch.float64)
    assert_as_plain_autograd(model, model, images, path)


@pytest.mark.parametrize("path", ["stem", "relu", "body", "alias", "residual"])
def test_a_later_in_place_operation_does_not_rewrite_the_capture(path):
    model = settle(InPlace()).double()
    reference = InPlace(inplace=False).double()
    reference.load_state_dict(model.state_dict())
    assert_as_plain_autograd(model, reference, pictures(dtype=torch.float64), path)


@pytest.mark.parametrize("path", ["stem", "norm", "relu", "body", "body_norm"])
def test_in_place_modules_after_the_layer_do_not_rewrite_the_capture(path):
    model = settle(Plain(inplace=True)).double()
    reference = Plain().double()
    reference.load_state_dict(model.state_dict())
    assert_as_plain_autograd(model, reference, pictures(dtype=torch.float64), path)


def test_a_layer_and_its_alias_are_captured_together():
    model = settle(InPlace()).double()
    images = pictures(dtype=torch.float64)
    (body, body_gradients), (alias, alias_gradients) = captured(model, images, "body", "alias")
    assert torch.equal(body, alias)
    torch.testing.assert_close(body_gradients, alias_gradients, rtol=1e-12, atol=0)
    ((alone, alone_gradients),) = captured(model, images, "body")
    assert torch.equal(body, alone)
    torch.testing.assert_close(body_gradients, alone_gradients, rtol=1e-12, atol=0)


def test_the_captured_outputs_are_the_models_outputs():
    model, images = settle(InPlace()), pictures()
    with torch.no_grad():
        expected = model(images)
    for path in ("stem", "relu", "body", "alias", "residual"):
        assert torch.equal(explain(model, images, layer=path).outputs, expected)


def test_layers_downstream_of_each_other_share_one_forward():
    model = settle(Residual(3)).double()
    images = pictures(dtype=torch.float64)
    paths = ["stem", "blocks.0", "blocks.1.first", "blocks.1", "blocks.2"]
    for path, (activations, gradients) in zip(paths, captured(model, images, *paths), strict=True):
        expected, expected_gradients, _ = plain_autograd(model, images, path, second_class)
        torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)


def test_the_order_of_the_layers_asked_for_is_kept():
    model = settle(Residual(2)).double()
    images = pictures(dtype=torch.float64)
    forwards = captured(model, images, "stem", "blocks.1")
    backwards = captured(model, images, "blocks.1", "stem")
    for (one, one_gradient), (other, other_gradient) in zip(forwards, backwards[::-1], strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one_gradient, other_gradient)


def test_parallel_branches_are_captured_together():
    model = settle(Branches()).double()
    images = pictures(dtype=torch.float64)
    for path, (activations, gradients) in zip(
        ("left", "right"), captured(model, images, "left", "right"), strict=True
    ):
        expected, expected_gradients, _ = plain_autograd(model, images, path, second_class)
        torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)


def test_a_layer_asked_for_twice_is_given_twice():
    one, other = captured(settle(Plain()), pictures(), "body", "body")
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("call", [1, 2, 3])
def test_each_call_of_a_repeated_module_can_be_explained(call):
    model = settle(Repeated()).double()
    assert_as_plain_autograd(model, model, pictures(dtype=torch.float64), "relu", call)


def test_several_calls_of_a_repeated_module_share_one_forward():
    model = settle(Repeated()).double()
    images = pictures(dtype=torch.float64)
    found = captured(model, images, "relu#1", "relu#3", "relu#2")
    for call, (activations, gradients) in zip((1, 3, 2), found, strict=True):
        expected, expected_gradients, _ = plain_autograd(model, images, "relu", second_class, call)
        torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)


def test_a_module_that_runs_several_times_is_refused_with_the_mend():
    with pytest.raises(LayerError, match=r"'relu' ran 3 times.*'relu#1' to 'relu#3'") as caught:
        explain(settle(Repeated()), pictures(), layer="relu")
    assert "\n" not in str(caught.value)


def test_a_call_that_does_not_happen_names_the_last_that_does():
    with pytest.raises(LayerError, match=r"'relu#4' ran only 3 times.*'relu#3'"):
        explain(settle(Repeated()), pictures(), layer="relu#4")


def test_a_layer_that_does_not_run_is_named():
    with pytest.raises(LayerError, match=r"'unused' did not run") as caught:
        explain(settle(Branches()), pictures(), layer="unused")
    assert "\n" not in str(caught.value)


def test_a_layer_that_does_not_influence_the_score_is_named():
    with pytest.raises(LayerError, match=r"'ignored' does not influence the score|'ignored'") as caught:
        explain(settle(Branches()), pictures(), layer=["stem", "ignored"])
    assert "\n" not in str(caught.value)


def test_a_lone_layer_that_does_not_influence_the_score_is_an_error_of_one_line():
    with pytest.raises((LayerError, EngineError)) as caught:
        explain(settle(Branches()), pictures(), layer="ignored")
    assert "\n" not in str(caught.value)


def test_a_layer_without_a_grid_is_refused_with_what_it_gave():
    with pytest.raises(LayerError, match=r"'head' gave \[2, 5\].*before pooling"):
        explain(settle(Plain()), pictures(), layer="head")


@pytest.mark.parametrize("kind", ["tuple", "list", "named tuple", "dict"])
def test_a_layer_that_returns_its_features_in_a_container(kind):
    model = settle(InContainer(kind)).double()
    bare = Bare().double()
    bare.load_state_dict(model.state_dict())
    images = pictures(dtype=torch.float64)
    ((activations, gradients),) = captured(model, images, "layer")
    expected, expected_gradients, _ = plain_autograd(bare, images, "layer.convolution", second_class)
    torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "first", [lambda x: x.square().mean(), lambda x: x.mean((2, 3)), lambda x: x[:, 0, 0]]
)
@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_what_is_not_the_features_is_passed_over(kind, first):
    """As where a block returns a loss of its own, or pooled features, first."""

    class WithOther(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, images):
            features = self.convolution(images)
            other = first(features)
            return {"other": other, "features": features} if kind == "dict" else (other, features)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = WithOther()
            self.head = nn.Linear(8, CLASSES)

        def forward(self, images):
            _, features = self.layer(images).values() if kind == "dict" else self.layer(images)
            return self.head(features.sigmoid().mean((2, 3)))

    model = settle(Net())
    found = explain(model, pictures(), layer="layer", target=1)
    assert torch.equal(found.maps, explain(model, pictures(), layer="layer.convolution", target=1).maps)
    assert "layer" in [candidate.path for candidate in choose_layer(model, pictures()).candidates]


def test_a_layer_of_integers_is_refused_in_one_line():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.argmax(1, keepdim=True)

    class Net(Plain):
        def __init__(self):
            super().__init__()
            self.tokens = Tokens()

        def forward(self, images):
            return super().forward(images) + self.tokens(images).float().mean()

    with pytest.raises(LayerError, match="int64") as caught:
        explain(settle(Net()), pictures(), layer="tokens")
    assert "\n" not in str(caught.value)


def test_an_alias_of_what_is_rewritten_later_keeps_what_the_layer_returned():
    class Rewriting(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, padding=1)
            self.alias = nn.Identity()
            self.inplace = inplace
            self.head = nn.Linear(8, CLASSES)

        def forward(self, images):
            x = self.body(images)
            y = self.alias(x)  # the very tensor x
            x = F.relu(x, inplace=self.inplace)
            return self.head((x + y.sigmoid()).mean((2, 3)))

    model, images = settle(Rewriting(inplace=True)).double(), pictures(dtype=torch.float64)
    with torch.no_grad():
        expected = model.body(images)
    ((activations, _),) = captured(model, images, "alias")
    assert torch.equal(activations, expected)


class TestAddress:
    @pytest.mark.parametrize(
        "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
    )
    def test_a_wrappers_prefix_is_dropped(self, prefix):
        assert address_of(Residual(), f"{prefix}blocks.1") == Address("blocks.1")

    def test_a_part_that_is_called_module_keeps_its_name(self):
        model = nn.Sequential()
        model.add_module("module", nn.Sequential(nn.Conv2d(3, 8, 3)))
        assert address_of(model, "module.0") == Address("module.0")

    def test_a_module_gives_its_path(self):
        model = Residual()
        assert address_of(model, model.blocks[1].second) == Address("blocks.1.second")

    def test_a_call_number_is_read(self):
        assert address_of(Repeated(), "relu#2") == Address("relu", 2)
        assert str(Address("relu", 2)) == "relu#2"
        assert str(Address("relu")) == "relu"

    @pytest.mark.parametrize("layer", ["relu#0", "relu#-1", "relu#two", "relu#1.5"])
    def test_a_wrong_call_number_is_named(self, layer):
        with pytest.raises(LayerError, match=r"no call number; write relu#1"):
            address_of(Repeated(), layer)

    @pytest.mark.parametrize("layer", ["blocks.9", "stemm", "", "#1", "module.", "."])
    def test_an_unknown_path_is_named_with_the_nearest(self, layer):
        with pytest.raises(LayerError, match=r"does not exist; (did you mean|the model has)") as caught:
            address_of(Residual(), layer)
        assert "\n" not in str(caught.value)

    def test_the_nearest_names_are_offered(self):
        with pytest.raises(LayerError, match=r"did you mean blocks\.1\.second"):
            address_of(Residual(), "blocks.1.secnd")

    def test_a_module_of_another_model_is_refused(self):
        with pytest.raises(LayerError, match=r"a Conv2d, is no part of the model"):
            address_of(Residual(), nn.Conv2d(3, 8, 3))

    def test_the_model_itself_is_no_layer(self):
        model = Residual()
        with pytest.raises(LayerError, match=r"a Residual, is the model itself"):
            address_of(model, model)

    def test_a_module_that_stands_under_two_names_answers_to_both(self):
        model = Residual()
        model.also = model.stem
        assert address_of(model, "also").path in ("also", "stem")


class Watching(nn.Module):
    """Notes whether autograd was on when it ran, and keeps a weak reference to what it gave."""

    def __init__(self):
        super().__init__()
        self.modes = []
        self.given = []

    def forward(self, x):
        self.modes.append(torch.is_grad_enabled())
        x = x * 2
        self.given.append(weakref.ref(x))
        return x


def watched():
    """Return a model with the layer "layer" between two watching parts."""
    return settle(
        nn.Sequential(
            *[nn.Conv2d(3, 8, 3, padding=1), Watching()],
            *[
                nn.Conv2d(8, 8, 3, padding=1),
                nn.SiLU(),
                Watching(),
                nn.Flatten(),
                nn.Linear(8 * 144, CLASSES),
            ],
        )
    )


def test_what_precedes_the_layer_runs_without_autograd_and_what_follows_with_it():
    model = watched()
    for around in (nullcontext, torch.no_grad, torch.inference_mode):
        for part in (model[1], model[4]):
            part.modes.clear()
        with around():
            explain(model, pictures(), layer="2")
        assert model[1].modes == [False]
        assert model[4].modes == [True]


def test_what_precedes_the_layer_is_freed_as_in_a_bare_forward():
    model = watched()
    with explaining(model) as module:
        kept = capture(module, pictures(), [address_of(module, "2")])
        assert model[1].given[0]() is None  # a graph over the prefix would hold it
        assert kept.outputs.requires_grad


def test_a_gradient_method_costs_one_forward():
    model = Counting(settle(Plain()))
    explain(model, pictures(3), layer="net.last")
    assert model.batches == [3]


def test_a_layer_of_the_callers_choice_is_not_traced():
    model = Counting(settle(Plain()))
    for layer in ("net.last", model.net.last, ["net.stem", "net.last"]):
        model.batches.clear()
        explain(model, pictures(3), layer=layer)
        assert model.batches == [3]


class FrozenBackbone(nn.Module):
    """Runs its backbone without autograd, as is usual where only the head is trained."""

    def __init__(self, around):
        super().__init__()
        self.around = around
        self.backbone = Residual(2)
        self.backbone.head = nn.Identity()
        self.neck = nn.Conv2d(8, 8, 1)
        self.late = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images):
        with self.around():
            features = self.backbone.blocks(self.backbone.stem(images))
        late = self.late(self.neck(features).sigmoid())
        return self.head(torch.cat([features.sigmoid().mean((2, 3)), late.sigmoid().mean((2, 3))], 1))


@pytest.mark.parametrize("paths", [["backbone.blocks.1"], ["backbone.stem"], ["backbone.blocks.0", "late"]])
def test_a_backbone_that_turns_autograd_off_is_explained_all_the_same(paths):
    model = settle(FrozenBackbone(torch.no_grad)).double()
    reference = FrozenBackbone(nullcontext).double()
    reference.load_state_dict(model.state_dict())
    images = pictures(dtype=torch.float64)
    for around in (nullcontext, torch.no_grad):
        with around():
            found = captured(model, images, *paths)
        for path, (activations, gradients) in zip(paths, found, strict=True):
            expected, expected_gradients, _ = plain_autograd(reference, images, path, second_class)
            torch.testing.assert_close(activations, expected, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("target", [second_class, lambda outputs: outputs.sum(1), None])
def test_a_frozen_backbone_whose_features_are_returned_too(target):
    """What is returned from inside is recorded at once, the class scores are not."""

    class Returning(FrozenBackbone):
        def forward(self, images):
            with self.around():
                features = self.backbone.blocks(self.backbone.stem(images))
            late = self.late(self.neck(features).sigmoid())
            pooled = torch.cat([features.sigmoid().mean((2, 3)), late.sigmoid().mean((2, 3))], 1)
            return {"logits": self.head(pooled), "features": features}

    model, reference = (settle(Returning(around)).double() for around in (torch.no_grad, nullcontext))
    images = pictures(dtype=torch.float64)
    of_logits = None if target is None else lambda outputs: target(outputs["logits"])
    options = {"layer": "backbone.stem", "method": "hirescam", "target": of_logits}
    found, expected = explain(model, images, **options), explain(reference, images, **options)
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-10, atol=1e-14)


def test_a_score_of_features_and_classes_of_a_frozen_backbone_misses_neither():
    class Returning(FrozenBackbone):
        def forward(self, images):
            with self.around():
                features = self.backbone.blocks(self.backbone.stem(images))
            return {"logits": self.late(features).sigmoid().mean((2, 3)), "features": features}

    model, reference = (settle(Returning(around)).double() for around in (torch.no_grad, nullcontext))
    images = pictures(dtype=torch.float64)

    def both(outputs):
        return outputs["logits"][:, 0] + outputs["features"].square().mean((1, 2, 3))

    options = {"layer": "backbone.stem", "method": "hirescam", "target": both}
    found, expected = explain(model, images, **options), explain(reference, images, **options)
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-10, atol=1e-14)


def test_a_forward_that_is_wholly_without_autograd_is_explained_all_the_same():
    class Decorated(Plain):
        @torch.no_grad()
        def forward(self, images):
            return super().forward(images)

    model = settle(Decorated()).double()
    reference = Plain().double()
    reference.load_state_dict(model.state_dict())
    assert_as_plain_autograd(model, reference, pictures(dtype=torch.float64), "body")


class Checkpointed(nn.Module):
    """Recomputes all blocks but the last in the backward instead of keeping their activations."""

    def __init__(self, reentrant):
        super().__init__()
        self.net = Residual(3)
        self.reentrant = reentrant

    def forward(self, images):
        x = self.net.stem(images)
        for block in self.net.blocks[:-1]:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.net.head(self.net.blocks[-1](x).mean((2, 3)))


@pytest.mark.parametrize("path", ["net.stem", "net.blocks.0", "net.blocks.1.first", "net.blocks.2"])
def test_gradient_checkpointing_changes_nothing(path):
    model = settle(Checkpointed(reentrant=False)).double()
    reference = settle(Residual(3)).double()
    reference.load_state_dict(model.net.state_dict())
    images = pictures(dtype=torch.float64)
    ((activations, gradients),) = captured(model, images, path)
    expected = plain_autograd(reference, images, path.removeprefix("net."), second_class)
    torch.testing.assert_close(activations, expected[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradients, expected[1], rtol=1e-10, atol=1e-14)


def test_several_layers_inside_checkpointed_blocks():
    model = settle(Checkpointed(reentrant=False)).double()
    images = pictures(dtype=torch.float64)
    paths = ["net.blocks.0", "net.blocks.1.first", "net.blocks.2"]
    for path, (_, gradients) in zip(paths, captured(model, images, *paths), strict=True):
        expected = plain_autograd(model.net, images, path.removeprefix("net."), second_class)
        torch.testing.assert_close(gradients, expected[1], rtol=1e-10, atol=1e-14)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, in a bare forward too
def test_reentrant_checkpointing_after_the_layer_is_refused_in_one_line():
    with pytest.raises(EngineError, match="use_reentrant=False") as caught:
        explain(settle(Checkpointed(reentrant=True)), pictures(), layer="net.stem")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_layer_inside_a_reentrant_checkpoint_is_refused_in_one_line():
    with pytest.raises((EngineError, LayerError)) as caught:
        explain(settle(Checkpointed(reentrant=True)), pictures(), layer="net.blocks.1.first")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing_before_the_layer_is_no_obstacle():
    model = settle(Checkpointed(reentrant=True)).double()
    images = pictures(dtype=torch.float64)
    ((_, gradients),) = captured(model, images, "net.blocks.2")
    expected = plain_autograd(model.net, images, "blocks.2", second_class)
    torch.testing.assert_close(gradients, expected[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, "note"),
        lambda logits: [logits],
        lambda logits: {"logits": logits, "other": None},
        lambda logits: {"out": logits},
    ],
)
def test_class_scores_inside_a_container_are_explained(wrap):
    model = settle(Returning(wrap))
    images = pictures()
    found = explain(model, images, layer="net.last", target=ClassIndex(1))
    expected = explain(model.net, images, layer="last", target=1)
    assert torch.equal(found.maps, expected.maps)
    assert type(found.outputs) is type(wrap(images))


def test_a_callable_target_gets_the_outputs_as_they_are():
    model = settle(Returning(lambda logits: {"scores": logits, "name": "net"}))
    seen = []

    def third(outputs):
        seen.append(outputs["name"])
        return outputs["scores"][:, 2]

    found = explain(model, pictures(), layer="net.last", target=third)
    assert torch.equal(found.maps, explain(model.net, pictures(), layer="last", target=2).maps)
    assert set(seen) == {"net"}


class Result:
    """A model output of its own kind: neither a tuple nor a dict."""

    def __init__(self, logits):
        self.logits = logits


def test_a_result_object_with_logits_is_explained_at_the_price_of_one_forward():
    model = Counting(settle(Returning(Result)))
    found = explain(model, pictures(), layer="net.net.last", target=1)
    assert torch.equal(found.maps, explain(model.net.net, pictures(), layer="last", target=1).maps)
    assert model.batches == [2]


def test_a_result_object_holds_no_graph():
    model = settle(Returning(Result))
    assert not explain(model, pictures(), layer="net.last", target=1).outputs.logits.requires_grad


def test_a_result_object_does_not_hide_the_layers():
    model = settle(Returning(Result))
    assert explain(model, pictures(), target=1).maps.abs().max() > 0


def test_scores_that_autograd_cannot_follow_are_an_error_of_one_line():
    model = settle(Plain())
    for detach in (lambda o: o[:, 0].detach(), lambda o: torch.from_numpy(o.detach().numpy())[:, 0]):
        with pytest.raises(EngineError, match="autograd") as caught:
            explain(model, pictures(), layer="last", target=detach)
        assert "\n" not in str(caught.value)


def test_a_layer_that_folds_the_batch_is_refused():
    class Folding(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut = nn.Unflatten(3, (2, 6))
            self.windows = nn.Conv2d(3, 8, 3, padding=1)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, images):
            windows = self.cut(images).movedim(3, 1).flatten(0, 1)  # [2 B, C, 12, 6]
            return self.head(self.windows(windows).sigmoid().mean((2, 3)).unflatten(0, (-1, 2)).mean(1))

    with pytest.raises(
        LayerError, match=r"'windows' gave \[4, 8, 12, 6\] for a batch of 2; it folds the batch"
    ):
        explain(settle(Folding()), pictures(), layer="windows")


def test_gradients_can_be_asked_for_several_scores_of_one_forward():
    model = settle(Plain()).double()
    images = pictures(dtype=torch.float64)
    with explaining(model) as module:
        kept = capture(module, images, [address_of(module, "body")])
        found = [kept.gradients(kept.score(ClassIndex(index)))[0] for index in range(CLASSES)]
    for index, gradients in enumerate(found):
        expected = plain_autograd(model, images, "body", lambda outputs, index=index: outputs[:, index])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("path", ["stem", "relu", "body", "alias", "residual"])
def test_a_forward_with_a_layers_own_activations_gives_the_models_outputs(path):
    model, images = settle(InPlace()).double(), pictures(dtype=torch.float64)
    with explaining(model) as module:
        kept = capture(module, images, [address_of(module, path)])
        assert torch.equal(
            outputs_with(module, images, kept.layers[0], kept.layers[0].activations()), kept.outputs
        )
    assert not any(part._forward_hooks for part in model.modules())


def test_a_forward_with_other_activations_replaces_the_grid_and_keeps_the_prefix_tokens():
    model = settle(Transformer((3, 2), 2)).double()
    images = pictures(size=(12, 8), dtype=torch.float64)
    blocks = model.blocks
    with explaining(model) as module, torch.no_grad():
        kept = capture(module, images, [address_of(module, "blocks.0")])
        activations = kept.layers[0].activations()
        found = outputs_with(module, images, kept.layers[0], 2 * activations)
        tokens = kept.layers[0].node.detach().clone()
        tokens[:, 2:] *= 2
        expected = model.head(model.norm(blocks[2](blocks[1](tokens)))[:, 0])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert not found.requires_grad


def test_a_forward_with_other_activations_replaces_the_named_call_alone():
    model, images = settle(Repeated()).double(), pictures(dtype=torch.float64)
    with explaining(model) as module, torch.no_grad():
        kept = capture(module, images, [address_of(module, "relu#2")])
        found = outputs_with(module, images, kept.layers[0], 3 * kept.layers[0].activations())
        x = 3 * model.second(model.first(images).relu()).relu()
        expected = model.head(model.third(x).relu().mean((2, 3)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
