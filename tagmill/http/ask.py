"""Ask the endpoints of a process of this machine, on a TCP port or a Unix socket."""

import socket
from http.client import HTTPConnection
from pathlib import Path

from tagmill.http.endpoints import Answer


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(address: tuple[str, int] | Path, page: str, seconds: float) -> Answer:
    """Return the answer to GET `page`. Raise OSError or HTTPException if there is none in time."""
    if isinstance(address, Path):
        connection: HTTPConnection = _UnixConnection(address, seconds)
    else:
        connection = HTTPConnection(*address, timeout=seconds)
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return Answer(answer.read(), answer.getheader("Content-Type", ""), answer.status)
    finally:
        connection.close()
