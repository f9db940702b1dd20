from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from whycam.errors import WeightsError
from whycam.models.fitting import (
    PREFIXES,
    fit_keys,
    head_classes,
    keys_fit,
    load_partially,
    load_strictly,
)
from whycam.models.weights import WeightsFile


def _network(classes: int = 4, width: int = 5, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, classes)
    )


def _trained(**shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    state = _network(**shape).state_dict()
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value + 3
        for key, value in state.items()
    } | {"1.running_var": torch.rand(state["1.running_var"].shape, generator=generator)}


def _file(tensors: dict[str, Tensor]) -> WeightsFile:
    return WeightsFile(name="best.pth", sha256="0" * 64, tensors=tensors)


def _load(module: nn.Module, tensors: dict[str, Tensor]) -> WeightsFile:
    fitted = fit_keys(_file(tensors), module.state_dict())
    load_strictly(module, fitted, owner="the test's network")
    return fitted


def _assert_loaded(module: nn.Module, expected: dict[str, Tensor]) -> None:
    found = list(module.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(found, expected.values(), strict=True))


def test_weights_that_fit_are_loaded_bit_for_bit_without_a_note() -> None:
    module = _network()
    assert _load(module, _trained()).notes == ()
    _assert_loaded(module, _trained())


@given(st.lists(st.sampled_from(PREFIXES), max_size=3))
def test_any_three_wrappers_deep_prefix_is_removed_and_noted(prefixes: list[str]) -> None:
    module, prefix = _network(), "".join(prefixes)
    fitted = _load(module, {prefix + key: value for key, value in _trained().items()})
    _assert_loaded(module, _trained())
    assert fitted.notes == ((f"prefix '{prefix}' removed from the keys",) if prefix else ())


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda module: nn.ModuleDict({"_orig_mod": module})])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_wrapped_network_takes_weights_of_the_bare_one(
    wrap: Callable[[nn.Module], nn.Module], prefix: str
) -> None:
    module = wrap(_network())
    _load(module, {prefix + key: value for key, value in _trained().items()})
    _assert_loaded(module, _trained())


def test_entries_outside_the_prefix_are_left_and_noted_when_the_network_is_whole() -> None:
    module = _network()
    beside = {"criterion.weight": torch.ones(4), "metric.total": torch.ones(1)}
    fitted = _load(module, {**{f"model.{key}": value for key, value in _trained().items()}, **beside})
    _assert_loaded(module, _trained())
    assert fitted.notes == (
        "prefix 'model.' removed from the keys",
        "2 entries outside it not used: 'criterion.weight', 'metric.total'",
    )


def test_of_an_averaged_and_a_plain_copy_the_averaged_is_taken() -> None:
    module = _network()
    plain = {f"model.{key}": torch.zeros_like(value) for key, value in _trained().items()}
    _load(module, {**plain, **{f"ema_model.{key}": value for key, value in _trained().items()}})
    _assert_loaded(module, _trained())


def test_the_counter_of_an_averaged_model_is_passed_over() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(_network())
    module = _network()
    _load(module, averaged.state_dict())
    _assert_loaded(module, averaged.module.state_dict())


def test_old_files_without_batch_counters_load() -> None:
    module = _network()
    _load(module, {key: value for key, value in _trained().items() if "num_batches" not in key})
    assert torch.equal(module[0].weight, _trained()["0.weight"])
    assert module[1].num_batches_tracked == 0


def test_half_precision_weights_load_into_a_full_precision_network() -> None:
    module = _network()
    _load(module, {k: v.half() if v.is_floating_point() else v for k, v in _trained().items()})
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, _trained()["0.weight"].half().float())


@pytest.mark.parametrize("classes", [1, 2, 4, 1000])
def test_the_number_of_classes_is_read_off_the_head_without_its_name(classes: int) -> None:
    read = head_classes(_trained(classes=classes), _network(classes=4).state_dict(), 4)
    assert read == (None if classes == 4 else classes)


@pytest.mark.parametrize("shape", [{"width": 6}, {"channels": 1}, {"width": 6, "classes": 3}])
def test_no_number_of_classes_is_read_where_more_than_the_head_differs(shape: dict[str, int]) -> None:
    assert head_classes(_trained(**shape), _network(classes=4).state_dict(), 4) is None


def test_no_number_of_classes_is_read_where_the_head_is_of_another_make() -> None:
    assert head_classes(_trained(classes=7), _network(classes=4).state_dict(), 1000) is None


def test_two_heads_with_different_numbers_tell_of_none() -> None:
    network = {"a.bias": torch.ones(4), "b.bias": torch.ones(4)}
    assert head_classes({"a.bias": torch.ones(2), "b.bias": torch.ones(3)}, network, 4) is None


