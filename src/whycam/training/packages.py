"""The packages that training needs and nothing else does."""

from importlib.util import find_spec

from whycam.errors import MissingExtraError

_NEEDED = ("lightning", "torchmetrics")


def check_packages() -> None:
    """Raise MissingExtraError where a package of the extra ``train`` is not installed."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise MissingExtraError(
                f"training needs {name}, which is not installed; pip install 'whycam[train]'"
            )
