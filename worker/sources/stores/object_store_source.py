"""Fetch images from object stores: S3, Google Cloud Storage and Azure."""

import time
from typing import TYPE_CHECKING

from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import StoredLocation
from tagmill.outcomes import ErrorCode, ImageFailure, printable
from tagmill.stores.object_store import StoreFault, explain, open_bucket
from worker.sources.content_coding import TooManyBytesError, UnreadableBodyError, unpack
from worker.sources.http_failure import BusyFailure, TransientFailure
from worker.sources.pace import Paces
from worker.sources.terms import Terms
from worker.sources.validators import Answer, Validators

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_CODES = {
    StoreFault.NOT_FOUND: ErrorCode.NOT_FOUND,
    StoreFault.TIMED_OUT: ErrorCode.FETCH_TIMEOUT,
}


class ObjectStoreReader:
    """Sends requests through the connections of one store per bucket. One instance serves all threads."""

    def __init__(self, max_bytes: int, timeout: float, paces: Paces) -> None:
        """`timeout` is in seconds for one request. Buckets are paced like hosts."""
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._paces = paces

    def get(self, location: StoredLocation, host: str, terms: Terms) -> Answer:
        """Send one request: return the bytes with their ETag, or no bytes if it is still the known one.

        Raise ImageFailure. `host` names the pace of the bucket.
        """
        terms.traffic.add(requests=1)
        known = terms.known.etag
        options: GetOptions = {"if_none_match": known} if known else {}
        sent = time.monotonic()
        try:
            found, data = self._request(location, options)
        except ImageFailure:
            raise
        except Exception as error:  # obstore raises OSError and ValueError, too
            fault, said = explain(error)
            if fault is StoreFault.NOT_MODIFIED:
                self._paces.answered(host, time.monotonic())
                terms.traffic.add(not_modified=1)
                return Answer(None)
            raise self._failure(fault, f"{printable(str(location))}: {said}", host, sent) from None
        self._paces.answered(host, time.monotonic())
        terms.traffic.add(bytes_fetched=len(data))
        return Answer(self._unpacked(data, found, location), Validators(found.meta["e_tag"]))

    def _request(self, location: StoredLocation, options: "GetOptions") -> "tuple[GetResult, bytes]":
        """Send one request. Raise what obstore raises, or ImageFailure before it reads more than is allowed."""
        import obstore

        try:
            bucket = open_bucket(location.scheme, location.root, self._timeout)
        except ConfigurationError as error:
            raise ImageFailure(ErrorCode.FETCH_FAILED, str(error)) from None
        found = obstore.get(bucket, location.key, options=options)
        # What the answer declares is what is read: obstore refuses an answer without a length.
        if found.meta["size"] > self._max_bytes:
            raise ImageFailure(ErrorCode.TOO_MANY_BYTES, f"{printable(str(location))}: {self._too_many()}")
        return found, bytes(found.bytes())

    def _unpacked(self, data: bytes, found: "GetResult", location: StoredLocation) -> bytes:
        coding = found.attributes.get("Content-Encoding")
        if not coding:
            return data
        try:
            return unpack(data, coding, self._max_bytes)
        except TooManyBytesError:
            detail = f"{printable(str(location))}: {self._too_many()}"
            raise ImageFailure(ErrorCode.TOO_MANY_BYTES, detail) from None
        except UnreadableBodyError as error:
            raise ImageFailure(ErrorCode.FETCH_FAILED, f"{printable(str(location))}: {error}") from None

    def _too_many(self) -> str:
        return f"is larger than {self._max_bytes} bytes"

    def _failure(self, fault: StoreFault, detail: str, host: str, sent: float) -> ImageFailure:
        """Return the failure of a request, and note in the pace of the bucket what it means."""
        now = time.monotonic()
        if fault is StoreFault.BUSY:
            self._paces.refused(host, sent, now, None, certain=True)
            return BusyFailure(ErrorCode.FETCH_FAILED, detail)
        if fault is StoreFault.TRANSIENT:
            return TransientFailure(ErrorCode.FETCH_FAILED, detail)
        if fault is not StoreFault.TIMED_OUT:
            self._paces.answered(host, now)
        return ImageFailure(_CODES.get(fault, ErrorCode.FETCH_FAILED), detail)
