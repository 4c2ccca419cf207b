"""Locations that are not trusted: what is read, what is refused, and how long it may take."""

import gzip
import os
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from pathlib import Path

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.http_site import Reply, Site, in_turn, raw, reply

from tagmill.locations.private_hosts import PrivateHosts
from tagmill.outcomes import ErrorCode, ImageFailure
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.http_failure import without_secrets

LIMITS = FetchLimits(max_bytes=100_000, timeout=60.0, allow_private_hosts=True)
HURRY = FetchLimits(max_bytes=100_000, timeout=0.4, allow_private_hosts=True)


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


def failure_of(fetcher: Fetcher, uri: str) -> ImageFailure:
    with pytest.raises(ImageFailure) as caught:
        fetcher.fetch(uri)
    return caught.value


def code_of(fetcher: Fetcher, uri: str | Path) -> ErrorCode:
    return failure_of(fetcher, str(uri)).code


@pytest.fixture
def web() -> Fetcher:
    return Fetcher([], LIMITS)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with one image beside a folder with a secret."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"picture")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.jpg").write_bytes(b"secret")
    return folder


@pytest.fixture
def disk(shop: Path) -> Fetcher:
    return Fetcher([shop], LIMITS)


# Files


def test_a_file_below_a_root_is_read(disk: Fetcher, shop: Path) -> None:
    assert disk.fetch(str(shop / "a.jpg")).data == b"picture"
    assert disk.fetch(f"{shop}//./../shop/a.jpg").data == b"picture"


def test_an_empty_file_is_read_as_no_bytes(disk: Fetcher, shop: Path) -> None:
    (shop / "empty.jpg").touch()
    assert disk.fetch(str(shop / "empty.jpg")).data == b""


def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not(disk: Fetcher, shop: Path) -> None:
    (shop / "fits.jpg").write_bytes(b"x" * LIMITS.max_bytes)
    (shop / "over.jpg").write_bytes(b"x" * (LIMITS.max_bytes + 1))
    assert len(disk.fetch(str(shop / "fits.jpg")).data) == LIMITS.max_bytes
    assert code_of(disk, shop / "over.jpg") == ErrorCode.TOO_MANY_BYTES


