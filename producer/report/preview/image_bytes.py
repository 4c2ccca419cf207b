"""Read the bytes of an image for its thumbnail: a local file, a URL of an allowed host, or an object of a store."""

import hashlib
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

from urllib3 import PoolManager, Retry, Timeout, make_headers
from urllib3 import exceptions as http_errors
from urllib3.util import parse_url

from producer.report.preview.stored_bytes import read_stored
from producer.report.preview.unreadable import UnreadableError
from tagmill.http.checked_connection import cut_after, pool_classes
from tagmill.http.public_address import may_connect
from tagmill.locations.schemes import is_fetched, is_local, is_stored, scheme_of
from tagmill.outcomes import ImageFailure
from tagmill.settings import Settings

#: further requests after a broken connection or a busy server, and redirects that are followed
RETRIES, REDIRECTS = 2, 5
_BUSY = (429, 500, 502, 503, 504)


class ImageReader:
    """Reads images, from many threads at once. A worker has read them before: here, one that is not there is left."""

    def __init__(self, settings: Settings, threads: int) -> None:
        self._most = settings.max_image_bytes
        self._timeout = settings.fetch_timeout
        self._headers = {"User-Agent": settings.user_agent.replace("{version}", version("tagmill"))}
        retries = Retry(RETRIES, redirect=REDIRECTS, status_forcelist=_BUSY, backoff_factor=0.5, raise_on_status=False)
        self._pools = PoolManager(16, maxsize=threads, block=True, retries=retries)
        self._pools.pool_classes_by_scheme = pool_classes(partial(may_connect, private=settings.allow_private_hosts))

    def read(self, uri: str, sha256: str) -> bytes:
        """Return the bytes that were tagged. Raise UnreadableError if they cannot be read, or are others by now."""
        if is_local(uri):
            data = self._file(Path(uri))
        elif is_fetched(uri):
            data = self._url(uri)
        elif is_stored(uri):
            data = self._checked(read_stored(uri, self._most, self._timeout))
        else:
            raise UnreadableError(f"images at {scheme_of(uri)}: are not read here")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UnreadableError("changed since it was tagged")
        return data

    def _file(self, path: Path) -> bytes:
        try:
            if not path.is_file():  # a pipe would be waited for
                raise UnreadableError("no file at its path on this machine")
            with path.open("rb") as file:
                return self._checked(file.read(self._most + 1))
        except OSError as error:
            raise UnreadableError(f"not readable on this machine: {error.strerror}") from error

    def _url(self, url: str) -> bytes:
        try:
            login = parse_url(url).auth
            headers = self._headers | make_headers(basic_auth=unquote(login)) if login else self._headers
            timeout = Timeout(total=self._timeout)
            response = self._pools.request("GET", url, headers=headers, timeout=timeout, preload_content=False)
            try:
                if response.status != 200:
                    raise UnreadableError(f"its server answers HTTP {response.status}")
                with cut_after(self._timeout, response.shutdown):
                    return self._checked(response.read(self._most + 1))
            finally:
                response.close()
        except http_errors.TimeoutError as error:
            raise UnreadableError("its server does not answer in time") from error
        except http_errors.HTTPError as error:
            raise UnreadableError("its server cannot be reached") from error
        except ImageFailure as error:
            raise UnreadableError("at an address that is not allowed") from error

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self._most:
            raise UnreadableError(f"larger than {self._most:,} bytes")
        return data
