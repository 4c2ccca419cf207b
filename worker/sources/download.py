"""One image on its way from its URL: redirects, further attempts, and how long it waits for its host.

No thread waits inside a download. An attempt that has to wait raises `NotYet`, and the next call of `run` goes on.
"""

import random
import time
from typing import Protocol
from urllib.parse import urlsplit

from tagmill.locations.schemes import is_stored
from tagmill.outcomes import ErrorCode, ImageFailure
from worker.sources.http_failure import BusyFailure, TransientFailure, without_secrets
from worker.sources.pace import Paces
from worker.sources.redirects import MAX_REDIRECTS, with_percents_escaped
from worker.sources.terms import Terms
from worker.sources.validators import Answer

#: further attempts after a 5xx, a 408 or a broken connection
MAX_RETRIES = 2
#: seconds before the first of them; three times as long before the second
BACKOFF = 0.2
#: how often one image is asked for of a host that is too busy
MAX_REFUSALS = 10
#: seconds before an image is asked for again of a host that is too busy and does not say when: doubled each time
BUSY_BACKOFF, LONGEST_BUSY_BACKOFF = 0.5, 8.0
#: seconds after which an image is given up, however the host answers, unless the limits of its run make it wait
LONGEST_WAIT = 3600.0
#: seconds between two looks of a thread that waits for a turn within the limits of a run
TURN_POLL = 0.02
_USUAL_PORTS = frozenset({("http", "80"), ("https", "443")})


class NotYet(Exception):
    """No error: a download has to wait, and is to be run again at `until`."""

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


class Reader(Protocol):
    """What sends the requests of a download."""

    @property
    def timeout(self) -> float:
        """Seconds for one image."""

    @property
    def paces(self) -> Paces:
        """The pace of each host."""

    def get(self, url: str, host: str, deadline: float, terms: Terms) -> Answer | str:
        """Send one request: return the answer, or the URL that the answer redirects to. Raise ImageFailure."""


class NoTurnYet(NotYet):
    """No error: the limits of its run have a download wait, until its host's limiter says that it may begin."""


