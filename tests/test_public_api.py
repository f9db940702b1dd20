"""The names that users may rely on, and that they cost nothing until they are used."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import whycam
from whycam.errors import WhycamError

PUBLIC = {
    "AbsentError",
    "METHODS",
    "Binary",
    "BoxCoordinate",
    "BoxScore",
    "ClassIndex",
    "Completeness",
    "Concepts",
    "Contrast",
    "EngineError",
    "Explanation",
    "Finer",
    "FirstComponent",
    "FlipAverage",
    "ImageError",
    "LayerChoice",
    "LayerError",
    "LoadedModel",
    "Method",
    "MethodError",
    "MissingExtraError",
    "ModelError",
    "NoiseAverage",
    "Preprocessing",
    "Probability",
    "Provenance",
    "Rank",
    "RunError",
    "ScaleAverage",
    "SegmentationClass",
    "Similarity",
    "TargetError",
    "TopClass",
    "UsageError",
    "Value",
    "WeightsError",
    "WhycamError",
    "__version__",
    "choose_layer",
    "completeness",
    "concepts",
    "explain",
    "explain_methods",
    "explain_targets",
    "load",
    "read_run",
}

HEAVY = {"torch", "timm", "torchvision", "pyarrow", "matplotlib", "PIL", "numpy", "safetensors"}


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert set(whycam.__all__) == PUBLIC
    assert len(whycam.__all__) == len(PUBLIC)


def test_every_public_name_loads_and_is_listed() -> None:
    for name in PUBLIC:
        assert getattr(whycam, name) is not None
        assert name in dir(whycam)


def test_every_error_is_public_and_a_whycam_error() -> None:
    import whycam.errors as errors

    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds <= PUBLIC
    assert all(issubclass(getattr(whycam, name), WhycamError) for name in kinds)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'whycam' has no attribute 'explane'"):
        _ = whycam.explane


def test_no_module_shares_a_public_name() -> None:
    # importing a submodule binds its name in the package, over a function of the same name
    modules = {module.name for module in pkgutil.iter_modules(whycam.__path__)}
    assert modules & PUBLIC == set()


def test_names_stay_functions_whichever_module_is_imported_first() -> None:
    modules = [module.name for module in pkgutil.iter_modules(whycam.__path__, "whycam.")]
    for order in (modules, modules[::-1]):
        for name in order:
            if not name.endswith("__main__"):
                importlib.import_module(name)
            assert callable(whycam.explain)
            assert callable(whycam.load)


def test_importing_whycam_imports_nothing_heavy() -> None:
    loaded = _python("import sys, whycam; print(*sys.modules)").split()
    assert "whycam" in loaded
    assert HEAVY & set(loaded) == set()


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert whycam.__version__ == version("whycam")