def test_a_huge_file_is_refused_before_it_is_read(disk: Fetcher, shop: Path) -> None:
    with (shop / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    started = time.monotonic()
    assert code_of(disk, shop / "huge.jpg") == ErrorCode.TOO_MANY_BYTES
    assert time.monotonic() - started < 60


def test_a_file_that_claims_no_size_is_bounded_while_it_is_read() -> None:
    # Files below /proc claim to have 0 bytes.
    assert code_of(Fetcher([Path("/proc")], FetchLimits(10, 60.0)), "/proc/self/status") == ErrorCode.TOO_MANY_BYTES


def test_a_file_may_be_a_root_itself(shop: Path) -> None:
    (shop / "b.jpg").write_bytes(b"other")
    fetcher = Fetcher([shop / "a.jpg"], LIMITS)
    assert fetcher.fetch(str(shop / "a.jpg")).data == b"picture"
    assert code_of(fetcher, shop / "b.jpg") == ErrorCode.FORBIDDEN_LOCATION


def test_the_root_of_the_file_system_allows_every_file(shop: Path) -> None:
    assert Fetcher([Path("/")], LIMITS).fetch(str(shop / "a.jpg")).data == b"picture"


def test_without_roots_no_file_is_allowed(shop: Path) -> None:
    assert code_of(Fetcher([], LIMITS), shop / "a.jpg") == ErrorCode.FORBIDDEN_LOCATION


@pytest.mark.parametrize(
    "path", ["{shop}/../secret/key.jpg", "{shop}/sub/../../secret/key.jpg", "/etc/passwd", "{shop}2/a.jpg"]
)
def test_a_path_that_leaves_the_roots_is_forbidden(disk: Fetcher, shop: Path, path: str) -> None:
    assert code_of(disk, path.format(shop=shop)) == ErrorCode.FORBIDDEN_LOCATION


def test_errors_do_not_reveal_which_files_exist_outside_the_roots(disk: Fetcher, shop: Path) -> None:
    there, not_there = (failure_of(disk, f"{shop.parent}/secret/{name}.jpg") for name in ("key", "nothing"))
    assert there.code == not_there.code == ErrorCode.FORBIDDEN_LOCATION


def test_a_link_that_leads_out_of_the_roots_is_forbidden(disk: Fetcher, shop: Path) -> None:
    (shop / "link.jpg").symlink_to(shop.parent / "secret" / "key.jpg")
    (shop / "folder").symlink_to(shop.parent / "secret")
    assert code_of(disk, shop / "link.jpg") == ErrorCode.FORBIDDEN_LOCATION
    assert code_of(disk, shop / "folder" / "key.jpg") == ErrorCode.FORBIDDEN_LOCATION


def test_a_link_inside_the_roots_and_a_root_behind_a_link_are_followed(disk: Fetcher, shop: Path) -> None:
    (shop / "link.jpg").symlink_to("a.jpg")
    (shop.parent / "current").symlink_to(shop)
    assert disk.fetch(str(shop / "link.jpg")).data == b"picture"
    assert Fetcher([shop.parent / "current"], LIMITS).fetch(str(shop.parent / "current" / "a.jpg")).data == b"picture"


def test_a_folder_that_becomes_a_link_after_the_check_does_not_reveal_the_secret(
    disk: Fetcher, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "new").mkdir()
    (shop / "new" / "key.jpg").write_bytes(b"public")
    resolve: Callable[[str], str] = os.path.realpath

    def resolve_and_lose_the_race(path: str) -> str:
        found = resolve(path)
        monkeypatch.undo()
        (shop / "new").rename(shop / "old")
        (shop / "new").symlink_to(shop.parent / "secret")
        return found

    monkeypatch.setattr(os.path, "realpath", resolve_and_lose_the_race)
    assert code_of(disk, shop / "new" / "key.jpg") == ErrorCode.FORBIDDEN_LOCATION


def test_a_loop_of_links_is_forbidden(disk: Fetcher, shop: Path) -> None:
    (shop / "loop.jpg").symlink_to("loop.jpg")
    assert code_of(disk, shop / "loop.jpg") == ErrorCode.FORBIDDEN_LOCATION


def test_a_fifo_without_a_writer_is_forbidden_at_once(disk: Fetcher, shop: Path) -> None:
    os.mkfifo(shop / "fifo.jpg")
    assert code_of(disk, shop / "fifo.jpg") == ErrorCode.FORBIDDEN_LOCATION  # or it waits for ever


def test_a_socket_and_a_device_are_forbidden(disk: Fetcher, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)  # the path of a socket may have at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        assert code_of(disk, shop / "socket.jpg") == ErrorCode.FORBIDDEN_LOCATION
    assert code_of(Fetcher([Path("/dev")], LIMITS), "/dev/zero") == ErrorCode.FORBIDDEN_LOCATION


def test_a_folder_is_not_an_image(disk: Fetcher, shop: Path) -> None:
    assert code_of(disk, shop) == ErrorCode.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "name", ["nothing.jpg", "a.jpg/b.jpg", "n" * 300, "nul\0.jpg", "\ud800.jpg", os.fsdecode(b"\xff.jpg")]
)
def test_a_missing_file_is_not_found(disk: Fetcher, shop: Path, name: str) -> None:
    failure = failure_of(disk, f"{shop}/{name}")
    assert failure.code == ErrorCode.NOT_FOUND
    assert "\0" not in failure.detail
    failure.detail.encode()