class Download:
    """One URL to be read. It belongs to one thread at a time.

    `reader.timeout` limits its attempts and the pauses between them, from its first request on. Waiting for a host that
    is too busy, or for its turn in the pace of the host, does not count: see `Paces.hopeless_at`.
    """

    def __init__(self, url: str, reader: Reader, terms: Terms | None = None) -> None:
        # In a location of a store, a percent sign is part of the name.
        self._first = self._url = url if is_stored(url) else with_percents_escaped(url)
        self._reader = reader
        self._terms = terms or Terms()
        self._left = reader.timeout
        self._hops = self._retries = self._refusals = 0
        #: when it began to wait for a host that refuses
        self._since = self._began = time.monotonic()
        self._refusal: BusyFailure | None = None
        #: the host of the next request
        self.host = _host_of(self._url)
        #: what its host may be asked
        self.limits = self._terms.limits
        #: whether the turn of the next request was taken
        self.has_turn = False

    def hopeless_at(self) -> float:
        """Return when it is to be given up, if its host goes on as it does."""
        tried = self._refusal is not None
        hopeless = self._reader.paces.hopeless_at(self.host, self._since, self._reader.timeout, tried=tried)
        return hopeless if self.limits else min(hopeless, self._began + LONGEST_WAIT)

    def read(self) -> Answer:
        """Return the answer, and wait in this thread where it has to. Raise ImageFailure."""
        latest = self._began + self._reader.timeout
        while True:
            try:
                return self.run()
            except NoTurnYet:
                latest += self._wait_for_turn()
            except NotYet as wait:
                if wait.until > latest:
                    raise self._given_up() from None
                time.sleep(max(0.0, wait.until - time.monotonic()))

    def run(self) -> Answer:
        """Return the answer. Raise ImageFailure, or NotYet if the download is to be run again later."""
        started = time.monotonic()
        deadline = started + self._left
        try:
            return self._follow(deadline)
        except TransientFailure as failure:
            raise self._again(failure, started) from None
        finally:
            self._left -= time.monotonic() - started

    def _follow(self, deadline: float) -> Answer:
        while True:
            self._take_turn()
            answer = self._get(deadline)
            if isinstance(answer, Answer):
                return answer.without_date() if self._hops else answer
            self._hops += 1
            if self._hops > MAX_REDIRECTS:
                detail = f"{without_secrets(self._first)}: more than {MAX_REDIRECTS} redirects"
                raise ImageFailure(ErrorCode.FETCH_FAILED, detail)
            self._go_to(answer)

    def _get(self, deadline: float) -> Answer | str:
        terms = self._terms.without_date() if self._hops else self._terms
        try:
            return self._reader.get(self._url, self.host, deadline, terms)
        finally:
            if self.limits:
                self._reader.paces.limiter.end(self.host, self.limits)

    def take_turn(self, now: float, *, ahead: bool = False) -> bool:
        """Take the turn of the next request, `ahead` of others that wait. Return False if it may not begin now."""
        paces, limits = self._reader.paces, self.limits
        if paces.turn_at(self.host) > now or (limits and not paces.limiter.begin(self.host, limits, now, ahead=ahead)):
            return False
        self.has_turn = paces.take_turn(self.host, now)
        if limits and not self.has_turn:
            paces.limiter.end(self.host, limits)
        return self.has_turn

    def _wait_for_turn(self) -> float:
        """Wait in this thread, which others may wait for, until the next request may begin; return the seconds."""
        assert self.limits is not None, "without limits there is no such turn"
        started = time.monotonic()
        with self._reader.paces.limiter.ahead(self.host, self.limits):
            while not self.take_turn(time.monotonic(), ahead=True):
                time.sleep(TURN_POLL)
        return time.monotonic() - started

    def _take_turn(self) -> None:
        now = time.monotonic()
        if not self.has_turn and not self.take_turn(now):
            turn = self._reader.paces.turn_at(self.host)
            if max(turn, now) >= self.hopeless_at():
                raise self._given_up()
            raise NotYet(turn) if turn > now else NoTurnYet(now)
        self.has_turn = False
        if not self._reader.paces.is_refusing(self.host):
            self._since = now

    def _go_to(self, url: str) -> None:
        self._url, self.host = url, _host_of(url)

    def _again(self, failure: TransientFailure, started: float) -> Exception:
        """Return NotYet for a failure after which another attempt is made; otherwise the failure."""
        now = time.monotonic()
        if isinstance(failure, BusyFailure):
            self._refusal = failure
            self._refusals += 1
            backoff = min(BUSY_BACKOFF * 2 ** (self._refusals - 1), LONGEST_BUSY_BACKOFF)
            until = now + max(failure.retry_after or backoff * random.uniform(0.75, 1.25), 0.01)
            if self._refusals >= MAX_REFUSALS or until >= self.hopeless_at():
                return self._given_up()
            return NotYet(until)
        # With jitter: otherwise all threads of a batch would retry an overloaded server at the same time.
        pause = max(BACKOFF * 3**self._retries * random.uniform(0.75, 1.25), failure.retry_after or 0.0)
        left = self._left - (now - started) - pause
        if self._retries == MAX_RETRIES or left <= 0:
            return failure
        self._retries += 1
        self._left -= pause
        self._hops = 0
        self._go_to(self._first)
        return NotYet(now + pause)

    def _given_up(self) -> ImageFailure:
        """Return the failure of an image whose host is too busy for it."""
        if self._refusal is None:
            waited = f"no turn in {time.monotonic() - self._began:.0f} s; its host answers HTTP 429 or 503"
            return ImageFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(self._url)}: {waited}")
        wait = self._refusal.retry_after
        asked = "" if wait is None else f", Retry-After {wait:g} s"
        times = "" if self._refusals == 1 else f", {self._refusals} times"
        return ImageFailure(ErrorCode.FETCH_FAILED, f"{self._refusal.detail}{asked}{times}")


def _host_of(url: str) -> str:
    """Return the host of a URL, with its port if it is a special one, or the bucket with its scheme.

    What has one name shares a pace and limits.
    """
    if is_stored(url):
        scheme, _, rest = url.partition("://")
        return f"{scheme.lower()}://{rest.partition('/')[0]}"
    try:
        parts = urlsplit(url)
        host, colon, port = parts.netloc.rpartition("@")[2].lower().rpartition(":")
        return host if (parts.scheme, port) in _USUAL_PORTS else f"{host}{colon}{port}"
    except ValueError:
        return ""
