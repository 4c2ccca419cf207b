"""List what is below a prefix of an object store or a file system, in order and in flat memory."""

from collections.abc import Iterator
from typing import Any

from tagmill.errors import ConfigurationError
from tagmill.images.file_names import is_hidden
from tagmill.locations.schemes import SCHEMES, Kind, StoredLocation
from tagmill.stores.file_system import open_file_system, path_of, words_for
from tagmill.stores.object_store import RETRIES, TIMEOUT, StoreFault, explain, open_bucket

#: objects of one answer, as many as stores give
_PAGE = 1000


def list_below(prefix: StoredLocation) -> Iterator[str]:
    """Yield the keys below a prefix, relative to it, sorted. Raise OSError if they cannot be listed.

    Of a hidden folder on a file system its name alone is yielded.
    """
    yield from (_objects if SCHEMES[prefix.scheme] is Kind.OBJECT_STORE else _files)(prefix)


def _objects(prefix: StoredLocation) -> Iterator[str]:
    bucket = open_bucket(prefix.scheme, prefix.root, TIMEOUT, RETRIES)
    import obstore  # after what says that it is missing

    start = len(prefix.key)
    try:
        # Stores answer in the order of the UTF-8 bytes, which is that of the characters.
        for page in obstore.list(bucket, prefix.key.rstrip("/") or None, chunk_size=_PAGE):
            for found in page:
                # What ends in a slash marks a folder; obstore cuts the slash off.
                name = found["path"][start:]
                if name and (found["size"] or "." in name.rpartition("/")[2]):
                    yield name
    except Exception as error:  # obstore raises OSError and ValueError, too
        raise _unlisted(error) from None


def _unlisted(error: Exception) -> OSError:
    from obstore.exceptions import InvalidPathError

    if isinstance(error, InvalidPathError):
        return OSError("holds a key with a part that is empty, `.` or `..`; name a prefix without it")
    fault, said = explain(error)
    if fault is StoreFault.NOT_FOUND:
        return FileNotFoundError(said)
    return OSError(said)


def _files(prefix: StoredLocation) -> Iterator[str]:
    try:
        files = open_file_system(prefix.scheme, prefix.root)
        levels = [_list_folder(files, path_of(prefix).rstrip("/"), "")]
        while levels:
            item = next(levels[-1], None)
            if item is None:
                levels.pop()
            elif item.endswith("/"):
                levels.append(_list_folder(files, path_of(prefix).rstrip("/"), item))
            else:
                yield item
    except ConfigurationError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError("no such folder") from None
    except Exception as error:  # each library has errors of its own
        raise OSError(words_for(error)) from None


def _list_folder(files: Any, root: str, folder: str) -> Iterator[str]:
    """Yield paths relative to `root`, those of folders with a slash at their end."""
    names = []
    for found in files.ls(f"{root}/{folder}".rstrip("/") or "/", detail=True):
        name = found["name"].rstrip("/").rpartition("/")[2]
        names.append(f"{name}/" if found["type"] == "directory" and not is_hidden(name) else name)
    # With the slash, sorting each folder by itself sorts all relative paths.
    names.sort()
    for name in names:
        yield folder + name
