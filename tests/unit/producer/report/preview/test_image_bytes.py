"""The bytes of an image are read again, and only those that were tagged."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http_site import Site, reply

from producer.report.preview.image_bytes import ImageReader
from producer.report.preview.unreadable import UnreadableError
from tagmill.locations.private_hosts import PrivateHosts
from tagmill.settings import Settings

DATA = b"some bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()


def reader(**settings: object) -> ImageReader:
    return ImageReader(Settings(**settings), 2)  # type: ignore[arg-type]


def test_a_file_is_read_if_its_bytes_are_those_that_were_tagged(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(DATA)
    assert reader().read(str(path), SHA256) == DATA
    path.write_bytes(b"others")
    with pytest.raises(UnreadableError, match="changed since it was tagged"):
        reader().read(str(path), SHA256)


def test_what_cannot_be_read_is_said_in_a_few_words(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(DATA)
    for uri, said in {
        f"{tmp_path}/none": "no file at its path",
        f"{tmp_path}/pipe": "no file at its path",
        f"{tmp_path}/large": "larger than 5 bytes",
        "gopher://shop/a.jpg": "images at gopher: are not read here",
    }.items():
        with pytest.raises(UnreadableError, match=said):
            reader(max_image_bytes=5).read(uri, SHA256)


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


def test_a_url_is_read_through_redirects_and_with_its_login(site: Site) -> None:
    site.replies = {"/a": reply(302, Location="/b"), "/b": reply(200, DATA), "/gone": reply(404)}
    allowed = reader(allow_private_hosts=PrivateHosts.parse("true"))
    assert allowed.read(f"{site.url.replace('//', '//me:p%40ss@')}/a?sig=1", SHA256) == DATA
    assert {request.headers["Authorization"] for request in site.requests} == {"Basic bWU6cEBzcw=="}
    with pytest.raises(UnreadableError, match="its server answers HTTP 404"):
        allowed.read(f"{site.url}/gone", SHA256)


def test_a_host_that_is_not_public_is_not_connected_to(site: Site) -> None:
    with pytest.raises(UnreadableError, match="at an address that is not allowed"):
        reader().read(f"{site.url}/a", SHA256)
    assert site.connections == 0
