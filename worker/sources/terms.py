"""On which terms a location is asked for: what is known of its bytes, who counts the requests, and what limits them."""

import threading
from dataclasses import dataclass, field, replace

from tagmill.fetch_options import HostLimits
from worker.sources.validators import Validators


@dataclass
class Traffic:
    """The requests of one batch, counted by all threads that send them."""

    #: redirects and further attempts included
    requests: int = 0
    #: answers that the bytes are those that were known
    not_modified: int = 0
    #: bytes of bodies as they came
    bytes_fetched: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, requests: int = 0, not_modified: int = 0, bytes_fetched: int = 0) -> None:
        """Count requests and what came of them."""
        with self._lock:
            self.requests += requests
            self.not_modified += not_modified
            self.bytes_fetched += bytes_fetched


@dataclass(frozen=True)
class Terms:
    """How one location is asked for."""

    #: the bytes are wanted only if they do not have these
    known: Validators = field(default_factory=Validators)
    traffic: Traffic = field(default_factory=Traffic)
    #: what its host may be asked
    limits: HostLimits | None = None

    def without_date(self) -> "Terms":
        """Return the terms of a request after a redirect: only an ETag tells two files of the same time apart."""
        return replace(self, known=self.known.without_date())
