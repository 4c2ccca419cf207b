"""A source is opened where it is: it can be read in order and sought in, and is never held whole."""

import random
from pathlib import Path

import fsspec
import pytest
from support.s3_server import S3Server

from producer.sources.locate import open_location
from tagmill.locations.schemes import SCHEMES, Kind
from tagmill.stores import remote_file
from tagmill.stores.file_system import forget_file_system

DATA = random.Random(1).randbytes(100_000)


@pytest.fixture(params=["/", "s3", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same bytes, in three places."""
    if request.param == "s3":
        monkeypatch.setattr(remote_file, "FIRST_BYTES", 1000)
        monkeypatch.setattr(remote_file, "MOST_BYTES", 8000)
        server: S3Server = request.getfixturevalue("s3_server")
        server.put("shop", {"list/a%b.csv": DATA})
        return "s3://shop/list/a%b.csv"
    if request.param == "memory":
        monkeypatch.setitem(SCHEMES, "memory", Kind.FILE_SYSTEM)
        forget_file_system("memory", "shop")
        fsspec.filesystem("memory").pipe_file("/shop/a.csv", DATA)
        return "memory://shop/a.csv"
    (tmp_path / "a.csv").write_bytes(DATA)
    return str(tmp_path / "a.csv")


def test_a_source_is_read_in_order_and_sought_in(source: str) -> None:
    draw = random.Random(2)
    with open_location(source) as file:
        assert file.seekable()
        assert file.read(4) == DATA[:4]
        file.seek(0)
        assert file.read() == DATA
        assert file.read(1) == b""
        for _ in range(20):
            at, size = draw.randrange(len(DATA)), draw.randrange(5000)
            assert file.seek(at) == at
            assert file.read(size) == DATA[at : at + size]
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]


def test_a_large_object_is_read_in_parts_that_grow(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "FIRST_BYTES", 1000)
    monkeypatch.setattr(remote_file, "MOST_BYTES", 8000)
    s3_server.put("shop", {"a.csv": DATA[:31_000]})
    s3_server.requests()
    with open_location("s3://shop/a.csv") as file:
        assert sum(len(line) for line in file) == 31_000
    # 1000, 2000, 4000, 8000 and so on
    assert s3_server.requests() == ["HEAD /shop/a.csv 200", *["GET /shop/a.csv 206"] * 6]


def test_an_object_that_changes_while_it_is_read_is_refused(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "FIRST_BYTES", 1000)
    s3_server.put("shop", {"a.csv": DATA})
    with open_location("s3://shop/a.csv") as file:
        file.read(10)
        s3_server.put("shop", {"a.csv": DATA[::-1]})
        with pytest.raises(OSError, match="changed while it was read"):
            file.read()


@pytest.mark.parametrize(("source", "message"), [("s3://shop/none.csv", "no such object"), ("s3://none/a", "no such")])
def test_what_is_not_there_is_named(s3_server: S3Server, source: str, message: str) -> None:
    s3_server.put("shop", {})
    with pytest.raises(FileNotFoundError, match=message), open_location(source):
        pass
