"""CSV manifests: what is accepted, and what is reported about a damaged one."""

import csv
import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sources import HEADER, error_of, image_keys

from producer.sources.open import check, open_sources
from producer.sources.options import ReadOptions
from tagmill.errors import InputError, NothingToDo
from tagmill.records import Entry
from tagmill.text import normalize

WriteManifest = Callable[[bytes | str], str]


def test_other_columns_their_order_and_a_byte_order_mark_do_not_matter(write_manifest: WriteManifest) -> None:
    source = write_manifest(
        b'\xef\xbb\xbfprice,uri,name,image_key\r\n1,/a.jpg,"Shoe, red",sku-1\r\n\r\n2,/b.jpg,Hat,sku-2'
    )
    assert [(entry.image_key, entry.uri) for entry in open_sources([source])] == [
        ("sku-1", "/a.jpg"),
        ("sku-2", "/b.jpg"),
    ]


def test_a_quoted_field_may_hold_commas_quotes_and_line_breaks(write_manifest: WriteManifest) -> None:
    source = write_manifest('image_key,uri\n"a ""1"", b\nc","/x,y.jpg"\n')
    assert list(open_sources([source])) == [Entry('a "1", b\nc', "/x,y.jpg")]


def test_a_gzipped_manifest_is_read_like_the_plain_one(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv.gz"
    source.write_bytes(gzip.compress(b"image_key,uri\na,a.jpg\n"))
    assert list(open_sources([str(source)])) == [Entry("a", str(tmp_path.resolve() / "a.jpg"))]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"not gzip", lambda data: b""])
def test_a_damaged_gzip_file_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rows = "".join(f"key-{number},/{number * 7919}.jpg\n" for number in range(2000))
    source = tmp_path / "shop.csv.gz"
    source.write_bytes(damage(gzip.compress(f"image_key,uri\n{rows}".encode())))
    with pytest.raises((InputError, NothingToDo), match=r"damaged|no entries"):
        image_keys(source)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"sku,url\na,b\n", 1, "has no column image_key, id or key; found 'sku', 'url'. Name it with --key-column"),
        (b"sku;link\na;b\n", 1, "found 'sku', 'link'"),
        (b"id,link\na,b\n", 1, "has no column uri, url, path, image, image_link or file_name; found 'id', 'link'"),
        (b"image_key,uri,uri\na,b,c\n", 1, "has 2 columns 'uri'"),
        ("image_key,uri\na,b\n".encode("utf-16-le"), 1, "NUL byte; it looks like utf-16-le: add --encoding utf-16-le"),
        (HEADER + b"a,/a\nb\xe4r,/b\n", 3, "is not UTF-8 at byte 2"),
        (HEADER + b"a,/a\nb,/b\na,/c\n", 4, "image_key 'a' is already in {source}:2"),
        (HEADER + b'a,/a\nb,"/b"x\n', 3, "is not CSV"),
        (HEADER + b'a,/a\nb,"/b\nc,/c\n', 3, "not closed): unexpected end of data"),
        (HEADER + b"a,/a\nb,/\0b\n", 3, "NUL byte"),
        (HEADER + b"a,/a,1\n", 2, "has 3 fields, the header 2; a field with a comma needs quotes"),
        (HEADER + b"a\n", 2, "has 1 fields"),
        (HEADER + b"a,/a\n" + b"k" * 513 + b",/b\n", 3, "image_key has 513 characters"),
        (HEADER + b"a,/a\nb,/" + b"u" * 4096 + b"\n", 3, "uri of 'b' has 4097 characters"),
        (HEADER + b"a,/a\nb,/" + b"u" * 2**20 + b"\n", 3, "is longer than 1048576 bytes"),
        (HEADER + b'a,/a\nb,"/b\n' + b"c,/c\n" * 220_000, 3, "or a quote is not closed"),
        (HEADER + b"a,data:image/png;base64,AAAA\n", 2, "has 3 fields"),
        (b"image_key,uri\ra,/a\rb,/b\r", 1, "is not CSV"),
    ],
)
def test_a_mistake_in_a_manifest_is_reported_with_file_and_line(
    write_manifest: WriteManifest, content: bytes, line: int, message: str
) -> None:
    source = write_manifest(content)
    message_shown = error_of(source)
    assert message_shown.startswith(f"{source}:{line}: ")
    assert message.format(source=source) in message_shown
    assert len(message_shown) < 3000


@pytest.mark.parametrize("content", [b"", b"\n\n", HEADER, HEADER + b"\r\n"])
def test_an_empty_manifest_is_nothing_to_do(write_manifest: WriteManifest, content: bytes) -> None:
    source = write_manifest(content)
    with pytest.raises(NothingToDo, match=r"shop\.csv: the manifest holds no entries"):
        image_keys(source)


def test_a_line_that_never_ends_does_not_fill_memory(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    with source.open("wb") as file:
        file.write(HEADER + b"a,/")
        file.truncate(10 * 2**30)  # sparse: ten gigabytes of NUL without a line break
    tracemalloc.start()
    try:
        assert "is longer than 1048576 bytes" in error_of(source)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_reading_takes_few_bytes_per_entry(write_manifest: WriteManifest) -> None:
    source = write_manifest(
        HEADER + b"".join(b"product-image-%08d,/i/%d.jpg\n" % (number, number) for number in range(40_000))
    )
    entries = open_sources([source])
    next(entries)
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries) == 39_999
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()


# Python's csv module writes a line break inside quotes. Keys are in NFC, without spaces around them.
printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
keys = printable.map(normalize).filter(bool)
uris = st.one_of(keys.map(lambda text: f"/{text}"), keys.map(lambda text: f"https://shop.example/{text}"))


@settings(max_examples=200, deadline=None)
@given(
    entries=st.lists(st.builds(Entry, keys, uris, st.none()), min_size=1, unique_by=lambda entry: entry.image_key),
    note=printable,
    quoted=st.booleans(),
)
def test_what_the_csv_module_writes_is_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], note: str, quoted: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["uri", "note", "image_key"])
    writer.writerows([entry.uri, note, entry.image_key] for entry in entries)
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode())
    assert list(open_sources([str(path)], options=ReadOptions(keep_extra=False))) == entries


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_entries_or_problems_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(HEADER + content)
    report = check([str(path)])
    assert report.problem_count == len(report.problems)
