"""What all tests of the models room share: no network, two threads, one-line refusals."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch

from whycam.errors import WhycamError

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def refused() -> Refused:
    """Expect exactly this error type, on one printable line of bearable length, with these words in it."""

    @contextmanager
    def expect(kind: type[WhycamError], *words: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        message = str(caught.value)
        assert type(caught.value) is kind
        assert message.isprintable()
        assert 20 < len(message) < 700
        for word in words:
            assert word in message

    return expect
