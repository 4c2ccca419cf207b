"""Redirects lead where browsers would go, whatever bytes `Location` has."""

from collections.abc import Iterator

import pytest
from support.http_site import Site, raw, reply

from tagmill.outcomes import ErrorCode, ImageFailure
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.redirects import redirected

LIMITS = FetchLimits(100_000, 60.0, allow_private_hosts=True)
BASE = "http://anna:p@shop.example:8080/a/b.jpg?x=1"
HERE = "http://anna:p@shop.example:8080"


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/c.jpg", f"{HERE}/c.jpg"),
        ("c.jpg", f"{HERE}/a/c.jpg"),
        ("../c.jpg", f"{HERE}/c.jpg"),
        ("?y=2", f"{HERE}/a/b.jpg?y=2"),
        ("#top", f"{HERE}/a/b.jpg?x=1"),
        ("/c.jpg?a=/b#top", f"{HERE}/c.jpg?a=/b"),
        (" /c.jpg\t", f"{HERE}/c.jpg"),
        ("/c\td.jpg", f"{HERE}/cd.jpg"),
        ("\\c\\d.jpg", f"{HERE}/c/d.jpg"),
        ("//cdn.example/c.jpg", "http://cdn.example/c.jpg"),
        ("///cdn.example/c.jpg", "http://cdn.example/c.jpg"),
        ("http:/cdn.example/c.jpg", "http://cdn.example/c.jpg"),
        ("https:cdn.example/c.jpg", "https://cdn.example/c.jpg"),
        ("http:c.jpg", f"{HERE}/a/c.jpg"),
        ("HTTPS://CDN.example/C.jpg", "https://cdn.example/C.jpg"),
        ("http://[2001:db8::1]:81/c.jpg", "http://[2001:db8::1]:81/c.jpg"),
        ("http://%63dn.example/c.jpg", "http://cdn.example/c.jpg"),
        ("/세일.jpg", f"{HERE}/%EC%84%B8%EC%9D%BC.jpg"),
        ("/a b.jpg?c d", f"{HERE}/a%20b.jpg?c%20d"),
        ("/a%20b.jpg", f"{HERE}/a%20b.jpg"),
        ("/100%.jpg", f"{HERE}/100%25.jpg"),
        ("/a%20b%.jpg?%zz", f"{HERE}/a%20b%25.jpg?%25zz"),
        ('/"<>`{}.jpg', f"{HERE}/%22%3C%3E%60%7B%7D.jpg"),
        ("http://쇼핑.example/세일.jpg", "http://쇼핑.example/%EC%84%B8%EC%9D%BC.jpg"),
    ],
)
def test_a_location_is_read_as_browsers_read_it(location: str, target: str) -> None:
    # http.client decodes each byte of a header as one character.
    assert redirected(BASE, location.encode().decode("latin-1")) == target


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    assert redirected(BASE, "/caf\xe9\x85.jpg") == f"{HERE}/caf%E9%85.jpg"


@pytest.mark.parametrize(
    ("url", "location", "login"),
    [
        ("http://anna:p@shop.example/a", "http://shop.example/b", "anna:p@"),
        ("http://anna:p@shop.example/a", "http://SHOP.example:80/b", "anna:p@"),
        ("http://anna:p@shop.example/a", "https://shop.example/b", "anna:p@"),
        ("https://anna:p@shop.example/a", "http://shop.example/b", ""),
        ("http://anna:p@shop.example/a", "http://shop.example:8080/b", ""),
        ("http://anna:p@shop.example/a", "http://www.shop.example/b", ""),
        ("http://anna:p@shop.example/a", "//shop.example@evil.example/b", "shop.example@"),
        ("http://anna:p@shop.example/a", "http://otto:q@shop.example/b", "otto:q@"),
    ],
)
def test_a_login_goes_to_its_own_server_only(url: str, location: str, login: str) -> None:
    assert redirected(url, location).partition("://")[2].rpartition("/")[0].rpartition("@")[0] == login.rstrip("@")


@pytest.mark.parametrize(
    "location", ["http://h:99999/", "//:x", "http://[::1", "http://a%2Fb/", "http://a%40b/", "http://%FF/"]
)
def test_no_url_is_an_error(location: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        redirected(BASE, location)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_raw_bytes_of_a_header_lead_to_the_image(site: Site, status: int) -> None:
    site.replies["/a.jpg"] = raw(
        f"HTTP/1.1 {status} See\r\nLocation: /세일 50%.jpg\r\nContent-Length: 0\r\n\r\n".encode()
    )
    site.replies["/%EC%84%B8%EC%9D%BC%2050%25.jpg"] = reply(body=b"picture")
    assert Fetcher([], LIMITS).fetch(f"{site.url}/a.jpg").data == b"picture"


def test_a_percent_sign_in_a_url_is_sent_encoded(site: Site) -> None:
    site.replies["/a%20b%25.jpg"] = reply(body=b"picture")
    assert Fetcher([], LIMITS).fetch(f"{site.url}/a%20b%.jpg").data == b"picture"


def test_a_loop_ends_and_so_do_two_different_targets(site: Site) -> None:
    site.replies["/a.jpg"] = reply(302, Location="/b.jpg")
    site.replies["/b.jpg"] = reply(302, Location="/a.jpg")
    site.replies["/two.jpg"] = raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")
    for name, requests, reason in (("a", 21, "more than 20 redirects"), ("two", 22, "redirects to no valid URL")):
        with pytest.raises(ImageFailure, match=reason) as caught:
            Fetcher([], LIMITS).fetch(f"{site.url}/{name}.jpg")
        assert (caught.value.code, len(site.requests)) == (ErrorCode.FETCH_FAILED, requests)


def test_the_same_target_named_twice_is_followed(site: Site) -> None:
    site.replies["/a.jpg"] = raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
    site.replies["/x"] = reply(body=b"picture")
    assert Fetcher([], LIMITS).fetch(f"{site.url}/a.jpg").data == b"picture"
