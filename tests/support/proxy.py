"""A TCP proxy in front of a server, to stall, cut and refuse connections in a test."""

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

#: SO_LINGER that closes with a reset, as a firewall or a failing host does
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to 127.0.0.1:`port` to a port or a Unix socket."""

    def __init__(self, upstream: int | Path) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._closed = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._flowing.set()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        for end in list(self._open):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Forward nothing, as if a cable was pulled. Connections stay open, and new ones are accepted."""
        self._flowing.clear()
        yield
        self._flowing.set()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset open connections and new ones."""
        self._refusing = True
        self.cut()
        yield
        self._refusing = False

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(client)
            if self._refusing:
                self.cut()
                continue
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        self._open.add(server)
        other = {client: server, server: client}
        with selectors.DefaultSelector() as ready, suppress(OSError, ValueError):
            for end in other:
                ready.register(end, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in ready.select(0.1):
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    data = end.recv(65536)
                    self._flowing.wait()
                    if not data:
                        raise ConnectionResetError
                    other[end].sendall(data)
        for end in other:
            self._open.discard(end)
            end.close()

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, int):
            return socket.create_connection(("127.0.0.1", self._upstream))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._upstream))
        return server
