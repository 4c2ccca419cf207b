"""Sources in a bucket: prefixes, patterns, manifests and images, and what workers may read for them."""

import gzip
import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.s3_server import S3Server
from support.sources import error_of

from producer.sources.open import check, open_sources, roots_of
from producer.sources.options import ReadOptions
from tagmill.errors import ConfigurationError, InputError
from tagmill.records import Entry
from tagmill.stores.object_store import open_bucket
from tagmill.where import Where
from worker.sources.fetcher import Fetcher, FetchLimits

CSV = b"image_key,uri\n"


def entries(*sources: str, options: ReadOptions | None = None) -> list[tuple[str, str]]:
    found = open_sources(sources, options=options or ReadOptions())
    return [(entry.image_key, entry.uri) for entry in found]


def test_a_prefix_is_a_source_as_a_folder_is(s3_server: S3Server) -> None:
    s3_server.put("shop", dict.fromkeys(["in/b.jpg", "in/a/1.png", "in/note.txt", "other/c.jpg"], b"picture"))
    assert list(open_sources(["s3://shop/in"])) == [
        Entry("a/1.png", "s3://shop/in/a/1.png"),
        Entry("b.jpg", "s3://shop/in/b.jpg"),
    ]
    assert check(["s3://shop/in/"]).skipped.lines() == ["skipped 1 .txt file: note.txt"]


def test_a_manifest_is_streamed_and_its_relative_uris_start_at_its_prefix(s3_server: S3Server) -> None:
    rows = b"a,img/1 %23.jpg\nb,./2.jpg\nc,../x/3.jpg\nd,/srv/4.jpg\ne,https://h/5.jpg\nf,gs://b/6.jpg\n"
    s3_server.put("shop", {"lists/july/m.csv.gz": gzip.compress(CSV + rows)})
    assert entries("s3://shop/lists/july/m.csv.gz") == [
        ("a", "s3://shop/lists/july/img/1 %23.jpg"),
        ("b", "s3://shop/lists/july/2.jpg"),
        ("c", "s3://shop/lists/x/3.jpg"),
        ("d", "/srv/4.jpg"),
        ("e", "https://h/5.jpg"),
        ("f", "gs://b/6.jpg"),
    ]


def test_the_shards_of_a_manifest_are_read_in_order_and_problems_name_theirs(s3_server: S3Server) -> None:
    s3_server.put("shop", {"in/part-1.csv": CSV + b"b,1.jpg\n", "in/part-0.csv": CSV + b"a,0.jpg\n"})
    s3_server.put("shop", {"in/.part-2.csv": b"", "in/list.csv": b"", "in/old/part-3.csv": b""})
    assert entries("s3://shop/in/part-*.csv") == [("a", "s3://shop/in/0.jpg"), ("b", "s3://shop/in/1.jpg")]
    s3_server.put("shop", {"in/part-1.csv": CSV + b"a,1.jpg\nc,\n"})
    assert [str(problem) for problem in check(["s3://shop/in/part-*.csv"]).problems] == [
        "s3://shop/in/part-1.csv:3: uri of 'c' is empty",
        "s3://shop/in/part-1.csv:2: image_key 'a' is already in s3://shop/in/part-0.csv:2",
    ]


def test_a_parquet_manifest_is_read_from_a_bucket(s3_server: S3Server) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image_key": ["a", "b"], "uri": ["1.jpg", "2.jpg"]}), file)
    s3_server.put("shop", {"m.parquet": file.getvalue()})
    assert entries("s3://shop/m.parquet") == [("a", "s3://shop/1.jpg"), ("b", "s3://shop/2.jpg")]