def test_a_file_that_may_not_be_read_is_a_failed_fetch(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        (tmp_path / "a.jpg").write_bytes(b"picture")
        (tmp_path / "a.jpg").chmod(0)
        failure = failure_of(Fetcher([tmp_path], LIMITS), str(tmp_path / "a.jpg"))
        reason = "Permission denied"
    else:  # root may read everything except what the kernel cannot read
        failure = failure_of(Fetcher([Path("/proc")], LIMITS), "/proc/self/mem")
        reason = "Input/output error"
    assert failure.code == ErrorCode.FETCH_FAILED
    assert reason in failure.detail


@pytest.mark.parametrize("uri", ["a.jpg", "../a.jpg", "", "./a.jpg", "~/a.jpg", "?", "\0"])
def test_a_relative_path_is_forbidden_with_advice(disk: Fetcher, uri: str) -> None:
    failure = failure_of(disk, uri)
    assert failure.code == ErrorCode.FORBIDDEN_LOCATION
    assert "producers write absolute ones" in failure.detail


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "gopher://h/a.jpg", "data:image/png;base64,AA", "s3:b", "C:\\a"])
def test_another_scheme_is_unsupported(disk: Fetcher, uri: str) -> None:
    assert code_of(disk, uri) == ErrorCode.UNSUPPORTED_LOCATION


# HTTP


def test_a_url_is_read_without_requesting_compression(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=b"picture")
    assert web.fetch(f"{site.url}/a.jpg?w=1#top").data == b"picture"
    assert site.requests[0].path == "/a.jpg?w=1"
    assert site.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_request_names_what_is_read_and_who_asks(site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=b"picture")
    contact = "shop-tagger/1.0 (+mailto:ops@shop.example)"
    for agent in ("tagmill/{version}", contact):
        Fetcher([], FetchLimits(1000, 60.0, True, user_agent=agent)).fetch(f"{site.url}/a.jpg")
    accept = (
        "image/jpeg, image/png;q=0.9, image/webp;q=0.8, image/gif;q=0.7, image/bmp;q=0.6, image/tiff;q=0.5, "
        "image/avif;q=0.4, image/heic;q=0.3, image/heif;q=0.2"
    )
    assert [request.headers["Accept"] for request in site.requests] == [accept] * 2
    assert [request.headers["User-Agent"] for request in site.requests] == [f"tagmill/{version('tagmill')}", contact]


@pytest.mark.parametrize("status", [100, 102, 103, 104, 199])
def test_interim_answers_are_passed_over(web: Fetcher, site: Site, status: int) -> None:
    interim = f"HTTP/1.1 {status} Wait\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture"
    site.replies["/a.jpg"] = raw(interim * 3, final)
    assert web.fetch(f"{site.url}/a.jpg").data == b"picture"


def test_endless_interim_answers_end(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40)
    assert code_of(web, f"{site.url}/a.jpg") == ErrorCode.FETCH_FAILED
    site.replies["/b.jpg"] = raw(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 20, pause=0.1)
    assert code_of(Fetcher([], HURRY), f"{site.url}/b.jpg") == ErrorCode.FETCH_TIMEOUT


