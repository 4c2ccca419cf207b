"""Requests with conditions, against a real server: what is sent, what a 304 means, and what may be asked with next."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from support.http_site import Reply, Site, in_turn, raw, reply, versioned

from tagmill.outcomes import ErrorCode, ImageFailure
from worker.sources.download import Download
from worker.sources.fetcher import FetchLimits
from worker.sources.http_source import HttpReader
from worker.sources.terms import Terms, Traffic
from worker.sources.validators import Answer, Validators

OLD, OLDER = "Mon, 30 Nov 2020 20:24:39 GMT", "Sun, 29 Nov 2020 20:24:39 GMT"


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    started = Site(), Site()
    yield started
    for site in started:
        site.close()


@pytest.fixture
def site(sites: tuple[Site, Site]) -> Site:
    return sites[0]


@pytest.fixture
def http() -> HttpReader:
    return FetchLimits(1000, 60.0, True).http_reader()


def ask(http: HttpReader, url: str, known: Validators | None = None, traffic: Traffic | None = None) -> Answer:
    return Download(url, http, Terms(known or Validators(), traffic or Traffic())).read()


def counts(traffic: Traffic) -> tuple[int, int, int]:
    return traffic.requests, traffic.not_modified, traffic.bytes_fetched


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"ETag": 'W/"1"'}, {"Last_Modified": OLD}])
def test_what_has_not_changed_comes_without_a_body(site: Site, http: HttpReader, headers: dict[str, str]) -> None:
    site.replies["/a.jpg"] = versioned(b"picture", **headers)
    traffic = Traffic()
    first = ask(http, f"{site.url}/a.jpg", traffic=traffic)
    second = ask(http, f"{site.url}/a.jpg", first.validators, traffic)
    site.replies["/a.jpg"] = versioned(b"another", ETag='"2"', Last_Modified=OLDER)
    third = ask(http, f"{site.url}/a.jpg", first.validators, traffic)
    assert [answer.data for answer in (first, second, third)] == [b"picture", None, b"another"]
    assert third.validators == Validators('"2"', OLDER)
    assert counts(traffic) == (3, 1, 14)
    assert site.connections == 1


def test_conditions_pass_through_redirects_and_the_last_answer_counts(
    sites: tuple[Site, Site], http: HttpReader
) -> None:
    shop, images = sites
    shop.replies["/a.jpg"] = reply(302, Location=f"{images.url}/1.jpg?signature=1", ETag='"shop"')
    images.replies["/1.jpg"] = versioned(b"picture", ETag='"1"', Last_Modified=OLD)
    url, traffic = shop.url.replace("//", "//anna:pass@") + "/a.jpg", Traffic()
    first = ask(http, url, traffic=traffic)
    assert first.validators == Validators('"1"')  # another file behind the redirect may have the same date
    shop.replies["/a.jpg"] = reply(307, Location=f"{images.url}/1.jpg?signature=2")
    assert ask(http, url, Validators('"1"', OLD), traffic).data is None
    assert counts(traffic) == (4, 1, 7)
    again = images.requests[-1].headers
    assert (again["If-None-Match"], again["If-Modified-Since"], again["Authorization"]) == ('"1"', None, None)


def test_conditions_are_sent_again_with_each_further_attempt(site: Site, http: HttpReader) -> None:
    site.replies["/a.jpg"] = in_turn(reply(500), versioned(b"picture", ETag='"1"'))
    traffic = Traffic()
    assert ask(http, f"{site.url}/a.jpg", Validators('"1"'), traffic).data is None
    assert counts(traffic) == (2, 1, 0)


def test_a_304_that_was_not_asked_for_is_a_failure(site: Site, http: HttpReader) -> None:
    site.replies["/a.jpg"] = reply(304)
    with pytest.raises(ImageFailure, match="HTTP 304") as failed:
        ask(http, f"{site.url}/a.jpg")
    assert failed.value.code is ErrorCode.FETCH_FAILED


@pytest.mark.parametrize(
    "wrong",
    [
        reply(304, b"a body"),
        raw(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def test_a_304_with_a_body_disturbs_no_later_answer(site: Site, http: HttpReader, wrong: Reply) -> None:
    site.replies["/a.jpg"], site.replies["/b.jpg"] = wrong, reply(body=b"picture")
    assert ask(http, f"{site.url}/a.jpg", Validators('"1"')).data is None
    assert ask(http, f"{site.url}/b.jpg").data == b"picture"


def test_what_was_received_before_a_failure_is_counted(site: Site, http: HttpReader) -> None:
    def too_large(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000)

    site.replies["/a.jpg"] = too_large
    traffic = Traffic()
    with pytest.raises(ImageFailure, match="too_many_bytes"):
        ask(http, f"{site.url}/a.jpg", traffic=traffic)
    assert counts(traffic) == (1, 0, 1001)
