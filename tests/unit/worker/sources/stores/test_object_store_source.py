"""Images in object stores are read as URLs are: within limits, at the pace of their bucket, and each failure named."""

import gzip
import time
from collections.abc import Callable

import pytest
from support.http_site import Site, reply
from support.s3_server import KEY, KEY_ID, S3Server

from tagmill.locations.schemes import parse_stored
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.stores.object_store import open_bucket
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.host_pool import HostPool
from worker.sources.pace import FIRST_RATE, Paces
from worker.sources.stores.object_store_source import ObjectStoreReader
from worker.sources.terms import Terms
from worker.sources.validators import Answer

LIMITS = FetchLimits(1000, 60.0)


@pytest.fixture
def shop() -> Fetcher:
    return Fetcher(["s3://shop/"], LIMITS)


def failure_of(fetcher: Fetcher, uri: str) -> ImageFailure:
    with pytest.raises(ImageFailure) as failed:
        fetcher.fetch(uri)
    return failed.value


@pytest.mark.parametrize(
    "key",
    ["1.jpg", "summer 2026/1@2x.jpg", "셔츠/빨강.jpg", "a%20b%2F.jpg", "a?b#c&d=e+f.jpg", "t~[1]{2}*.jpg"],
)
def test_a_key_is_read_literally(s3_server: S3Server, shop: Fetcher, key: str) -> None:
    s3_server.put("shop", {key: key.encode()})
    assert shop.fetch(f"s3://shop/{key}").data == key.encode()


def test_connections_are_kept(s3_server: S3Server, shop: Fetcher) -> None:
    s3_server.put("shop", {f"{number}.jpg": b"picture" for number in range(20)})
    before = s3_server.connections()
    for number in range(20):
        shop.fetch(f"s3://shop/{number}.jpg")
    assert s3_server.connections() - before <= 2


@pytest.mark.parametrize(
    ("uri", "code", "detail"),
    [
        ("s3://shop/none.jpg", ErrorCode.NOT_FOUND, "s3://shop/none.jpg: no such object"),
        ("s3://shop/in/", ErrorCode.NOT_FOUND, "s3://shop/in/: names a folder"),
        ("s3://none/1.jpg", ErrorCode.NOT_FOUND, "s3://none/1.jpg: no such bucket"),
        ("s3://shop/large.jpg", ErrorCode.TOO_MANY_BYTES, "s3://shop/large.jpg: is larger than 1000 bytes"),
        ("s3://shop/packed.jpg", ErrorCode.TOO_MANY_BYTES, "s3://shop/packed.jpg: is larger than 1000 bytes"),
    ],
)
def test_a_failure_is_named(s3_server: S3Server, uri: str, code: ErrorCode, detail: str) -> None:
    s3_server.put("shop", {"large.jpg": bytes(1001)})
    s3_server.put("shop", {"packed.jpg": gzip.compress(bytes(1001))}, ContentEncoding="gzip")
    failure = failure_of(Fetcher(["s3://shop/", "s3://none/"], LIMITS), uri)
    assert (failure.code, failure.detail) == (code, detail)


