"""The fields of a manifest row: keys, paths and URLs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.sources import HEADER, error_of

from producer.sources.open import open_sources
from tagmill.records import Entry

WriteManifest = Callable[[bytes | str], str]


def test_a_relative_uri_starts_at_the_folder_of_its_manifest(write_manifest: WriteManifest, tmp_path: Path) -> None:
    source = write_manifest(
        "image_key,uri\na,img/a.jpg\nb,/abs/b.jpg\nc,https://shop.example/c.jpg?w=1\nd,HTTP://h/d\n"
    )
    folder = tmp_path.resolve()
    assert [entry.uri for entry in open_sources([source])] == [
        f"{folder}/img/a.jpg",
        "/abs/b.jpg",
        "https://shop.example/c.jpg?w=1",
        "HTTP://h/d",
    ]


def test_a_manifest_named_from_another_folder_gives_the_same_uris(
    write_manifest: WriteManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest("image_key,uri\na,a.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert list(open_sources(["shop.csv"])) == [Entry("a", str(tmp_path.resolve() / "a.jpg"))]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (HEADER + b"a,/a\n,/b\n", 3, "image_key is empty"),
        (HEADER + b"a,/a\nb,\n", 3, "uri of 'b' is empty"),
        (HEADER + b"a,/a\nb, \n", 3, "uri of 'b' is empty"),
        (HEADER + b"a,file:///etc/passwd\n", 2, "'file' is not supported"),
        (HEADER + b"a,s3://bucket/a.jpg\n", 2, "'s3' is not supported"),
        (HEADER + b'a,"data:image/png;base64,AAAA"\n', 2, "'data' is not supported"),
        (HEADER + b"a,https:///a.jpg\n", 2, "names no host"),
        (HEADER + b"a,https://[::1\n", 2, "names no host"),
    ],
)
def test_a_key_or_uri_that_cannot_be_used_is_reported_with_file_and_line(
    write_manifest: WriteManifest, content: bytes, line: int, message: str
) -> None:
    source = write_manifest(content)
    shown = error_of(source)
    assert shown.startswith(f"{source}:{line}: ")
    assert message in shown
    assert len(shown) < 3000
