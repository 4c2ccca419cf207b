"""Fetch images over HTTP: one request after another, within a deadline and a size limit."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3 import exceptions as http_errors
from urllib3.util import parse_url

from tagmill.http.checked_connection import cut_after, pool_classes
from tagmill.http.public_address import may_connect
from tagmill.images.formats.signatures import media_types
from tagmill.locations.private_hosts import PrivateHosts
from tagmill.locations.schemes import FETCHED
from tagmill.outcomes import ErrorCode, ImageFailure
from worker.sources.content_coding import TooManyBytesError, UnreadableBodyError, unpack
from worker.sources.http_failure import BusyFailure, TransientFailure, explain, without_secrets
from worker.sources.limits.limiter import HostLimiter
from worker.sources.pace import Paces
from worker.sources.redirects import REDIRECTS, redirected
from worker.sources.retry_after import seconds_to_wait
from worker.sources.terms import Terms, Traffic
from worker.sources.validators import Answer, Validators

_CHUNK_BYTES = 64 * 2**10
_GONE = {404, 410}
#: Request Timeout and Too Early ask for another attempt, as 5xx do; Too Many Requests and Service Unavailable for fewer
_TRY_AGAIN = {408, 425}
_TOO_MANY, _UNAVAILABLE = 429, 503
_NOT_MODIFIED = 304

#: the formats that are read, and nothing else, so that a server that may choose sends none of the others
_ACCEPT = ", ".join(f"{kind};q={1 - place / 10:g}" if place else kind for place, kind in enumerate(media_types()))


class HttpReader:
    """Sends requests through pooled connections, without proxies, cookies or netrc. One instance serves all threads."""

    def __init__(
        self,
        max_bytes: int,
        timeout: float,
        connections: int,
        private: PrivateHosts,
        user_agent: str,
        limiter: HostLimiter | None = None,
    ) -> None:
        """`timeout` is in messages only. `connections` is how many may be open to one host."""
        self.timeout = timeout
        self.paces = Paces(limiter)
        self._max_bytes = max_bytes
        # Images are compressed already.
        self._headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        self._headers["User-Agent"] = user_agent.replace("{version}", version("tagmill"))
        self._pools = PoolManager(num_pools=32, maxsize=connections, block=True)
        self._pools.pool_classes_by_scheme = pool_classes(partial(may_connect, private=private))

    def get(self, url: str, host: str, deadline: float, terms: Terms) -> Answer | str:
        """Send one request: return the answer, or the URL that it redirects to.

        Raise ImageFailure; its detail contains neither the login nor the query of the URL. The deadline covers
        everything except resolving a host name, which has the resolver's own timeouts.
        """
        sent = time.monotonic()
        terms.traffic.add(requests=1)
        response = self._request(url, deadline, terms.known)
        complete = False
        try:
            self._check_pace(response, url, host, sent)
            locations = response.headers.getlist("Location") if response.status in REDIRECTS else []
            if any(locations):
                return _followed(url, locations)
            if response.status == _NOT_MODIFIED and terms.known:
                terms.traffic.add(not_modified=1)
                complete = not _announces_body(response)
                return Answer(None)
            body = self._body(response, url, deadline, terms.traffic)
            complete = True
            return Answer(body, Validators.of_answer(response.headers))
        finally:
            if not complete:
                response.close()
            response.release_conn()

    def _request(self, url: str, deadline: float, known: Validators) -> BaseHTTPResponse:
        with self._translated(url, deadline):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise http_errors.TimeoutError
            headers = self._headers | known.conditions()
            if login := parse_url(url).auth:
                authorization = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
                headers["Authorization"] = authorization
            return self._pools.urlopen(
                "GET",
                url,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=Timeout(total=remaining),
                pool_timeout=remaining,
                preload_content=False,
                decode_content=False,
            )

    def _check_pace(self, response: BaseHTTPResponse, url: str, host: str, sent: float) -> None:
        """Note the answer in the pace of the host. Raise BusyFailure or TransientFailure if it asks for another try."""
        status, now = response.status, time.monotonic()
        if status not in _TRY_AGAIN and status != _TOO_MANY and status < 500:
            self.paces.answered(host, now)
            return
        wait = seconds_to_wait(response.headers.get("Retry-After"), response.headers.get("Date"))
        if status in {_TOO_MANY, _UNAVAILABLE}:
            certain = status == _TOO_MANY or wait is not None
            if self.paces.refused(host, sent, now, wait, certain=certain):
                raise BusyFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(url)}: HTTP {status}", wait)
        raise TransientFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(url)}: HTTP {status}", wait)

    def _body(self, response: BaseHTTPResponse, url: str, deadline: float, traffic: Traffic) -> bytes:
        location = without_secrets(url)
        if response.status in _GONE:
            raise ImageFailure(ErrorCode.NOT_FOUND, f"{location}: HTTP {response.status}")
        if response.status != 200:
            raise ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: HTTP {response.status}")
        too_many = ImageFailure(ErrorCode.TOO_MANY_BYTES, f"{location}: is larger than {self._max_bytes} bytes")
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:19]) > self._max_bytes:
            raise too_many
        chunks: list[bytes] = []
        size = 0
        with self._translated(url, deadline), cut_after(deadline - time.monotonic(), response.shutdown):
            # Not `stream`: it accepts a chunk-size line of any length.
            while chunk := response.read(min(_CHUNK_BYTES, self._max_bytes + 1)):
                size += len(chunk)
                traffic.add(bytes_fetched=len(chunk))
                if size > self._max_bytes:
                    raise too_many
                chunks.append(chunk)
            if time.monotonic() >= deadline:  # a cut-off body without a length looks complete
                raise http_errors.TimeoutError
        body = b"".join(chunks)
        if "Content-Encoding" not in response.headers:
            return body
        try:
            return unpack(body, response.headers["Content-Encoding"], self._max_bytes)
        except TooManyBytesError:
            raise too_many from None
        except UnreadableBodyError as error:
            raise ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: {error}") from None

    @contextmanager
    def _translated(self, url: str, deadline: float) -> Iterator[None]:
        """Raise urllib3's errors as ImageFailure, not chained: their messages contain the URL with its login."""
        try:
            yield
        except http_errors.HTTPError as error:
            late = time.monotonic() >= deadline
            failure = explain(http_errors.TimeoutError() if late else error, url, self.timeout)
        else:
            return
        raise failure from None


def _announces_body(response: BaseHTTPResponse) -> bool:
    """Return whether a body may follow an answer that has none: it must not be read as the next answer."""
    return "Transfer-Encoding" in response.headers or response.headers.get("Content-Length", "0") != "0"


def _followed(url: str, locations: list[str]) -> str:
    try:
        if len({*locations}) > 1:
            raise ValueError("which of them?")
        target = redirected(url, locations[0])
        scheme = urlsplit(target).scheme
    except ValueError:
        raise ImageFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(url)}: redirects to no valid URL") from None
    if scheme not in FETCHED:
        detail = f"{without_secrets(url)}: redirects to {scheme[:30]!a}, not http or https"
        raise ImageFailure(ErrorCode.UNSUPPORTED_LOCATION, detail)
    return target
