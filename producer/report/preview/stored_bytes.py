"""Read images from object stores and from file systems of other machines."""

from producer.report.preview.unreadable import UnreadableError
from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import SCHEMES, Kind, StoredLocation, parse_stored
from tagmill.stores.file_system import forget_file_system, open_file_system, path_of, words_for
from tagmill.stores.object_store import explain, open_bucket

#: further requests for an object
RETRIES = 2
_CHUNK_BYTES = 2**20


def read_stored(uri: str, most: int, timeout: float) -> bytes:
    """Return the bytes at a location, at most one more than `most`. Raise UnreadableError.

    Whether the location is allowed was checked by the worker that tagged it.
    """
    try:
        location = parse_stored(uri)
        if SCHEMES[location.scheme] is Kind.OBJECT_STORE:
            return _object(location, most, timeout)
        return _file(location, most)
    except ConfigurationError as error:
        raise UnreadableError(str(error)) from error
    except ValueError as error:
        raise UnreadableError(f"its location {error}") from error


def _object(location: StoredLocation, most: int, timeout: float) -> bytes:
    bucket = open_bucket(location.scheme, location.root, timeout, RETRIES)
    import obstore  # after `open_bucket`, which says how to install it

    data = bytearray()
    try:
        for chunk in obstore.get(bucket, location.key).stream(min_chunk_size=_CHUNK_BYTES):
            data += chunk
            if len(data) > most:
                break
    except Exception as error:  # obstore raises OSError and ValueError, too
        raise UnreadableError(explain(error)[1]) from None
    return bytes(data)


def _file(location: StoredLocation, most: int) -> bytes:
    try:
        with open_file_system(location.scheme, location.root).open(path_of(location), "rb") as file:
            return bytes(file.read(most + 1))
    except ConfigurationError:
        raise
    except Exception as error:  # each library has errors of its own
        forget_file_system(location.scheme, location.root)
        raise UnreadableError(words_for(error)) from None