def test_switching_protocols_is_a_failed_fetch(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
    failure = failure_of(web, f"{site.url}/a.jpg")
    assert (failure.code, failure.detail) == (ErrorCode.FETCH_FAILED, f"{site.url}/a.jpg: HTTP 101")


def test_a_chunked_body_and_a_body_that_ends_with_the_connection_are_read(web: Fetcher, site: Site) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    site.replies["/chunks"] = raw(head, b"Transfer-Encoding: chunked\r\n\r\n4\r\npict\r\n3\r\nure\r\n0\r\n\r\n")
    site.replies["/close"] = raw(head, b"Connection: close\r\n\r\npicture")
    assert web.fetch(f"{site.url}/chunks").data == web.fetch(f"{site.url}/close").data == b"picture"


def test_one_connection_serves_many_images(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=b"picture" * 1000)
    for _ in range(20):
        web.fetch(f"{site.url}/a.jpg")
    assert site.connections == 1


def test_threads_share_a_bounded_number_of_connections(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=b"picture")
    site.replies["/gone.jpg"] = reply(404)
    results: list[object] = []

    def work() -> None:
        for _ in range(5):
            results.append(web.fetch(f"{site.url}/a.jpg").data)
            results.append(code_of(web, f"{site.url}/gone.jpg"))

    threads = [threading.Thread(target=work) for _ in range(2 * LIMITS.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(b"picture") == results.count(ErrorCode.NOT_FOUND) == 5 * len(threads)


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_url_is_not_found_and_not_retried(web: Fetcher, site: Site, status: int) -> None:
    site.replies["/a.jpg"] = reply(status, b"sorry")
    assert code_of(web, f"{site.url}/a.jpg") == ErrorCode.NOT_FOUND
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403])
def test_another_status_is_a_failed_fetch_that_names_it(web: Fetcher, site: Site, status: int) -> None:
    site.replies["/a.jpg"] = raw(f"HTTP/1.1 {status} Hm\r\nContent-Length: 0\r\n\r\n".encode())
    failure = failure_of(web, f"{site.url}/a.jpg")
    assert (failure.code, len(site.requests)) == (ErrorCode.FETCH_FAILED, 1)
    assert failure.detail == f"{site.url}/a.jpg: HTTP {status}"


def test_a_server_error_is_retried(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = in_turn(reply(500), raw(b""), reply(body=b"picture"))
    assert web.fetch(f"{site.url}/a.jpg").data == b"picture"


def test_a_persistent_server_error_is_a_failed_fetch_after_three_requests(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(503)
    failure = failure_of(web, f"{site.url}/a.jpg")
    assert (failure.code, len(site.requests)) == (ErrorCode.FETCH_FAILED, 3)
    assert "HTTP 503" in failure.detail


def test_a_retry_does_not_wait_beyond_the_timeout(site: Site) -> None:
    site.replies["/a.jpg"] = reply(500, Retry_After="61")
    started = time.monotonic()
    assert code_of(Fetcher([], LIMITS), f"{site.url}/a.jpg") == ErrorCode.FETCH_FAILED
    assert len(site.requests) == 1
    assert time.monotonic() - started < LIMITS.timeout


def test_a_refused_connection_is_a_failed_fetch(web: Fetcher, site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        failure = failure_of(web, f"http://127.0.0.1:{unused.getsockname()[1]}/a.jpg")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert "Connection refused" in failure.detail


def test_a_body_shorter_than_its_content_length_is_a_failed_fetch(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npicture")
    assert code_of(web, f"{site.url}/a.jpg") == ErrorCode.FETCH_FAILED


def test_a_body_of_too_many_bytes_is_refused_by_its_content_length(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=b"", Content_Length="9" * 5000)
    site.replies["/b.jpg"] = reply(body=b"x" * (LIMITS.max_bytes + 1))
    site.replies["/c.jpg"] = reply(body=b"x" * LIMITS.max_bytes)
    assert code_of(web, f"{site.url}/b.jpg") == ErrorCode.TOO_MANY_BYTES
    assert len(web.fetch(f"{site.url}/c.jpg").data) == LIMITS.max_bytes
    assert code_of(web, f"{site.url}/a.jpg") in {ErrorCode.TOO_MANY_BYTES, ErrorCode.FETCH_FAILED}


def test_an_endless_body_is_cut_at_the_limit(web: Fetcher, site: Site) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            request.wfile.write(b"x" * 10_000)

    site.replies["/a.jpg"] = endless
    assert code_of(web, f"{site.url}/a.jpg") == ErrorCode.TOO_MANY_BYTES


def test_a_compressed_body_is_unpacked_to_the_limit_and_no_further(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(body=gzip.compress(b"x" * LIMITS.max_bytes), Content_Encoding="gzip")
    site.replies["/b.jpg"] = reply(body=gzip.compress(b"x" * 10_000_000), Content_Encoding="gzip")
    site.replies["/c.jpg"] = reply(body=b"no image", Content_Encoding="br")
    assert web.fetch(f"{site.url}/a.jpg").data == b"x" * LIMITS.max_bytes
    assert code_of(web, f"{site.url}/b.jpg") == ErrorCode.TOO_MANY_BYTES
    failure = failure_of(web, f"{site.url}/c.jpg")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert failure.detail.endswith("/c.jpg: came with Content-Encoding br, and cannot be unpacked")


@pytest.mark.parametrize("coding", ["aws-chunked", "utf-8", "none", "identity", "", "gzip", "br, gzip", "deflate", "x"])
def test_a_content_encoding_that_changed_nothing_is_ignored(web: Fetcher, site: Site, coding: str) -> None:
    site.replies["/a.jpg"] = reply(body=b"\xff\xd8\xffpicture", Content_Encoding=coding)
    assert web.fetch(f"{site.url}/a.jpg").data == b"\xff\xd8\xffpicture"


@pytest.mark.parametrize(
    "reply_",
    [
        pytest.param(raw(*[b""] * 300, pause=0.1), id="silence"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n", *[b"X-Drip: 1\r\n"] * 600, pause=0.05), id="headers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 600, pause=0.05), id="body until the end"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"x"] * 600, pause=0.05), id="body of known length"
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1;"] * 600, pause=0.05), id="chunk header"
        ),
    ],
)
def test_a_slow_server_is_abandoned_at_the_timeout(site: Site, reply_: Reply) -> None:
    site.replies["/a.jpg"] = reply_
    started = time.monotonic()
    assert code_of(Fetcher([], HURRY), f"{site.url}/a.jpg") == ErrorCode.FETCH_TIMEOUT
    assert HURRY.timeout <= time.monotonic() - started < 20  # the server goes on for half a minute


def test_after_a_timeout_the_next_image_of_the_server_is_read(site: Site) -> None:
    site.replies["/slow.jpg"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"x"] * 600, pause=0.05)
    site.replies["/a.jpg"] = reply(body=b"picture")
    fetcher = Fetcher([], FetchLimits(100_000, 3.0, True))
    assert code_of(fetcher, f"{site.url}/slow.jpg") == ErrorCode.FETCH_TIMEOUT
    assert fetcher.fetch(f"{site.url}/a.jpg").data == b"picture"


def test_redirects_are_followed_twenty_times(web: Fetcher, site: Site) -> None:
    for number in range(21):
        site.replies[f"/{number}"] = reply(302, Location=f"/{number + 1}" if number % 2 else f"{site.url}/{number + 1}")
    site.replies["/21"] = reply(body=b"picture")
    assert web.fetch(f"{site.url}/1").data == b"picture"
    failure = failure_of(web, f"{site.url}/0")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert "more than 20 redirects" in failure.detail


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png;base64,AA", "gopher:x"])
def test_a_redirect_to_another_scheme_is_unsupported(web: Fetcher, site: Site, target: str) -> None:
    site.replies["/a.jpg"] = reply(301, Location=target)
    assert code_of(web, f"{site.url}/a.jpg") == ErrorCode.UNSUPPORTED_LOCATION


@pytest.mark.parametrize("location", ["http://[::1", "http://", "http://127.0.0.1:99999/", "//:x"])
def test_a_redirect_to_nonsense_is_an_outcome(web: Fetcher, site: Site, location: str) -> None:
    site.replies["/a.jpg"] = reply(302, Location=location)
    assert code_of(web, f"{site.url}/a.jpg") in {ErrorCode.FETCH_FAILED, ErrorCode.UNSUPPORTED_LOCATION}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_forbidden_by_default_however_it_is_written(site: Site, host: str) -> None:
    failure = failure_of(Fetcher([], FetchLimits(10, 60.0)), f"http://{host}:{site.port}/a.jpg")
    assert failure.code == ErrorCode.FORBIDDEN_LOCATION
    assert "TAGMILL_ALLOW_PRIVATE_HOSTS=true" in failure.detail
    assert site.connections == 0


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "127.0.0.1", "10.0.0.0/8,127.0.0.1", "::1,127.0.0.1"])
def test_a_private_network_that_is_listed_is_fetched_from(site: Site, allowed: str) -> None:
    site.replies["/a.jpg"] = reply(body=b"picture")
    fetcher = Fetcher([], FetchLimits(10, 60.0, PrivateHosts.parse(allowed)))
    for host in ("127.0.0.1", "localhost", "127.1"):
        assert fetcher.fetch(f"http://{host}:{site.port}/a.jpg").data == b"picture"