def test_a_coding_of_an_object_is_undone(s3_server: S3Server, shop: Fetcher) -> None:
    s3_server.put("shop", {"1.jpg": gzip.compress(b"picture")}, ContentEncoding="gzip")
    assert shop.fetch("s3://shop/1.jpg").data == b"picture"


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        (
            403,
            "AccessDenied",
            "access denied (HTTP 403 AccessDenied); check the credentials",
        ),
        (
            403,
            "InvalidAccessKeyId",
            "access denied (HTTP 403 InvalidAccessKeyId); check the credentials",
        ),
        (400, "ExpiredToken", "access denied (HTTP 400 ExpiredToken); check the credentials and the rights"),
        (301, "PermanentRedirect", "the bucket is in another region; set AWS_REGION"),
        (400, "InvalidRequest", "HTTP 400 InvalidRequest"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(
    s3_server: S3Server, shop: Fetcher, status: int, code: str, detail: str
) -> None:
    s3_server.put("shop", {"1.jpg": b"picture"})
    s3_server.refuse("/shop/1.jpg", status, code)
    failure = failure_of(shop, "s3://shop/1.jpg")
    assert failure.code == ErrorCode.FETCH_FAILED
    assert failure.detail.startswith(f"s3://shop/1.jpg: {detail}")
    assert KEY_ID not in failure.detail


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests"), (500, "InternalError")])
def test_a_busy_or_broken_store_is_asked_again(s3_server: S3Server, shop: Fetcher, status: int, code: str) -> None:
    s3_server.put("shop", {"1.jpg": b"picture"})
    s3_server.requests()
    s3_server.refuse("/shop/1.jpg", status, code)
    assert shop.fetch("s3://shop/1.jpg").data == b"picture"
    assert s3_server.requests() == [f"GET /shop/1.jpg {status}", "GET /shop/1.jpg 200"]


def test_a_bucket_that_asks_for_fewer_requests_gets_fewer(s3_server: S3Server) -> None:
    s3_server.put("shop", {"1.jpg": b"picture"})
    paces = Paces()
    reader = ObjectStoreReader(1000, 5.0, paces)
    s3_server.refuse("/shop/1.jpg", 503, "SlowDown")
    began = time.monotonic()
    with pytest.raises(ImageFailure):
        reader.get(parse_stored("s3://shop/1.jpg"), "s3://shop", Terms())
    assert paces.turn_at("s3://shop") >= began + 1 / FIRST_RATE
    assert paces.turn_at("shop") == 0.0


def test_an_object_with_the_same_etag_is_not_sent_again(s3_server: S3Server) -> None:
    s3_server.put("shop", {"1.jpg": b"picture"})
    reader, location = ObjectStoreReader(1000, 5.0, Paces()), parse_stored("s3://shop/1.jpg")
    first = reader.get(location, "s3://shop", Terms())
    assert first.data == b"picture"
    again = Terms(first.validators)
    assert reader.get(location, "s3://shop", again) == Answer(None)
    assert (again.traffic.requests, again.traffic.not_modified, again.traffic.bytes_fetched) == (1, 1, 0)
    s3_server.put("shop", {"1.jpg": b"another picture"})
    second = reader.get(location, "s3://shop", again)
    assert (second.data, second.validators == first.validators) == (b"another picture", False)


def test_the_objects_of_a_bucket_are_fetched_at_the_same_time(s3_server: S3Server, shop: Fetcher) -> None:
    s3_server.put("shop", {f"{number}.jpg": b"picture" for number in range(8)})
    pool = HostPool(8, Paces())
    s3_server.meet(8)  # each request waits until eight are under way
    wanted = [(f"s3://shop/{number}.jpg", Terms()) for number in range(8)]
    futures = pool.fetch(wanted, lambda answer: answer.data, shop.remote)
    assert [future.result(timeout=60) for future in futures] == [b"picture"] * 8
    pool.shutdown()


def test_no_connection_and_no_answer_have_codes(
    s3_server: S3Server, silent: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    failure = failure_of(Fetcher(["s3://shop/"], FetchLimits(1000, 2.0)), "s3://shop/1.jpg")
    assert (failure.code, failure.detail) == (ErrorCode.FETCH_FAILED, "s3://shop/1.jpg: no connection")
    open_bucket.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent())
    failure = failure_of(Fetcher(["s3://shop/"], FetchLimits(1000, 0.3)), "s3://shop/1.jpg")
    assert (failure.code, failure.detail) == (ErrorCode.FETCH_TIMEOUT, "s3://shop/1.jpg: no complete answer in time")


def test_an_answer_that_is_cut_off_is_no_image(
    s3_server: S3Server, shop: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.url)
    dated = {"ETag": '"1"', "Last_Modified": "Mon, 30 Nov 2020 20:24:39 GMT"}
    site.replies["/shop/1.jpg"] = reply(body=b"picture", Content_Length="70", Connection="close", **dated)
    failure = failure_of(Fetcher(["s3://shop/"], FetchLimits(1000, 1.0)), "s3://shop/1.jpg")
    assert failure.code in {ErrorCode.FETCH_FAILED, ErrorCode.FETCH_TIMEOUT}
    site.replies["/shop/1.jpg"] = reply(body=b"picture", **dated)
    assert shop.fetch("s3://shop/1.jpg").data == b"picture"
    site.close()


def test_an_image_without_credentials_fails_with_what_is_missing(
    s3_server: S3Server, shop: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    failure = failure_of(shop, "s3://shop/1.jpg")
    assert (failure.code, failure.detail) == (
        ErrorCode.FETCH_FAILED,
        "s3://shop/1.jpg: no usable credentials in the environment",
    )
    assert KEY not in str(failure)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://other/1.jpg", "is below none of the allowed prefixes"),
        ("s3://shop/1.jpg", "is below none of the allowed prefixes"),
        ("s3://shop/2026-old/1.jpg", "is below none of the allowed prefixes"),
        ("gs://shop/2026/1.jpg", "is below none of the allowed prefixes"),
        ("s3://SHOP/2026/1.jpg", "is below none of the allowed prefixes"),
        ("s3://shop/2026/../1.jpg", "holds a part `.` or `..`"),
        ("s3://shop/2026/%2e%2e/1.jpg", "holds a part `.` or `..`"),
        ("s3://shop/2026/a%2f..%2f..%2f1.jpg", "holds a part `.` or `..`"),
        ("s3://shop//2026/1.jpg", "holds an empty part, `//`"),
        ("s3://shop/2026//1.jpg", "holds an empty part, `//`"),
        ("s3://anna:s3cret@shop/2026/1.jpg", "holds a login; put credentials into the environment instead"),
        ("s3://shop:9000/2026/1.jpg", "names no bucket"),
        ("s3:///2026/1.jpg", "names no bucket"),
        ("s3://shop/2026/a\nb.jpg", "holds a control character"),
    ],
)
def test_what_is_not_allowed_is_not_asked_for(s3_server: S3Server, uri: str, why: str) -> None:
    failure = failure_of(Fetcher(["s3://shop/2026/"], LIMITS), uri)
    assert failure.code == ErrorCode.FORBIDDEN_LOCATION
    assert why in failure.detail
    assert "s3cret" not in failure.detail
    assert s3_server.requests() == []
