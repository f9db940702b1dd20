"""The model leaves as it came: gradients, modes, flags, hooks, forwards, random numbers, global settings."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from tests.brief import brief
from tests.engine.networks import (
    CLASSES,
    Counting,
    Plain,
    Residual,
    every_part,
    pictures,
    settle,
)
from tests.left_alone import HOOKS, assert_unchanged, state_of
from torch import nn

from whycam import (
    METHODS,
    EngineError,
    FlipAverage,
    NoiseAverage,
    ScaleAverage,
    WhycamError,
    choose_layer,
    explain,
    explain_methods,
    explain_targets,
)
from whycam.engine import capture, explaining
from whycam.engine.session import unwrap


def mid_training():
    """Return a network in the middle of a fine-tuning: parts in train mode, parts frozen, some gradients."""
    model = settle(Plain(inplace=True)).train()
    model.norm.eval()
    model.norm.requires_grad_(False)
    model.stem.weight.requires_grad_(False)
    model.body.weight.grad = torch.full_like(model.body.weight, -0.0)  # -0 and NaN show any arithmetic
    model.head.weight.grad = torch.full_like(model.head.weight, float("inf"))
    model.head.bias.grad = torch.randn_like(model.head.bias)
    return model


WAYS = {
    **{name: lambda m, x, name=name: explain(m, x, method=brief(name), layer="last")
       for name, method in METHODS.items() if name != "dff" and not method.takes_attention},
    "a chosen layer": lambda m, x: explain(m, x),
    "several layers": lambda m, x: explain(m, x, layer=["stem", "body", "last"], method="layercam"),
    "flips": lambda m, x: explain(m, x, smoothing=FlipAverage()),
    "noise": lambda m, x: explain(m, x, smoothing=NoiseAverage(2)),
    "several targets": lambda m, x: explain_targets(m, x, [0, None, lambda o: o.square().sum(1)]),
    "several methods": lambda m, x: explain_methods(m, x, ["gradcam", "eigencam", "cam"], layer="last"),
    "batches": lambda m, x: explain(m, x, batch_size=1),
    "the layer choice alone": lambda m, x: choose_layer(m, x),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_model_leaves_as_it_came(way):
    model = mid_training()
    before = state_of(model)
    WAYS[way](model, pictures())
    assert_unchanged(model, before)


def test_gradients_left_by_the_user_keep_their_very_bits():
    model = mid_training()
    kept = {name: value.grad for name, value in model.named_parameters()}
    bits = {name: grad.view(torch.int32).clone() for name, grad in kept.items() if grad is not None}
    explain(model, pictures())
    for name, value in model.named_parameters():
        assert value.grad is kept[name]
        assert value.grad is None or torch.equal(value.grad.view(torch.int32), bits[name])
    assert model.stem.bias.grad is None


def test_no_gradient_of_a_parameter_or_of_the_images_is_computed():
    model, images = mid_training(), pictures().requires_grad_()
    fired = []
    for name, value in (*model.named_parameters(), ("images", images)):
        if value.requires_grad:
            value.register_hook(lambda gradient, name=name: fired.append(name))
            value.register_post_accumulate_grad_hook(lambda parameter, name=name: fired.append(name))
    for way in WAYS.values():
        way(model, images)
    assert fired == []
    assert images.grad is None
    assert images.requires_grad


def test_the_images_are_not_rewritten():
    for model in (settle(Plain(inplace=True)), settle(Residual())):
        images = pictures()
        for way in WAYS.values() if isinstance(model, Plain) else [explain]:
            way(model, images)
        assert torch.equal(images, pictures())


@pytest.mark.parametrize(
    "options",
    [{"layer": "last"}, {"layer": None}, {"layer": "last", "smoothing": ScaleAverage((1.0, 1.0))},
     {"layer": "last", "method": "cam"}],
)  # fmt: skip
def test_a_model_that_normalises_its_input_in_place_sees_the_images_in_every_forward(options):
    class Normalising(Plain):
        def forward(self, images):
            return super().forward(images.sub_(0.5).div_(2))

    expected = explain(settle(Plain()), (pictures() - 0.5) / 2, **{**options, "smoothing": None})
    found = explain(settle(Normalising()), pictures(), **options)
    torch.testing.assert_close(found.maps, expected.maps)


FAILURES = [RuntimeError, KeyboardInterrupt, SystemExit]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("where", ["target", "method", "forward", "smoothing", "layer"])
def test_the_model_leaves_as_it_came_when_something_raises(where, failure):
    model = mid_training()
    before = state_of(model)

    def fail(outputs=None):
        raise failure("in the middle")

    class Failing:
        def views(self, images):
            yield images, lambda maps: maps
            fail()

    def method(activations, gradients):
        fail()

    options = {"layer": "last"}
    if where == "target":
        options["target"] = fail
    elif where == "method":
        options["method"] = method
    elif where == "smoothing":
        options["smoothing"] = Failing()
    broken = {"forward": model.head, "layer": model.last}.get(where)
    if broken is not None:
        broken.forward = lambda x: fail()
    try:
        for chosen in (options, {**options, "layer": None}):
            with pytest.raises(failure, match="in the middle"):
                explain(model, pictures(), **chosen)
    finally:
        if broken is not None:
            assert "forward" in vars(broken)  # the user's own override stays
            del broken.forward
    assert_unchanged(model, before)
    assert torch.is_grad_enabled()


def test_grad_mode_and_settings_are_restored_when_the_forward_raises():
    model = settle(Plain())
    model.head.forward = lambda x: 1 / 0
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            with pytest.raises(ZeroDivisionError):
                explain(model, pictures(), layer="last")
            assert torch.is_grad_enabled() is enabled
            assert torch.is_autocast_cache_enabled()


def test_a_frozen_batch_norm_stays_frozen_and_no_statistic_moves():
    model = mid_training()
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    explain(model, pictures())
    assert [part.training for part in (model, model.norm, model.body_norm)] == [True, False, True]
    for name, value in model.named_buffers():
        assert torch.equal(value, statistics[name]), name


def test_explaining_runs_in_eval_mode():
    model = mid_training()
    expected = explain(deepcopy(model).eval(), pictures(), layer="last")
    found = explain(model, pictures(), layer="last")
    assert torch.equal(found.maps, expected.maps)
    assert torch.equal(found.outputs, expected.outputs)


def test_a_models_own_train_method_is_not_called():
    class Guarded(Plain):
        def train(self, mode=True):
            raise AssertionError("the model's own train() has side effects")

    model = Guarded()
    before = state_of(model)
    explain(model, pictures())
    assert_unchanged(model, before)


def test_the_users_own_hooks_stay_and_fire():
    model = settle(Plain())
    fired = []
    model.last.register_forward_hook(lambda *_: fired.append("after"))
    model.last.register_forward_pre_hook(lambda *_: fired.append("before"))
    before = state_of(model)
    explain(model, pictures(), layer="last")
    assert fired == ["before", "after"]
    assert_unchanged(model, before)


def test_a_users_hook_that_changes_the_layers_output_is_captured_with_its_change():
    model = settle(Plain())
    model.last.register_forward_hook(lambda part, inputs, output: output * 0)
    assert explain(model, pictures(), layer="last").blank.all()


def test_a_frozen_model_is_like_any_other():
    model = settle(Residual())
    expected = explain(model, pictures())
    model.requires_grad_(False)
    before = state_of(model)
    for layer in (None, expected.layer):
        assert torch.equal(explain(model, pictures(), layer=layer).maps, expected.maps)
    assert_unchanged(model, before)


@pytest.mark.parametrize("layer", [None, "last", "stem"])
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_inside_no_grad_and_inference_mode(around, layer):
    expected = explain(settle(Plain()), pictures(), layer=layer)
    model = settle(Plain(inplace=True))  # fresh: the layer is chosen inside too
    with around():
        images = pictures()  # made inside
        found = explain(model, images, layer=layer)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (around is torch.inference_mode)
        torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(explain(model, images, layer=layer).maps, expected.maps)  # used outside
    found.maps.add_(1)  # no inference tensor leaks out


def test_images_made_in_inference_mode_may_be_read_again_after_the_layer():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, padding=1)
            self.late = nn.Conv2d(11, 8, 3, padding=1)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, images):
            x = torch.cat([self.body(images), images], 1)
            return self.head((self.late(x).sigmoid() * images.mean(1, keepdim=True)).mean((2, 3)))

    model = settle(Skip())
    expected = explain(model, pictures(), layer="body")
    with torch.inference_mode():
        found = explain(model, pictures(), layer="body")
    torch.testing.assert_close(found.maps, expected.maps)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_works_inside_inference_mode_on_a_frozen_model(way):
    model = settle(Plain()).requires_grad_(False)
    expected = WAYS[way](model, pictures())
    with torch.inference_mode():
        found = WAYS[way](model, pictures())
    if way == "the layer choice alone":
        assert found == expected
        return
    several = isinstance(expected, list)
    for one, other in zip(found if several else [found], expected if several else [expected], strict=True):
        torch.testing.assert_close(one.maps, other.maps)


@pytest.mark.parametrize("layer", [None, "last"])
def test_weights_made_in_inference_mode_are_refused_in_one_line(layer):
    with torch.inference_mode():
        model = settle(Plain())
    for around in (torch.enable_grad, torch.inference_mode):
        with around(), pytest.raises(EngineError, match=r"made inside torch\.inference_mode\(\)") as caught:
            explain(model, pictures(), layer=layer)
        assert "\n" not in str(caught.value)


def test_statistics_made_in_inference_mode_are_refused_in_one_line_where_they_are_in_the_way():
    model = settle(Plain())
    with torch.inference_mode():
        for part in (model.norm, model.body_norm):
            part.running_mean = part.running_mean.clone()
            part.running_var = part.running_var.clone()
    for layer in (None, "stem"):
        with pytest.raises(EngineError, match=r"made inside torch\.inference_mode\(\)") as caught:
            explain(model, pictures(), layer=layer)
        assert "\n" not in str(caught.value)
    expected = explain(settle(Plain()), pictures(), layer="last")
    assert torch.equal(explain(model, pictures(), layer="last").maps, expected.maps)  # they come before it


class Chancy(Plain):
    """Draws random numbers in eval mode too."""

    def forward(self, images):
        return super().forward(F.dropout(images, 0.3, training=True))


# cam's second forward draws other numbers here, so that it can prove no head
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("cam", "several methods")])
def test_the_random_state_is_left_alone_and_the_same_seed_gives_the_same_map(way):
    model = settle(Chancy())
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = WAYS[way](model, pictures())
    assert torch.equal(torch.get_rng_state(), before)
    second = WAYS[way](model, pictures())
    if way == "the layer choice alone":
        return
    several = isinstance(first, list)
    for one, other in zip(first if several else [first], second if several else [second], strict=True):
        assert torch.equal(one.maps, other.maps)
        assert torch.equal(one.scores, other.scores)


def test_the_random_state_is_restored_when_the_target_raises():
    model = settle(Chancy())
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        explain(model, pictures(), target=lambda outputs: 1 / 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_another_map_where_the_model_draws():
    model = settle(Chancy())
    maps = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        maps.append(explain(model, pictures(), layer="last").maps)
    assert not torch.equal(*maps)


def test_nested_use_of_the_session_restores_at_the_outer_end():
    model = mid_training()
    before = state_of(model)
    with explaining(model) as outer:
        with explaining(model) as inner:
            assert inner is outer
        assert not any(part.training for part in every_part(model))
    assert_unchanged(model, before)


def test_a_part_that_stands_under_two_names_is_restored():
    model = mid_training()
    model.again = model.norm
    model.once_more = model.body_norm
    before = state_of(model)
    explain(model, pictures())
    assert_unchanged(model, before)


def test_a_model_without_parameters_is_explained_or_refused_but_left_alone():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.spread = nn.Upsample(scale_factor=0.5)
            self.square = nn.Sigmoid()

        def forward(self, images):
            return self.square(self.spread(images).repeat(1, 3, 1, 1)).mean((2, 3))

    assert explain(Fixed(), pictures()).maps.shape == (2, 6, 6)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compile_to_script", [torch.jit.script, lambda m: torch.jit.trace(m, pictures())])
def test_scripted_and_traced_models_are_refused_in_one_line(compile_to_script):
    scripted = compile_to_script(settle(Residual()))
    for way in (explain, choose_layer):
        with pytest.raises(EngineError, match=r"scripted.*give the nn\.Module it was made from") as caught:
            way(scripted, pictures())
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_part_is_no_obstacle():
    model = settle(Residual())
    expected = explain(model, pictures(), layer="blocks.1")
    model.blocks[0] = torch.jit.script(model.blocks[0])
    before = [part.training for part in every_part(model)]
    assert torch.equal(explain(model, pictures(), layer="blocks.1").maps, expected.maps)
    assert explain(model, pictures()).layer == "blocks"
    assert [part.training for part in every_part(model)] == before


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_layer_is_refused_in_one_line_and_no_hook_stays():
    model = settle(Residual())
    model.blocks[1] = torch.jit.script(model.blocks[1])
    with pytest.raises(WhycamError, match="scripted") as caught:
        explain(model, pictures(), layer=["stem", "blocks.1"])
    assert "\n" not in str(caught.value)
    assert not any(getattr(part, name) for part in (model, model.stem, model.blocks) for name in HOOKS)


def test_unwrapping_a_plain_module_gives_itself():
    model = Plain()
    assert unwrap(model) is model


def test_capture_alone_leaves_no_hooks_when_the_forward_raises():
    model = settle(Plain())
    before = state_of(model)
    model.head.forward = lambda x: 1 / 0
    from whycam.engine import Address

    with pytest.raises(ZeroDivisionError), explaining(model) as module:
        capture(module, pictures(), [Address("stem"), Address("last")])
    del model.head.forward
    assert_unchanged(model, before)


def test_one_forward_for_several_targets_and_several_methods():
    model = Counting(settle(Plain()))
    explain_targets(model, pictures(), [0, 1, None, lambda outputs: outputs[:, 2]], layer="net.last")
    assert model.batches == [2]
    model.batches.clear()
    explain_methods(model, pictures(), ["gradcam", "layercam", "eigencam", "hirescam", "random", "edges"],
                    layer="net.last")  # fmt: skip
    assert model.batches == [2]
    assert CLASSES == 5