def test_a_name_that_is_listed_is_fetched_from_and_others_at_its_address_are_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"images.internal": "127.0.0.1", "a.shop.internal": "127.0.0.1", "shop.internal": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", _names(table))
    site.replies["/a.jpg"] = reply(body=b"picture")
    site.replies["/b.jpg"] = reply(302, Location=f"http://127.0.0.1:{site.port}/a.jpg")
    fetcher = Fetcher([], FetchLimits(10, 60.0, PrivateHosts.parse("images.internal,*.shop.internal")))
    for host in ("images.internal", "IMAGES.internal.", "a.shop.internal"):
        assert fetcher.fetch(f"http://{host}:{site.port}/a.jpg").data == b"picture"
    for url in (
        f"shop.internal:{site.port}/a.jpg",
        f"127.0.0.1:{site.port}/a.jpg",
        f"images.internal:{site.port}/b.jpg",
    ):
        assert code_of(fetcher, f"http://{url}") == ErrorCode.FORBIDDEN_LOCATION


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "0.0.0.0"])
def test_a_listed_name_does_not_lead_to_a_metadata_service(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _names({"images.internal": address}))
    fetcher = Fetcher([], FetchLimits(10, 60.0, PrivateHosts.parse("images.internal")))
    assert code_of(fetcher, "http://images.internal/latest/meta-data") == ErrorCode.FORBIDDEN_LOCATION


