"""The registry: what is in it, that each entry works from its inputs alone, and that each has an oracle."""

import dataclasses
import pathlib
from typing import get_args

import pytest
import torch
from tests.oracles import activation, controls, draws, gradient

from whycam.errors import MethodError
from whycam.methods import METHODS, NEEDS, Method, find_method, registry
from whycam.methods.registry import Kind
from whycam.passes import PROVIDERS

# name -> what its test compares it with; dff has no formula and is held to properties
ORACLES = {
    "cam": activation.cam,
    "gradcam": gradient.gradcam,
    "gradcam++": gradient.gradcam_plus_plus,
    "smoothgradcam++": gradient.smooth_gradcam_plus_plus,
    "xgradcam": gradient.xgradcam,
    "hirescam": gradient.hirescam,
    "gradcam-elementwise": gradient.gradcam_elementwise,
    "layercam": gradient.layercam,
    "eigencam": activation.eigencam,
    "eigengradcam": activation.eigengradcam,
    "segeigencam": activation.segeigencam,
    "kpcacam": activation.kpcacam,
    "fem": activation.fem,
    "dff": None,
    "random": controls.random,
    "centre": controls.centre,
    "edges": controls.edges,
}
# methods that run a model, and the file that holds them to their oracles on one
ON_A_MODEL = {
    "gradient": "test_pixel.py",
    "finercam": "test_layered.py",
    "shapleycam": "test_layered.py",
    "fullgrad": "test_layered.py",
    "refinecam": "test_layered.py",
    "rollout": "test_attention.py",
    "attentiongradient": "test_attention.py",
    "chefer": "test_attention.py",
    "legrad": "test_attention.py",
    "scorecam": "test_masking.py",
    "sscam": "test_masking.py",
    "iscam": "test_masking.py",
    "opticam": "test_masking.py",
    "occlusion": "test_perturbation.py",
    "rise": "test_perturbation.py",
    "sobol": "test_perturbation.py",
    "extremal": "test_extremal.py",
    "inputxgradient": "test_pixel.py",
    "smoothgrad": "test_pixel.py",
    "vargrad": "test_pixel.py",
    "integrated": "test_paths.py",
    "expected": "test_paths.py",
    "blurig": "test_paths.py",
    "guidedig": "test_paths.py",
    "guidedbackprop": "test_pixel.py",
    "deconvnet": "test_pixel.py",
    "guidedgradcam": "test_pixel.py",
    "ablationcam": "test_ablation.py",
    "reciprocam": "test_ablation.py",
    "liftcam": "test_ablation.py",
}

DTYPE = torch.float64


def inputs(grid: tuple[int, ...], size: tuple[int, ...]) -> dict[str, object]:
    random = torch.Generator().manual_seed(1)
    gradients = torch.randn(2, 5, *grid, generator=random, dtype=DTYPE)
    activations = torch.rand(2, 5, *grid, generator=random, dtype=DTYPE)
    activations.flatten(2)[:, 0, 0] += 20.0  # something must stand out for fem
    return {
        "images": torch.rand(2, 3, *size, generator=random, dtype=DTYPE),
        "activations": activations,
        "gradients": gradients,
        "class_weights": torch.randn(2, 5, generator=random, dtype=DTYPE),
        "gradients_of": lambda images: gradients,
    }


def test_every_registered_method_has_an_oracle_or_is_held_to_properties():
    assert set(METHODS) == {*ORACLES, *ON_A_MODEL}


@pytest.mark.parametrize(("name", "file"), ON_A_MODEL.items())
def test_the_file_that_holds_a_method_to_its_oracle_names_both(name, file):
    text = pathlib.Path(__file__).with_name(file).read_text(encoding="utf-8")
    assert f'"{name}"' in text
    assert "from tests.oracles import" in text


def test_oracles_share_no_code_with_the_package():
    for path in pathlib.Path(activation.__file__).parent.glob("*.py"):
        assert "whycam" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("grid", "size"), [((8,), (16,)), ((3, 4), (6, 8)), ((2, 3, 4), (4, 6, 8))])
def test_every_method_runs_from_the_inputs_that_it_names(name, grid, size):
    method, given = METHODS[name], inputs(grid, size)
    maps = method.function(**{need: given[need] for need in method.needs})
    expected = size if method.needs == {"images"} else grid
    assert maps.shape == (2, *expected)
    assert maps.dtype == DTYPE
    assert maps.isfinite().all()
    assert maps.flatten(1).std(1).min() > 0


@pytest.mark.parametrize("name", [name for name, oracle in ORACLES.items() if oracle])
def test_the_function_under_a_name_is_the_method_of_that_name(name):
    method, given = METHODS[name], inputs((3, 4), (6, 8))
    maps = method.function(**{need: given[need] for need in method.needs})
    for b, got in enumerate(maps):
        image = {need: given[need][b].numpy() for need in method.needs - {"gradients_of"}}
        if name == "smoothgradcam++":
            expected = ORACLES[name](image["activations"], [given["gradients"][b].numpy()] * 16)
        elif name == "centre":
            expected = ORACLES[name]((3, 4))
        elif name == "random":
            expected = ORACLES[name](image["images"], (3, 4))
        elif method.needs == {"images"}:
            expected = ORACLES[name](image["images"])
        else:
            order = ("activations", "gradients", "class_weights")
            expected = ORACLES[name](*[image[need] for need in order if need in image])
        assert draws.disagreement(got, expected) < 1e-9


@pytest.mark.parametrize("name", METHODS)
def test_entries_say_what_they_are_in_one_line_each(name):
    method = METHODS[name]
    assert method.name == name
    assert method.kind in get_args(Kind)
    assert method.kind != "other"
    for text in (method.cost, method.source, method.summary):
        assert text == text.strip() != ""
        assert "\n" not in text


def test_everything_that_may_be_asked_for_is_provided():
    assert set(NEEDS) == set(PROVIDERS)


def test_no_name_is_registered_twice():
    assert len(registry._BUILT_IN) == len(METHODS)


def test_an_entry_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        METHODS["gradcam"].name = "other"


def test_parameters_are_the_options_with_their_defaults():
    assert METHODS["smoothgradcam++"].parameters == {"samples": 16, "sigma": 0.15, "seed": 0}
    assert METHODS["dff"].parameters == {"concepts": 4}
    assert METHODS["kpcacam"].parameters == {"kernel": "sigmoid"}
    assert METHODS["gradcam"].parameters == {}


def test_methods_are_found_by_name_by_function_and_by_themselves():
    gradcam = METHODS["gradcam"]
    assert find_method("gradcam") is gradcam
    assert find_method(gradcam.function) is gradcam
    assert find_method(gradcam) is gradcam


def test_a_function_of_named_inputs_is_a_method():
    def mean_activation(activations, *, power=2):
        return activations.pow(power).mean(1)

    method = find_method(mean_activation)
    assert isinstance(method, Method)
    assert method.name == "mean_activation"
    assert method.needs == {"activations"}
    assert method.parameters == {"power": 2}


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(MethodError, match=r"'gradcm' is unknown.*gradcam") as caught:
        find_method("gradcm")
    assert "\n" not in str(caught.value)


def test_a_function_that_asks_for_something_unknown_is_refused():
    with pytest.raises(MethodError, match="'pixels', which nothing provides"):
        _ = find_method(lambda activations, pixels: activations).needs


def test_a_function_that_asks_for_nothing_is_refused():
    with pytest.raises(MethodError, match="takes no input"):
        _ = find_method(lambda *, power=2: power).needs
