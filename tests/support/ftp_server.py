"""A real FTP server on 127.0.0.1, in a thread of the tests."""

import logging
import threading
from pathlib import Path

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

logging.getLogger("pyftpdlib").setLevel(logging.ERROR)


class FtpServer:
    """Serves a folder to one user, who may read; `perm` is in the letters of pyftpdlib."""

    def __init__(self, folder: Path, user: str, password: str, perm: str = "elr") -> None:
        authorizer = DummyAuthorizer()
        authorizer.add_user(user, password, str(folder), perm=perm)
        handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        self._server = ThreadedFTPServer(("127.0.0.1", 0), handler)
        self.url = f"ftp://127.0.0.1:{self._server.address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"timeout": 0.05, "handle_exit": False}
        )
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.close_all()
        self._thread.join(10)
