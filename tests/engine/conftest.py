"""The engine's networks are tiny: each test runs on one thread."""

import pytest


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread: None) -> None:
    pass
