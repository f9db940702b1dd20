"""What every test shares: checked shapes, a small number of threads, a seed."""

import os
import signal
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Before any test imports whycam: from here on every call checks its shapes and types, in tests only.
jaxtyping.install_import_hook("whycam", "beartype.beartype")
# As many threads as there is room for: two of one worker on the core of another wait for each other. The
# programs that tests start have their number from the environment.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
threads = max(1, min(2, (os.cpu_count() or 1) // workers))
os.environ["OMP_NUM_THREADS"] = str(threads)
torch.set_num_threads(threads)
# What a shell starts in the background is deaf to Ctrl-C, and so would be the tests of it.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("whycam", deadline=None)  # a busy machine is no defect
settings.load_profile("whycam")


@pytest.fixture
def seed() -> int:
    """Seed torch's global generator, so that a network's random weights repeat; gives the seed."""
    torch.manual_seed(20240917)
    return 20240917


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn the checks off, as for a user: a wrong argument must meet the package's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def _one_thread() -> Iterator[None]:
    """For tiny networks, whose second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


one_thread = pytest.fixture(_one_thread)
one_thread_a_module = pytest.fixture(_one_thread, scope="module")
