"""A server that accepts connections and never answers."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest


@pytest.fixture
def silent() -> Iterator[Callable[[], str]]:
    with ExitStack() as stack:

        def start() -> str:
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            server.listen()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start
