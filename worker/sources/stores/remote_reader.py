"""What one run may read of other machines: URLs of hosts that may be connected to, and allowed locations of stores."""

from tagmill.locations.redact import shown_uri
from tagmill.locations.schemes import SCHEMES, Kind, is_fetched, is_stored, parse_stored, scheme_of
from tagmill.outcomes import ErrorCode, ImageFailure, printable
from tagmill.stores.allowed import AllowedLocations
from worker.sources.http_source import HttpReader
from worker.sources.stores.file_system_source import FileSystemReader
from worker.sources.stores.object_store_source import ObjectStoreReader
from worker.sources.terms import Terms
from worker.sources.validators import Answer


class RemoteReader:
    """Reads URLs, and locations of object stores and file systems below the allowed prefixes."""

    def __init__(self, http: HttpReader, max_bytes: int, allowed: AllowedLocations) -> None:
        """`http` is the reader that a process shares: hosts and buckets have one pace in it."""
        self.timeout = http.timeout
        self.paces = http.paces
        self._http = http
        self._allowed = allowed
        self._objects = ObjectStoreReader(max_bytes, http.timeout, http.paces)
        self._files = FileSystemReader(max_bytes, http.timeout)

    def get(self, url: str, host: str, deadline: float, terms: Terms) -> Answer | str:
        """Send one request: return the answer, or the URL that the answer redirects to. Raise ImageFailure."""
        if is_fetched(url):
            return self._http.get(url, host, deadline, terms)
        if not is_stored(url):
            detail = f"{(scheme_of(url) or '')[:30]}: is no scheme that is read; read are {', '.join(SCHEMES)}"
            raise ImageFailure(ErrorCode.UNSUPPORTED_LOCATION, detail)
        try:
            location = parse_stored(url)
        except ValueError as error:
            raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, f"{printable(shown_uri(url))}: {error}") from None
        if not self._allowed.allows(location):
            detail = f"{printable(str(location))}: is below none of the allowed prefixes; see TAGMILL_ALLOWED_LOCATIONS"
            raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, detail)
        if not location.is_file:
            raise ImageFailure(ErrorCode.NOT_FOUND, f"{printable(str(location))}: names a folder")
        if SCHEMES[location.scheme] is Kind.OBJECT_STORE:
            return self._objects.get(location, host, terms)
        return self._files.get(location, deadline, terms.traffic)