def test_a_redirect_to_a_private_address_is_forbidden(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # 127.0.0.1 stands for the public server, and localhost for a private one.
    monkeypatch.setattr("tagmill.http.public_address.is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", _names({"localhost": "127.0.0.2"}))
    site.replies["/a.jpg"] = reply(302, Location=f"http://localhost:{site.port}/a.jpg")
    assert code_of(Fetcher([], FetchLimits(10, 60.0)), f"{site.url}/a.jpg") == ErrorCode.FORBIDDEN_LOCATION


def test_a_name_that_changes_its_address_is_connected_at_the_checked_address(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "10.0.0.1", "10.0.0.1"])
    resolved = []

    def resolve(host: str, *args: object, **kwargs: object) -> object:
        if host == "rebind.example":
            resolved.append(host)
            host = next(answers)
        return real(host, *args, **kwargs)

    real: Callable[..., object] = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("tagmill.http.public_address.is_public", lambda address: address == "127.0.0.1")
    site.replies["/a.jpg"] = reply(body=b"picture")
    fetcher = Fetcher([], FetchLimits(10, 60.0))
    assert fetcher.fetch(f"http://rebind.example:{site.port}/a.jpg").data == b"picture"
    assert resolved == ["rebind.example"]
    assert site.requests[0].headers["Host"] == f"rebind.example:{site.port}"


