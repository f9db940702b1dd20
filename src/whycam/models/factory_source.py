"""``path/to/file.py:factory`` and ``package.module:factory``: the user's own code makes the network."""

import functools
import importlib
import importlib.util
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from whycam.errors import ModelError, UsageError, WhycamError
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line, or_nothing_close, some_of
from whycam.models.preprocessing import Preprocessing
from whycam.models.source import Built, ModelOptions, ModelSource
from whycam.models.weights import StateDict

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TIMM_NOTE = "preprocessing taken from the network's pretrained_cfg"

_serial = itertools.count()


def file_source(reference: str, options: ModelOptions) -> ModelSource:
    """Give the network that ``factory()`` of a Python file makes. THIS RUNS THE FILE'S CODE.

    The file is imported under a name of its own, with its folder first on the import path, as
    ``python file.py`` has it. Raises ModelError when the file or the factory is missing or fails.
    """
    path, _, name = reference.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"there is no file '{one_line(path)}' for the factory '{name}'; check the path")
    folder = file.resolve().parent

    def find() -> ModuleType:
        return _imported_file(file.resolve())

    return _source(reference, name, folder, find, options)


def module_source(reference: str, options: ModelOptions) -> ModelSource:
    """Give the network that ``factory()`` of an importable module makes. THIS RUNS THE MODULE'S CODE.

    The working folder is first on the import path, as ``python -m`` has it. Raises ModelError when the
    module or the factory is missing or fails.
    """
    path, _, name = reference.rpartition(":")

    def find() -> ModuleType:
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise  # the module is there, and one that it imports is not
            raise ModelError(
                f"there is no module '{one_line(error.name)}' for the reference '{one_line(reference)}'; "
                "install it, or run where it lies"
            ) from error

    return _source(reference, name, Path.cwd(), find, options)


def _source(
    reference: str, name: str, folder: Path, find: Callable[[], ModuleType], options: ModelOptions
) -> ModelSource:
    with _user_code(reference, folder):
        factory = _factory_in(find(), name, reference)

    # cached, so that the user's code runs once for a number of classes
    @functools.cache
    def build(num_classes: int | None) -> Built:
        with _user_code(reference, folder):
            return _built(factory, num_classes, reference)

    def outline(num_classes: int | None) -> StateDict:
        return build(num_classes).module.state_dict()

    return ModelSource(
        build=build,
        outline=outline,
        unweighted=Provenance("factory", name=one_line(reference)),
        default_classes=_default_classes(factory),
    )


def _imported_file(file: Path) -> ModuleType:
    # a name of its own: a file may be called as an installed module is, and be loaded again when edited
    name = f"_whycam_factory_{next(_serial)}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"'{one_line(file.name)}' cannot be imported; expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _factory_in(module: ModuleType, name: str, reference: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if isinstance(found, nn.Module):
        return lambda: found
    if callable(found):
        return cast(Callable[..., Any], found)
    if found is not None:
        raise ModelError(
            f"{one_line(reference)} is a {type(found).__name__}; expected a function that returns a network"
        )
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    close = or_nothing_close(name, public) or f"; it has {some_of(public, 8) or 'no functions'}"
    raise ModelError(f"there is no '{one_line(name)}' in '{one_line(reference.rpartition(':')[0])}'{close}")


def _built(factory: Callable[..., Any], num_classes: int | None, reference: str) -> Built:
    _refuse_needed_arguments(factory, num_classes, reference)
    result = factory() if num_classes is None else factory(num_classes=num_classes)
    match result:
        case nn.Module():
            preprocessing = _timm_preprocessing(result)
            return Built(result, preprocessing, _TIMM_NOTE if preprocessing else None)
        case (nn.Module() as module, Preprocessing() as preprocessing):
            return Built(module, preprocessing)
    raise ModelError(
        f"{one_line(reference)} returned a {type(result).__name__}; expected a torch.nn.Module, or a pair "
        "of one and a whycam.models.Preprocessing"
    )


def _refuse_needed_arguments(factory: Callable[..., Any], num_classes: int | None, reference: str) -> None:
    parameters = _parameters(factory)
    takes_classes = "num_classes" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if num_classes is not None and not takes_classes:
        raise UsageError(
            f"{one_line(reference)} takes no num_classes; give it that parameter, or set the number inside"
        )
    given = set() if num_classes is None else {"num_classes"}
    needed = [name for name, p in parameters.items() if _must_be_given(p) and name not in given]
    if needed == ["num_classes"]:
        raise ModelError(f"{one_line(reference)} needs a number of classes; give --num-classes")
    if needed:
        raise ModelError(
            f"{one_line(reference)} needs the arguments {some_of(needed)}; expected a function that can be "
            "called without any, or with num_classes alone"
        )


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except ValueError:  # a built-in does not tell
        return {}


def _must_be_given(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic


def _default_classes(factory: Callable[..., Any]) -> int | None:
    parameter = _parameters(factory).get("num_classes")
    default = parameter.default if parameter else None
    return default if type(default) is int else None


def _timm_preprocessing(module: nn.Module) -> Preprocessing | None:
    config = getattr(module, "pretrained_cfg", None)
    # what a configuration leaves open, timm fills with ImageNet's values: those were not given
    if not isinstance(config, dict) or not all(config.get(key) for key in ("input_size", "mean", "std")):
        return None
    channels = _input_channels(module, config)
    # a network made for other channels keeps the configuration for three; stems that fold pixels into
    # channels take a multiple
    if channels is not None and channels % config["input_size"][0]:
        return None
    return Preprocessing.from_timm(module)


def _input_channels(module: nn.Module, config: dict[str, Any]) -> int | None:
    """Give the number of channels that the first convolution takes, None where there is none."""
    named = config.get("first_conv")
    modules = dict(module.named_modules())
    first = modules.get(named) if isinstance(named, str) else None
    convolutions = (one for one in (first, *modules.values()) if isinstance(one, _CONVOLUTIONS))
    return next((one.in_channels for one in convolutions), None)


@contextmanager
def _user_code(reference: str, folder: Path) -> Iterator[None]:
    """Run the user's code with its folder first on the import path; what it raises becomes one line."""
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        yield
    except WhycamError:
        raise
    # whatever the user's code raises, or a script that exits, is the user's to read, in one line
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"the code of {one_line(reference)} failed{_place(error, folder)}: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _place(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
