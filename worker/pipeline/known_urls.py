"""Recognize URLs whose bytes were hashed before: their servers are asked whether they have changed.

The validators of the answer that was hashed (`ETag`, `Last-Modified`) go with the request, and the server sends the
bytes only if they are not those. A presigned URL is known again without its signature; then its ETag alone counts.
"""

import hashlib
from collections.abc import Callable, Iterable

from tagmill.locations.presigned import without_signature
from tagmill.locations.schemes import FETCHED, scheme_of
from tagmill.records import SeenUrl
from worker.pipeline.batch_image import BatchImage
from worker.sources.validators import Validators

#: returns the URLs that were hashed before, by the hashes of their locations, each with whether it lacks no result
KnownUrls = Callable[[Iterable[str]], Iterable[tuple[SeenUrl, bool]]]


def recall_urls(images: list[BatchImage], known_urls: KnownUrls, *, refetch: bool = False) -> list[BatchImage]:
    """Set what is known of each URL, and what its server is told of it if every model has a result.

    With `refetch`, its server is told nothing.
    """
    remote = {image: _identity(image.uri) for image in images if not image.local}
    found = {seen.location: (seen, complete) for seen, complete in known_urls({*remote.values()})}
    for image, identity in remote.items():
        image.identity = identity
        if identity in found:
            image.seen, complete = found[identity]
            if complete and not refetch:
                image.known = Validators(image.seen.etag, image.seen.last_modified)
    return images


def remember_urls(images: list[BatchImage]) -> list[BatchImage]:
    """Mark the URLs to remember: those whose server says what it recognizes the bytes by, unless that was known."""
    for image in images:
        if image.local or image.unchanged or image.identity is None or image.sha256 is None:
            continue
        if _location(image.uri) != image.uri:  # its other parameters may choose the image: a date says too little
            image.validators = image.validators.without_date()
        now = SeenUrl(image.identity, image.sha256, image.validators.etag, image.validators.last_modified)
        image.remember = bool(image.validators) and now != image.seen
    return images


def _identity(uri: str) -> str:
    """Return a hash of 32 hexadecimal digits of what stays the same of a URL."""
    return hashlib.sha256(_location(uri).encode()).hexdigest()[:32]


def _location(uri: str) -> str:
    """Return what stays the same of a URL. The key of an object store is literal: nothing in it is a signature."""
    return without_signature(uri) if scheme_of(uri) in FETCHED else uri
