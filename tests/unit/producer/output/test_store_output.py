"""Results in an object store: whole objects, or what was there before."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.s3_server import S3Server

from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, Format
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from tagmill.errors import InputError, ServiceDown, TagmillError
from tagmill.stores import object_store


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server with one bucket, which the environment names."""
    object_store.open_bucket.cache_clear()
    s3.empty()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.put("shop", {"old.csv": b"old", "tags/part-00007.csv": b"old", "tags/notes.txt": b"mine"})
    return s3


def objects(store: S3Server) -> dict[str, bytes]:
    client = store._client()
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="shop")["Contents"]]
    assert not client.list_multipart_uploads(Bucket="shop").get("Uploads")
    return {key: client.get_object(Bucket="shop", Key=key)["Body"].read() for key in keys}


def images(count: int) -> Iterator[ImageResult]:
    return (ImageResult(at, f"key-{at}", f"/{at}.jpg", "pending", *(None,) * 5) for at in range(count))


def write(output: str, count: int, each: int | None = None, form: Format = Format.CSV) -> int:
    return write_results(ResultSet((), lambda: images(count)), WRITERS[form], output, WriteOptions(), each)


def test_a_file_is_one_object_with_what_a_local_file_holds(store: S3Server, tmp_path: Path) -> None:
    assert write("s3://shop/old.csv", 3) == write(str(tmp_path / "local.csv"), 3)
    assert objects(store)["old.csv"] == (tmp_path / "local.csv").read_bytes()


def test_shards_are_objects_below_a_prefix_and_replace_those_of_before(store: S3Server, tmp_path: Path) -> None:
    assert write("s3://shop/tags/", 5, 2) == 5
    write(f"{tmp_path}/tags/", 5, 2)
    local = {f"tags/{path.name}": path.read_bytes() for path in (tmp_path / "tags").iterdir()}
    assert len(local) == 3
    assert objects(store) == {"old.csv": b"old", "tags/notes.txt": b"mine", **local}


def test_every_format_is_written(store: S3Server, tmp_path: Path) -> None:
    for form in Format:
        write(f"s3://shop/{form}/", 2, form=form)
        write(f"{tmp_path}/{form}/", 2, form=form)
        local = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert local.items() <= objects(store).items()


@pytest.mark.parametrize(("output", "each"), [("s3://shop/old.csv", None), ("s3://shop/tags/", 5000)])
def test_a_failed_write_leaves_what_was_there(store: S3Server, output: str, each: int | None) -> None:
    before = objects(store)

    def fail() -> Iterator[ImageResult]:
        long = "x" * 2000  # more than one part of an upload, and more than one shard
        yield from (replace(one, image_key=f"{one.image_key}{long}") for one in images(12_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_results(ResultSet((), fail), WRITERS[Format.CSV], output, WriteOptions(), each)
    assert objects(store) == before


@pytest.mark.parametrize(
    ("output", "error", "words"),
    [
        ("s3://nobody/tags.csv", InputError, "s3://nobody/tags.csv: no such bucket"),
        ("s3://nobody/tags/", InputError, "s3://nobody/tags/: no such bucket"),
        ("sftp://host/tags.csv", InputError, "results are written to files and to s3://, gs:// and az:// alone"),
        ("s3://me:pw@shop/tags.csv", InputError, "-o s3://... holds a login"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    store: S3Server, output: str, error: type[TagmillError], words: str
) -> None:
    with pytest.raises(error) as caught:
        write(output, 1)
    assert words in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_store_that_does_not_answer_is_down(store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.output.destinations.object_store._RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    object_store.open_bucket.cache_clear()
    with pytest.raises(ServiceDown, match=r"s3://shop/tags\.csv: (no connection|the connection failed)"):
        write("s3://shop/tags.csv", 1)
    store.refuse("/shop/tags.csv", 403, "AccessDenied")
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    object_store.open_bucket.cache_clear()
    with pytest.raises(InputError, match=r"s3://shop/tags\.csv: access denied \(HTTP 403 AccessDenied\)"):
        write("s3://shop/tags.csv", 1)
