"""What a producer reads: folders, CSV manifests, single images, and what is wrong with them."""

import csv
import gzip
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.sources import seen_keys
from producer.sources.open import check, open_sources, roots_of
from tagmill.errors import InputError, NothingToDo
from tagmill.records import Entry

Write = Callable[[bytes | str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest `shop.csv` and return its path."""

    def write_manifest(content: bytes | str) -> str:
        path = tmp_path / "shop.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_manifest


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def keys(*sources: str | Path) -> list[str]:
    return [entry.image_key for entry in open_sources([str(source) for source in sources])]


def error_of(*sources: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        keys(*sources)
    return str(caught.value)


def test_a_folder_gives_its_images_sorted_by_relative_path(tmp_path: Path) -> None:
    make_files(tmp_path, "b.png", "a/2.JPG", "a/1.webp", "a.gif", "a/deep/er/x.TIFF", "notes.txt", "jpg")
    found = list(open_sources([str(tmp_path)]))
    assert [entry.image_key for entry in found] == sorted(["a.gif", "a/1.webp", "a/2.JPG", "a/deep/er/x.TIFF", "b.png"])
    assert all(entry.uri == str(tmp_path.resolve() / entry.image_key) for entry in found)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jpg", ".b.jpg", ".thumbs/c.jpg")
    assert keys(tmp_path) == ["a.jpg"]


def test_a_link_to_a_folder_is_not_followed_and_a_link_to_a_file_is_an_entry(tmp_path: Path) -> None:
    make_files(tmp_path, "shop/a.jpg", "secret/b.jpg")
    shop = tmp_path / "shop"
    (shop / "out").symlink_to(tmp_path / "secret")
    (shop / "out.jpg").symlink_to(tmp_path / "secret")
    (shop / "loop").symlink_to(shop)
    (shop / "link.jpg").symlink_to(shop / "a.jpg")
    (shop / "broken.jpg").symlink_to(shop / "nothing")
    assert keys(shop) == ["a.jpg", "broken.jpg", "link.jpg"]


def test_an_empty_folder_is_nothing_to_do_and_names_folder_and_suffixes(tmp_path: Path) -> None:
    make_files(tmp_path, "notes.txt")
    with pytest.raises(NothingToDo, match=r"looked for \.jpg, \.jpeg, \.png") as caught:
        keys(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_no_source_is_nothing_to_do() -> None:
    with pytest.raises(NothingToDo):
        keys()


def test_a_file_name_that_is_not_utf8_is_an_error_because_sql_cannot_store_it(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).write_bytes(b"x")
    assert "is not UTF-8" in error_of(tmp_path)


def test_a_single_image_is_a_source(tmp_path: Path) -> None:
    make_files(tmp_path, "Red Shoe.JPG")
    path = tmp_path / "Red Shoe.JPG"
    assert list(open_sources([str(path)])) == [Entry("Red Shoe.JPG", str(path.resolve()))]


@pytest.mark.parametrize("name", ["nothing", "nothing.csv", "nothing.jpg", "nul\0.csv"])
def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path, name: str) -> None:
    assert "no such file" in error_of(tmp_path / name)
    with pytest.raises(InputError, match=r"nothing|nul"):
        roots_of([str(tmp_path / name)])


def test_a_source_of_another_kind_is_an_error_that_names_the_kinds(tmp_path: Path) -> None:
    make_files(tmp_path, "shop.xlsx")
    assert ".csv, .csv.gz, .jpg" in error_of(tmp_path / "shop.xlsx")


def test_a_relative_uri_belongs_to_the_folder_of_its_manifest(write: Write, tmp_path: Path) -> None:
    source = write("image_key,uri\na,img/a.jpg\nb,/abs/b.jpg\nc,https://shop.example/c.jpg?w=1\nd,HTTP://h/d\n")
    folder = tmp_path.resolve()
    assert [entry.uri for entry in open_sources([source])] == [
        f"{folder}/img/a.jpg",
        "/abs/b.jpg",
        "https://shop.example/c.jpg?w=1",
        "HTTP://h/d",
    ]


def test_a_manifest_named_from_another_folder_gives_the_same_uris(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("image_key,uri\na,a.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert list(open_sources(["shop.csv"])) == [Entry("a", str(tmp_path.resolve() / "a.jpg"))]


def test_other_columns_their_order_and_a_byte_order_mark_do_not_matter(write: Write) -> None:
    source = write(b'\xef\xbb\xbfprice,uri,name,image_key\r\n1,/a.jpg,"Shoe, red",sku-1\r\n\r\n2,/b.jpg,Hat,sku-2')
    assert list(open_sources([source])) == [Entry("sku-1", "/a.jpg"), Entry("sku-2", "/b.jpg")]


def test_a_quoted_field_may_hold_commas_quotes_and_line_breaks(write: Write) -> None:
    source = write('image_key,uri\n"a ""1"", b\nc","/x,y.jpg"\n')
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
        keys(source)


HEAD = b"image_key,uri\n"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"sku,url\na,b\n", 1, "needs one column image_key and one uri; found 'sku', 'url'"),
        (b"image_key;uri\na;b\n", 1, "found 'image_key;uri'"),
        (b"image_key,uri,uri\na,b,c\n", 1, "needs one column uri"),
        ("image_key,uri\nä,b\n".encode("utf-16"), 1, "is not UTF-8"),
        (HEAD + b"a,/a\nb\xe4r,/b\n", 3, "is not UTF-8 at byte 2"),
        (HEAD + b"a,/a\n,/b\n", 3, "image_key is empty"),
        (HEAD + b"a,/a\nb,\n", 3, "uri of 'b' is empty"),
        (HEAD + b"a,/a\nb, \n", 3, "uri of 'b' is empty"),
        (HEAD + b"a,/a\nb,/b\na,/c\n", 4, "image_key 'a' is already in {source}:2"),
        (HEAD + b'a,/a\nb,"/b"x\n', 3, "is not CSV"),
        (HEAD + b'a,/a\nb,"/b\nc,/c\n', 3, "not closed): unexpected end of data"),
        (HEAD + b"a,/a\nb,/\0b\n", 3, "NUL byte"),
        (HEAD + b"a,/a,1\n", 2, "has 3 fields, the header 2; a field with a comma needs quotes"),
        (HEAD + b"a\n", 2, "has 1 fields"),
        (HEAD + b"a,/a\n" + b"k" * 513 + b",/b\n", 3, "image_key has 513 characters"),
        (HEAD + b"a,/a\nb,/" + b"u" * 4096 + b"\n", 3, "uri of 'b' has 4097 characters"),
        (HEAD + b"a,/a\nb,/" + b"u" * 70_000 + b"\n", 3, "is longer than 65536 bytes"),
        (HEAD + b'a,/a\nb,"/b\n' + b"c,/c\n" * 20_000, 3, "or a quote is not closed"),
        (HEAD + b"a,file:///etc/passwd\n", 2, "'file' is not supported"),
        (HEAD + b"a,s3://bucket/a.jpg\n", 2, "'s3' is not supported"),
        (HEAD + b"a,data:image/png;base64,AAAA\n", 2, "has 3 fields"),
        (HEAD + b'a,"data:image/png;base64,AAAA"\n', 2, "'data' is not supported"),
        (HEAD + b"a,https:///a.jpg\n", 2, "names no host"),
        (HEAD + b"a,https://[::1\n", 2, "names no host"),
        (b"image_key,uri\ra,/a\rb,/b\r", 1, "is not CSV"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_told_with_file_and_line(
    write: Write, content: bytes, line: int, message: str
) -> None:
    source = write(content)
    told = error_of(source)
    assert told.startswith(f"{source}:{line}: ")
    assert message.format(source=source) in told
    assert len(told) < 3000


@pytest.mark.parametrize("content", [b"", b"\n\n", HEAD, HEAD + b"\r\n"])
def test_an_empty_manifest_is_nothing_to_do(write: Write, content: bytes) -> None:
    source = write(content)
    with pytest.raises(NothingToDo, match=r"shop\.csv: the manifest holds no entries"):
        keys(source)


def test_a_line_without_end_does_not_fill_memory(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    with source.open("wb") as file:
        file.write(HEAD + b"a,/")
        file.truncate(10 * 2**30)  # sparse: ten gigabytes of NUL without a line break
    tracemalloc.start()
    try:
        assert "is longer than 65536 bytes" in error_of(source)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_the_same_key_in_two_sources_is_an_error_that_names_both(tmp_path: Path) -> None:
    make_files(tmp_path, "old/x.jpg", "new/x.jpg")
    (tmp_path / "shop.csv").write_text("image_key,uri\ny.jpg,/y.jpg\nx.jpg,/x.jpg\n")
    old, new, shop = tmp_path / "old", tmp_path / "new", tmp_path / "shop.csv"
    assert error_of(old, new) == f"{new}: image_key 'x.jpg' is already in {old}"
    assert error_of(old, shop) == f"{shop}:3: image_key 'x.jpg' is already in {old}"
    assert error_of(shop, old) == f"{old}: image_key 'x.jpg' is already in {shop}:3"


def test_several_sources_follow_each_other(tmp_path: Path) -> None:
    make_files(tmp_path, "a/2.jpg", "b/1.jpg")
    assert keys(tmp_path / "a", tmp_path / "b") == ["2.jpg", "1.jpg"]


def test_check_reports_every_problem_of_every_source(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    source = write(HEAD + b'a,/a\n,/b\nb\xe4r,/c\nd,"/d"x\ne,s3://e\na,/f\ng,/g\n')
    findings = check([source, str(tmp_path / "empty"), str(tmp_path / "nothing")])
    assert findings.entries == 2
    assert [problem.place.removeprefix(source) for problem in findings.problems[:5]] == [":3", ":4", ":5", ":6", ":7"]
    assert [problem.empty for problem in findings.problems] == [False] * 5 + [True, False]
    assert findings.problem_count == 7


def test_check_keeps_the_first_hundred_problems_and_counts_the_others(write: Write) -> None:
    findings = check([write(HEAD + b",/a\n" * 250)])
    assert (len(findings.problems), findings.problem_count, findings.entries) == (100, 250, 0)


def test_check_of_a_good_source_finds_nothing(write: Write) -> None:
    findings = check([write(HEAD + b"a,/a\nb,/b\n")])
    assert (findings.entries, findings.problems, findings.problem_count) == (2, (), 0)


def test_roots_are_the_folders_that_the_user_named(tmp_path: Path) -> None:
    make_files(tmp_path, "shop/a.jpg", "list/shop.csv", "one/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    real = tmp_path.resolve()
    sources = [tmp_path / name for name in ("shop", "link", "list/shop.csv", "one/b.jpg")]
    assert roots_of([str(source) for source in sources]) == (real / "shop", real / "list", real / "one" / "b.jpg")


def test_reading_takes_few_bytes_an_entry(write: Write) -> None:
    source = write(HEAD + b"".join(b"product-image-%08d,/i/%d.jpg\n" % (number, number) for number in range(20_000)))
    entries = open_sources([source])
    next(entries)
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries) == 19_999
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


def test_keys_in_the_same_bucket_are_told_apart_and_found_again() -> None:
    seen = seen_keys.SeenKeys(["s"])
    seen._buckets = [bytearray()] * 2**16  # all keys share one bucket
    assert all(seen.first_place(f"key-{number}", 0, number) is None for number in range(1, 500))
    assert [seen.first_place(f"key-{number}", 0, 999) for number in (1, 250, 499)] == ["s:1", "s:250", "s:499"]


printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
image_keys = printable.filter(lambda text: text.strip())
uris = st.one_of(image_keys.map(lambda text: f"/{text}"), image_keys.map(lambda text: f"https://shop.example/{text}"))


@settings(max_examples=200, deadline=None)
@given(
    entries=st.lists(st.builds(Entry, image_keys, uris), min_size=1, unique_by=lambda entry: entry.image_key),
    note=printable,
    quoted=st.booleans(),
)
def test_what_csv_writer_wrote_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], note: str, quoted: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["uri", "note", "image_key"])
    writer.writerows([entry.uri, note, entry.image_key] for entry in entries)
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode())
    assert list(open_sources([str(path)])) == entries


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_entries_or_problems_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(HEAD + content)
    findings = check([str(path)])
    assert findings.problem_count == len(findings.problems)