def _names(table: dict[str, str]) -> Callable[..., object]:
    real: Callable[..., object] = socket.getaddrinfo
    return lambda host, *args, **kwargs: real(table.get(host, host), *args, **kwargs)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(
    web: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.replies["/a.jpg"] = reply(body=b"picture")
    assert web.fetch(f"{site.url}/a.jpg").data == b"picture"


def test_a_login_is_sent_to_its_server_and_never_shown(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(401)
    url = f"http://anna:p%40ss@127.0.0.1:{site.port}/a.jpg?token=t0k3n"
    failure = failure_of(web, url)
    assert site.requests[0].headers["Authorization"] == "Basic YW5uYTpwQHNz"
    assert failure.detail == f"{site.url}/a.jpg: HTTP 401"


@pytest.mark.parametrize(
    "rest",
    ["127.0.0.1:1/a.jpg", "127.0.0.1:99999/a.jpg", "[::1/a.jpg", "[bad]/a.jpg", "a b/c.jpg", "x" * 80 + "/a.jpg", "/"],
)
@pytest.mark.parametrize("login", ["anna:s3cret", "anna:s3/cret", "anna:s3?cret"])
def test_no_failure_contains_login_or_query(web: Fetcher, rest: str, login: str) -> None:
    url = f"http://{login}@{rest}?token=t0k3n"
    failure = failure_of(web, url)
    # A log also shows the traceback, with the library's errors if they are chained.
    text = "".join(traceback.format_exception(failure)) + failure.detail
    assert [secret for secret in ("anna", "s3", "cret", "t0k3n") if secret in text.replace("without_secrets", "")] == []


def test_a_url_in_a_message_is_scheme_host_and_path() -> None:
    assert without_secrets("https://anna:pass@[::1]:80/x@2x.jpg;v=1?q#f") == "https://[::1]:80/x@2x.jpg;v=1"


def test_a_redirect_to_another_host_does_not_get_the_login(web: Fetcher, site: Site) -> None:
    site.replies["/a.jpg"] = reply(302, Location=f"http://localhost:{site.port}/b.jpg")
    site.replies["/b.jpg"] = reply(body=b"picture")
    assert web.fetch(f"http://anna:pass@127.0.0.1:{site.port}/a.jpg").data == b"picture"
    assert [request.headers["Authorization"] is None for request in site.requests] == [False, True]


@settings(max_examples=60, deadline=None)
@given(rest=st.text(max_size=30))
@example("127.0.0.1:1/\r\nX: y")
@example("127.0.0.1:1/\ud800")
@example("[::ffff:127.0.0.1%25x]/")
@example("127.0.0.1:/")
@example("ä" * 70 + "/")
@example(".")
def test_any_text_after_http_is_an_outcome_and_never_a_crash(rest: str) -> None:
    # Such text must not be sent to a real name server.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", _names_nothing)
        failure = failure_of(Fetcher([], FetchLimits(10, 1.0)), f"http://{rest}")
    failure.detail.encode()


def _names_nothing(host: str, *args: object, **kwargs: object) -> object:
    host.encode("idna")
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# TLS


@pytest.fixture
def tls_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    """A site with a certificate for the name in `request.param`, and the file of the authority that signed it."""
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    authority.cert_pem.write_to_path(str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(request.param).configure_cert(context)
    server = Site(context)
    server.replies["/a.jpg"] = reply(body=b"picture")
    server.replies["/slow.jpg"] = raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 60, pause=0.05)
    yield server, certificate
    server.close()


@pytest.mark.parametrize("tls_site", ["localhost"], indirect=True)
def test_https_is_read_if_the_certificate_is_trusted_and_within_the_deadline(
    tls_site: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, certificate = tls_site
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Fetcher([], LIMITS).fetch(f"https://localhost:{site.port}/a.jpg").data == b"picture"
    assert code_of(Fetcher([], HURRY), f"https://localhost:{site.port}/slow.jpg") == ErrorCode.FETCH_TIMEOUT


@pytest.mark.parametrize("tls_site", ["localhost"], indirect=True)
def test_an_unknown_certificate_is_a_failed_fetch(web: Fetcher, tls_site: tuple[Site, Path]) -> None:
    failure = failure_of(web, f"https://localhost:{tls_site[0].port}/a.jpg")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert "unable to get local issuer certificate" in failure.detail


@pytest.mark.parametrize("tls_site", ["shop.example"], indirect=True)
def test_a_certificate_for_another_name_is_a_failed_fetch(
    web: Fetcher, tls_site: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, certificate = tls_site
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    failure = failure_of(web, f"https://localhost:{site.port}/a.jpg")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert "localhost" in failure.detail
    assert "TLS failed" in failure.detail
