"""A Redis with TLS for the tests: a program that was built with it, and certificates. The one in the wheel has none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trustme

from support.debian import find_program


@dataclass(frozen=True)
class RedisTls:
    """The command of a redis-server with TLS, and what its servers on 127.0.0.1 show."""

    command: list[str]
    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def issue(cls, folder: Path) -> "RedisTls":
        """Write the certificate of a new authority into the folder, and one for 127.0.0.1 with its key."""
        found = cls(
            find_program("redis-server", "redis-server", "redis-tools").command(),
            folder / "authority.pem",
            folder / "certificate.pem",
            folder / "key.pem",
        )
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(found.authority))
        issued.cert_chain_pems[0].write_to_path(str(found.certificate))
        issued.private_key_pem.write_to_path(str(found.key))
        return found

    def configuration(self, port: int) -> dict[str, object]:
        """Return the lines of redis.conf or sentinel.conf for a server that listens with TLS alone."""
        files = {"tls-cert-file": self.certificate, "tls-key-file": self.key, "tls-ca-cert-file": self.authority}
        return {"port": 0, "tls-port": port, **files, "tls-auth-clients": "no", "tls-replication": "yes"}

    @property
    def client(self) -> dict[str, Any]:
        """redis-py's arguments that check the certificate."""
        return {"ssl_cert_reqs": "required", "ssl_ca_certs": str(self.authority)}

    @property
    def query(self) -> str:
        """The same as the query of a URL."""
        return urlencode(self.client)
