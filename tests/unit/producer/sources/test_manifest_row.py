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
        (HEADER + b"a,s4://bucket/a.jpg\n", 2, "'s4' is not supported"),
        (HEADER + b"a,s3://AKIA:key@bucket/a.jpg\n", 2, "uri of 'a' holds a login"),
        (HEADER + b"a,s3://bucket/../a.jpg\n", 2, "uri of 'a' holds a part `.` or `..`"),
        (HEADER + b"a,s3://bucket/a/\n", 2, "uri of 'a' names a folder"),
        (HEADER + b"a,gs:///a.jpg\n", 2, "uri of 'a' names no bucket"),
        (HEADER + b"a,sftp:///a.jpg\n", 2, "uri of 'a' names no host"),
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


@pytest.mark.parametrize(
    "row",
    ["1, a.jpg", "1 ,a.jpg ", "\t1,\u00a0a.jpg\u3000", '1, "a.jpg"', "\u200b1\ufeff,a.jpg\r", "\u202a1,\u202aa.jpg"],
)
def test_spaces_around_fields_are_trimmed(write_manifest: WriteManifest, tmp_path: Path, row: str) -> None:
    source = write_manifest(f"image_key , uri\n{row}\n2, https://shop.example/a.jpg \n")
    local, remote = open_sources([source])
    assert local == Entry("1", str(tmp_path.resolve() / "a.jpg"))
    assert remote == Entry("2", "https://shop.example/a.jpg")


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("\ud55c\uae00/\uc0ac\uc9c4.jpg", "\u1112\u1161\u11ab\uae00/\uc0ac\u110c\u1175\u11ab.jpg"),
        ('" a.jpg"', " a.jpg"),
        ("a.jpg ", "a.jpg\u00a0"),
        ("a/\u00e9/../b.jpg", "a/e\u0301/../b.jpg"),
    ],
)
def test_a_file_is_found_under_the_spelling_on_disk(
    write_manifest: WriteManifest, tmp_path: Path, written: str, on_disk: str
) -> None:
    path = tmp_path / on_disk
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    source = write_manifest(f"image_key,uri\n1,{written}\n")
    for entry in open_sources([source]):
        assert Path(entry.uri).samefile(path), entry


def test_keys_that_look_the_same_are_the_same(write_manifest: WriteManifest) -> None:
    source = write_manifest("image_key,uri\ncaf\u00e9,/a\ncafe\u0301 ,/b\n")
    assert error_of(source) == (
        f"{source}:3: image_key 'caf\u00e9' is already in {source}:2; keys that look the same are the same"
    )