def test_keys_fit_says_so() -> None:
    state = _network().state_dict()
    assert keys_fit(fit_keys(_file(_trained(classes=9)), state), state)
    assert not keys_fit(fit_keys(_file({"0.weight": torch.ones(1)}), state), state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("3.bias"), ("1 are missing", "missing '3.bias'", "weights of a part")),
        (
            lambda s: s.update({"neck.weight": torch.ones(2)}),
            ("1 are unexpected", "unexpected 'neck.weight'", "larger network"),
        ),
        (
            lambda s: s.update({"4.bias": s.pop("3.bias")}),
            ("missing '3.bias'", "unexpected '4.bias'", "variant"),
        ),
        (
            lambda s: s.update(_trained(classes=7)),
            ("2 of another shape", "'3.weight' is [7, 5], expected [4, 5]", "number of classes"),
        ),
        (
            lambda s: s.update(_trained(channels=1)),
            ("'0.weight' is [5, 1, 3, 3]", "input channels: see channels"),
        ),
        (lambda s: s.update(_trained(width=9)), ("width or depth",)),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_counts_shapes_and_cause(
    change: Callable[[dict[str, Tensor]], Any], words: tuple[str, ...], refused: Any
) -> None:
    module, state = _network(), _trained()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    change(state)
    with refused(WeightsError, "'best.pth' does not fit the test's network", "of 8 keys", *words):
        _load(module, state)
    _assert_loaded(module, before)


def test_a_refusal_names_the_way_to_load_what_fits(refused: Any) -> None:
    with refused(WeightsError, "--allow-partial", "loads the 6 that fit"):
        _load(_network(), _trained(classes=7))


@pytest.mark.parametrize(
    ("change", "loaded", "left", "unused"),
    [
        (lambda s: s.pop("3.bias"), 7, ("3.bias",), ()),
        (lambda s: s.update({"neck.weight": torch.ones(2)}), 8, (), ("neck.weight",)),
        (lambda s: s.update(_trained(classes=7)), 6, ("3.weight", "3.bias"), ("3.weight", "3.bias")),
        (lambda s: s.update({"4.bias": s.pop("3.bias")}), 7, ("3.bias",), ("4.bias",)),
    ],
)
def test_in_part_what_fits_is_loaded_and_the_rest_is_counted_and_left(
    change: Callable[[dict[str, Tensor]], Any], loaded: int, left: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    module, state = _network(), _trained()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    change(state)
    fit = load_partially(module, _file(state), owner="it")
    assert fit is not None
    assert (fit.loaded, fit.total, fit.left, fit.unused) == (loaded, 8, left, unused)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key] if key in left else state[key])


def test_in_part_a_file_that_fits_whole_is_no_partial_fit() -> None:
    module = _network()
    assert load_partially(module, _file(_trained()), owner="it") is None
    _assert_loaded(module, _trained())


def test_in_part_nothing_that_fits_is_refused_all_the_same(refused: Any) -> None:
    state = {
        "1.num_batches_tracked": torch.tensor(3),
        "other.weight": torch.ones(2),
        "0.weight": torch.ones(1),
    }
    with refused(WeightsError, "nothing in 'best.pth' fits it", "another shape"):
        load_partially(_network(), _file(state), owner="it")


def test_in_part_bad_numbers_are_refused_all_the_same(refused: Any) -> None:
    module, state = _network(), {"0.weight": _trained()["0.weight"]}
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state["0.weight"][0] = torch.nan
    with refused(WeightsError, "'0.weight'", "no finite numbers"):
        load_partially(module, _file(state), owner="it")
    _assert_loaded(module, before)


def test_another_architecture_is_named_as_the_cause(refused: Any) -> None:
    with refused(WeightsError, "of 8 keys 8 are missing", "10 are unexpected", "another architecture"):
        _load(_network(), {f"layer{n}.weight": torch.ones(2) for n in range(10)})


def test_hostile_keys_do_not_reach_the_terminal(refused: Any) -> None:
    with refused(WeightsError, "unexpected"):
        _load(_network(), {"\x1b[2J\n" + "x" * 5000 + str(n): torch.ones(2) for n in range(10)})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_parameter_that_is_not_finite_is_refused_by_name(bad: float, refused: Any) -> None:
    module, state = _network(), _trained()
    state["3.weight"][1, 2] = bad
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with refused(WeightsError, "'3.weight'", "1 values of 20"):
        _load(module, state)
    _assert_loaded(module, before)


def test_a_buffer_may_be_infinite_but_not_nan(refused: Any) -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.zeros(2))
    state = module.state_dict()
    _load(module, {**state, "mask": torch.tensor([0.0, -torch.inf])})
    assert module.mask[1] == -torch.inf
    with refused(WeightsError, "'mask'"):
        _load(module, {**state, "mask": torch.tensor([0.0, torch.nan])})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5])
def test_a_variance_that_cannot_be_one_is_refused_by_name(bad: float, refused: Any) -> None:
    state = _trained()
    state["1.running_var"][2] = bad
    with refused(WeightsError, "'1.running_var'", "1 values of 5"):
        _load(_network(), state)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_numbers_of_another_kind_are_refused_not_cast(dtype: torch.dtype, refused: Any) -> None:
    state = _trained()
    state["3.weight"] = state["3.weight"].to(dtype)
    with refused(WeightsError, "'3.weight'", str(dtype), "expected torch.float32"):
        _load(_network(), state)
