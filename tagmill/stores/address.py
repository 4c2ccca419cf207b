"""Where the bundles are: a folder, or a location of an object store or of a file system that fsspec knows."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tagmill.locations.schemes import FETCHED, STORED, StoredLocation, parse_stored, scheme_of, url_scheme

#: a folder of this machine, or a prefix; its key does not end in a slash
StoreAddress = Path | StoredLocation

#: host or first part of the path, of a scheme that images are not read from
_ROOT = re.compile(r"[A-Za-z0-9$._-]+(?::[0-9]{1,5})?")


def parse_address(given: object) -> StoreAddress:
    """Return where a setting says that the bundles are. Raise ValueError, which says what is wrong with it.

    Schemes beyond those that images are read from are for fsspec to know: `memory://`, `abfs://`, `hdfs://`.
    """
    if isinstance(given, (Path, StoredLocation)):
        return given
    if not isinstance(given, str) or not given:
        raise ValueError("must be a folder, or a location such as s3://shop-models/tagmill/")
    scheme = url_scheme(given)
    if scheme is None:
        if scheme_of(given) in STORED:
            raise ValueError(f"must begin with {scheme_of(given)}:// if it is no folder")
        return Path(given)
    if scheme == "file":
        return Path(unquote(urlsplit(given).path))
    if scheme in FETCHED or scheme == "data":
        raise ValueError(f"is {scheme}://, which bundles cannot be written to; name a folder or an object store")
    trimmed = given.rstrip("/") if given.count("/") > 2 else given
    if scheme in STORED:
        return parse_stored(trimmed)
    root, _, key = trimmed.partition("://")[2].partition("/")
    if "@" in root:
        raise ValueError("holds a login; put credentials into the environment instead")
    if not _ROOT.fullmatch(root) or "::" in given:
        raise ValueError(f"names no place of {scheme}://")
    return StoredLocation(scheme, root, key)
