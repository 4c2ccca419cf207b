"""A server that speaks as much of PostgreSQL's protocol as it takes to refuse a client, in any words."""

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

#: request codes of SSL and GSSAPI encryption
_ENCRYPTION = {80877103, 80877104}
_PARAMETERS = {"server_version": "17.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}


class RefusingServer:
    """Listens on a port of 127.0.0.1 and refuses every client, or with `after_login` its first statement."""

    def __init__(self, state: str, message: str, *, after_login: bool = False) -> None:
        fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": message}
        body = b"".join(name.encode() + value.encode() + b"\0" for name, value in fields.items())
        self._error = _packet(b"E", body + b"\0")
        self._after_login = after_login
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of a database on it."""
        return f"postgresql://app:secret@127.0.0.1:{self.port}/app"

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    self._refuse(client)

    def _refuse(self, client: socket.socket) -> None:
        while True:
            length, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
            if code not in _ENCRYPTION:
                break
            client.sendall(b"N")
        client.recv(length - 8, socket.MSG_WAITALL)
        if self._after_login:
            told = b"".join(_packet(b"S", f"{name}\0{value}\0".encode()) for name, value in _PARAMETERS.items())
            client.sendall(_packet(b"R", struct.pack("!i", 0)) + told + _packet(b"Z", b"I"))
            client.recv(65536)
        client.sendall(self._error)


def _packet(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body