def test_google_cloud_storage_is_read_by_its_own_client(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its XML interface is that of S3.
    monkeypatch.setenv("GOOGLE_BASE_URL", s3_server.url)
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    objects = {"in/m.csv": CSV + b"a,1 %20.jpg\n", "in/1 %20.jpg": b"picture"}
    s3_server.put("shop", objects, ACL="public-read")
    assert entries("gs://shop/in/*.jpg") == [("1 %20.jpg", "gs://shop/in/1 %20.jpg")]
    assert entries("gs://shop/in/m.csv") == [("a", "gs://shop/in/1 %20.jpg")]
    assert Fetcher(["gs://shop/"], FetchLimits(1000, 60.0)).fetch("gs://shop/in/1 %20.jpg").data == b"picture"


def test_an_image_is_a_source_and_has_to_be_there(s3_server: S3Server) -> None:
    s3_server.put("shop", {"in/1@2x.jpg": b"picture"})
    assert entries("s3://shop/in/1@2x.jpg") == [("1@2x.jpg", "s3://shop/in/1@2x.jpg")]
    assert error_of("s3://shop/in/2.jpg") == "s3://shop/in/2.jpg: cannot be read: no such object"


def test_where_chooses_images_of_a_prefix(s3_server: S3Server) -> None:
    s3_server.put("shop", dict.fromkeys(["in/a.jpg", "in/b.jpg"], b"picture"))
    chosen = ReadOptions(where=Where.parse(["image_key~^b"]))
    assert entries("s3://shop/in/", options=chosen) == [("b.jpg", "s3://shop/in/b.jpg")]


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("s3://shop", "s3://shop/"),
        ("s3://shop/in", "s3://shop/in/"),
        ("s3://shop/in/**/*.jpg", "s3://shop/in/"),
        ("s3://shop/in/m.csv", "s3://shop/in/"),
        ("s3://shop/in/*/part-*.csv.gz", "s3://shop/in/"),
        ("s3://shop/m.csv", "s3://shop/"),
        ("s3://shop/in/1.jpg", "s3://shop/in/1.jpg"),
        ("sftp://files.example/in/", "sftp://files.example/in/"),
    ],
)
def test_workers_may_read_what_a_source_names(source: str, root: str) -> None:
    assert roots_of([source]) == (root,)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://AKIA:s3cret@shop/in/", "s3://***@shop/in/: holds a login; put credentials into the environment instead"),
        ("s3://shop/../in/", "s3://shop/../in/: holds a part `.` or `..`"),
        ("s3://", "s3://: names no bucket"),
        ("https://cdn.example/m.csv?sig=s3cret", "https://cdn.example/m.csv?sig=***: cannot be a source"),
    ],
)  # fmt: skip
def test_a_source_that_is_no_location_is_one_line_without_secrets(source: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        roots_of([source])
    assert str(refused.value).startswith(message)
    assert error_of(source).startswith(message)


@pytest.mark.parametrize(
    ("source", "message", "empty"),
    [
        ("s3://none/in/", "cannot be read: no such bucket", False),
        ("s3://shop/in/", "no images there; looked for .jpg", True),
        ("s3://shop/in/part-*.csv", "no object matches", True),
        ("s3://shop/in/none.csv", "cannot be read: no such object", False),
        ("s3://shop/empty.csv", "the manifest", True),
    ],
)
def test_a_source_without_images_says_why(s3_server: S3Server, source: str, message: str, empty: bool) -> None:
    s3_server.put("shop", {"empty.csv": CSV, "in/note.txt": b"x"})
    (problem,) = check([source]).problems
    assert (problem.message[: len(message)], problem.empty) == (message, empty)


def test_a_denied_bucket_is_one_line(s3_server: S3Server) -> None:
    s3_server.put("shop", {})
    s3_server.refuse("/shop", 403, "AccessDenied", times=9)
    assert error_of("s3://shop/in/") == (
        "s3://shop/in/: cannot be read: access denied (HTTP 403 AccessDenied); check the credentials and the rights of"
        " the bucket"
    )


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    open_bucket.cache_clear()
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"s3:// needs obstore; pip install 'tagmill\[cloud\]'"):
        entries("s3://shop/in/")
