"""What CSV, TSV and JSON Lines share: delimiters, encodings, compression, columns, several images of a row, extras."""

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sources import error_of

from producer.sources.manifests.standard_input import _copy_of_input
from producer.sources.open import check, open_sources, roots_of
from producer.sources.options import ReadOptions
from tagmill.errors import InputError, NothingToDo
from tagmill.records import Entry
from tagmill.where import Where

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Write = Callable[[str, bytes | str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest of this name and return its path."""

    def write_file(name: str, content: bytes | str) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


def read(source: str, **options: Any) -> list[tuple[str, str]]:
    """Return key and location of each entry."""
    found = open_sources([source], options=ReadOptions(**options))
    return [(entry.image_key, entry.uri) for entry in found]


def extras(source: str, **options: Any) -> list[object]:
    """Return the further columns of each entry."""
    found = open_sources([source], options=ReadOptions(**options))
    return [None if entry.extra is None else json.loads(entry.extra) for entry in found]


def error_of_options(source: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **options)
    return str(caught.value)


ROWS = "image_key,uri,brand\na,/a,Nike\nb,/b,\n"
OBJECTS = '{"image_key":"a","uri":"/a","brand":"Nike"}\n\n{"uri":"/b","image_key":"b","brand":null}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ROWS.encode()),
        ("a.CSV.GZ", gzip.compress(ROWS.encode(), mtime=0)),
        ("a.csv.zst", zstd.compress(ROWS.encode())),
        ("hidden.csv", zstd.compress(ROWS.encode())),
        ("semicolons.csv", ROWS.replace(",", ";").encode()),
        ("excel.csv", b"\xef\xbb\xbfsep=;\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n").encode()),
        ("tabs.csv", ROWS.replace(",", "\t").encode()),
        ("a.tsv", ROWS.replace(",", "\t").encode()),
        ("unicode text.txt", ROWS.replace(",", "\t").encode("utf-16")),
        ("empty lines.csv", (ROWS + ",,\n\n,,\n").encode()),
        ("a.jsonl", OBJECTS.encode()),
        ("a.ndjson.gz", gzip.compress(OBJECTS.encode(), mtime=0)),
        ("a.jsonl.zst", zstd.compress(OBJECTS.encode())),
        ("marked.jsonl", OBJECTS.encode("utf-8-sig")),
        ("google.txt", b"id\timage link\tbrand\na\t/a\tNike\nb\t/b\t\n"),
        ("case.csv", b"ID,URL,brand\na,/a,Nike\nb,/b,\n"),
    ],
)
def test_the_same_entries_are_read_from_every_format(write: Write, name: str, content: bytes) -> None:
    source = write(name, content)
    assert list(open_sources([source])) == [Entry("a", "/a", '{"brand":"Nike"}'), Entry("b", "/b")]
    assert extras(source, keep_extra=False) == [None, None]


def test_a_comma_in_a_header_with_semicolons_does_not_mislead(write: Write) -> None:
    source = write("a.csv", 'image_key;"size, cm";uri\na;1,5;/a\n')
    assert read(source) == [("a", "/a")]
    assert extras(source) == [{"size, cm": "1,5"}]


def test_the_delimiter_can_be_named(write: Write) -> None:
    assert read(write("a.csv", "key|uri\na|/a,b\n"), delimiter="|") == [("a", "/a,b")]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp949", "나이키 에어맥스 운동화"),
        ("cp932", "ナイキ エアマックス レディース"),
        ("gb18030", "耐克运动鞋女式衬衫"),
        ("cp1252", "Schuhe für Männer, Größe"),
        ("cp1251", "кроссовки мужские"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_another_encoding_is_named_by_the_error_and_read_with_the_option(
    write: Write, encoding: str, text: str, suffix: str
) -> None:
    rows = [f"key-{number},/{number},{text}" for number in range(3)]
    objects = [
        json.dumps({"key": f"key-{number}", "uri": f"/{number}", "t": text}, ensure_ascii=False) for number in (0, 1, 2)
    ]
    lines = objects if suffix == "jsonl" else ["key,uri,t", *(f'"{row}"'.replace(",", '","', 2) for row in rows)]
    source = write(f"a.{suffix}", "\n".join(lines).encode(encoding))
    message = error_of(source)
    assert "is not UTF-8 at byte" in message
    assert message.endswith(f"of the line; it looks like {encoding}: add --encoding {encoding}")
    assert extras(source, encoding=encoding) == [{"t": text}] * 3


def test_a_broken_character_in_utf8_is_not_taken_for_another_encoding(write: Write) -> None:
    assert error_of(write("a.csv", "key,uri\né,/a\n".encode() + b"caf\xe9,/b\n")).endswith(
        ":3: is not UTF-8 at byte 4 of the line"
    )


def test_bytes_that_a_named_encoding_lacks_are_reported_with_their_line(write: Write) -> None:
    source = write("a.csv", b"key,uri\na,/\xff\xff\nb,/b\n")
    report = check([source], ReadOptions(encoding="cp949"))
    assert [str(problem) for problem in report.problems] == [f"{source}:2: is not cp949 at character 4 of the line"]
    assert report.entries == 1


def test_utf16_without_a_byte_order_mark_needs_its_order(write: Write) -> None:
    source = write("a.csv", ROWS.encode("utf-16-le"))
    assert "write utf-16-le or utf-16-be" in error_of_options(source, encoding="utf-16")
    assert read(source, encoding="utf-16-le") == [("a", "/a"), ("b", "/b")]


def test_a_damaged_zstd_file_is_an_error(write: Write) -> None:
    data = zstd.compress("".join(f"{number},/{number * 7919}.jpg\n" for number in range(5000)).encode())
    with pytest.raises((InputError, NothingToDo), match="damaged"):
        read(write("a.csv.zst", data[: len(data) // 2]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"id":"b"}', "uri of 'b' is empty"),
        ('{"uri":"/b"}', "image_key is empty"),
        ('{"id":1.5,"uri":"/b"}', "image_key is neither text nor a whole number"),
        ('{"id":"b","uri":{}}', "uri is neither text nor a list of texts"),
        ('{"id":"b","uri":"/\\u0000"}', "NUL"),
        ('{"id":"b\\udce9","uri":"/b"}', "not UTF-8"),
    ],
)
def test_a_mistake_in_json_lines_is_reported_with_its_line(write: Write, line: str, message: str) -> None:
    source = write("a.jsonl", f'{{"id":"a","uri":"/a"}}\n{line}\n{{"id":"c","uri":"/c"}}\n')
    report = check([source])
    (problem,) = report.problems
    assert str(problem).startswith(f"{source}:2: ")
    assert message in str(problem)
    assert report.entries == 2


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), encoding=st.sampled_from([None, "cp949", "utf-16", "utf-16-le"]))
def test_any_bytes_give_entries_or_problems_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, encoding: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b'{"id":"a","uri":["/a"]}\n' + content)
    report = check([str(path)], ReadOptions(encoding=encoding))
    assert report.problem_count >= len(report.problems)


def test_json_lines_keep_their_types_and_what_sql_cannot_store_is_cleaned(write: Write) -> None:
    source = write(
        "a.jsonl",
        '{"id":7,"uri":"/a","n":1,"f":1.5,"x":NaN,"b":true,"l":[1,{"a":null}],"s":"a\\u0000b","u":"\\udce9"}\n',
    )
    (entry,) = open_sources([source])
    assert entry.image_key == "7"
    columns = json.loads(entry.extra or "")
    assert columns.pop("u").strip("\ufffd") == ""
    assert columns == {"n": 1, "f": 1.5, "b": True, "l": [1, {"a": None}], "s": "ab"}


def test_too_many_further_columns_are_a_problem_that_names_the_option(write: Write) -> None:
    source = write("a.csv", f"id,uri,text\na,/a,{'x' * 20_000}\n")
    assert ":2: its other columns have 20011 bytes" in error_of(source)
    assert read(source, keep_extra=False) == [("a", "/a")]


def test_of_two_columns_that_fit_the_first_name_is_taken_and_told(write: Write) -> None:
    source, notes = write("a.csv", "url,id,uri,key\n/no,a,/yes,k\n"), []
    assert read(source, tell=notes.append) == [("a", "/yes")]
    assert notes == [
        f"{source}: takes the column uri, not url; choose with --uri-column",
        f"{source}: takes the column id, not key; choose with --key-column",
    ]
    assert read(source, key_column="key", uri_columns=("url",)) == [("k", "/no")]
    assert extras(source) == [{"url": "/no", "key": "k"}]


def test_one_column_may_be_key_and_location(write: Write) -> None:
    assert read(write("a.csv", "url\nhttps://a.example/1\n"), key_column="url") == [("https://a.example/1",) * 2]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", 'id,uri\na,"/1,/2, /3"\nb,/4\n', {"split": ","}),
        ("a.csv", 'id,uri\na,"[""/1"",""/2"",""/3""]"\nb,/4\n', {}),
        ("a.jsonl", '{"id":"a","uri":["/1","/2","/3"]}\n{"id":"b","uri":"/4"}\n', {}),
        (
            "a.tsv",
            "id\timage_link\tadditional_image_link\na\t/1\t/2,/3\nb\t/4\t\n",
            {"uri_columns": ("image_link", "additional_image_link"), "split": ","},
        ),
    ],
)
def test_several_images_of_one_row_have_keys_that_stay_when_the_list_grows(
    write: Write, name: str, content: str, options: dict[str, object]
) -> None:
    assert read(write(name, content), **options) == [("a", "/1"), ("a#2", "/2"), ("a#3", "/3"), ("b", "/4")]


def test_a_separator_inside_a_url_does_not_split_it(write: Write) -> None:
    source = write("a.csv", 'id,url\na,"https://a.example/w_2,h_3/1.jpg, http://a.example/2.jpg,,"\n')
    assert read(source, split=",") == [("a", "https://a.example/w_2,h_3/1.jpg"), ("a#2", "http://a.example/2.jpg")]


def test_a_file_name_in_brackets_is_no_list(write: Write) -> None:
    assert read(write("a.csv", "id,uri\na,/[1]\nb,[2]\n"), split=None)[0] == ("a", "/[1]")


def test_where_leaves_out_rows_before_their_mistakes_count(write: Write) -> None:
    source = write("a.csv", "id,uri,brand\na,/a,Nike\nb,,\nc,/c,Adidas\nd,/d,Nike\n")
    assert read(source, where=Where.parse(["brand=Nike"])) == [("a", "/a"), ("d", "/d")]
    assert read(source, where=Where.parse(["uri"])) == [("a", "/a"), ("c", "/c"), ("d", "/d")]
    # A condition works without keeping what it is on.
    assert extras(source, where=Where.parse(["brand=Nike"]), keep_extra=False) == [None, None]


def test_where_that_nothing_meets_is_nothing_to_do_and_an_unknown_column_is_told(write: Write) -> None:
    source, notes = write("a.csv", "id,uri,brand\na,/a,Nike\n"), []
    with pytest.raises(NothingToDo, match="no entry meets --where"):
        read(source, where=Where.parse(["brnad=Nike"]), tell=notes.append)
    assert notes == [f"{source}: has no column 'brnad' for --where; found 'id', 'uri', 'brand'"]


def test_a_column_of_later_objects_only_can_be_filtered_on(write: Write) -> None:
    source, notes = write("a.jsonl", '{"id":"a","uri":"/a"}\n{"id":"b","uri":"/b","brand":"Nike"}\n'), []
    assert read(source, where=Where.parse(["brand=Nike"]), tell=notes.append) == [("b", "/b")]
    assert notes == []


def test_an_unclosed_quote_is_one_problem(write: Write) -> None:
    source = write("a.csv", 'id,uri\na,"/a\n' + "b,/b\n" * 300_000)
    assert [str(problem)[len(source) :] for problem in check([source]).problems] == [
        ":2: is longer than 1048576 bytes, or a quote is not closed"
    ]


def test_a_closed_standard_input_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    _copy_of_input.cache_clear()
    with pytest.raises(InputError, match=r"^-: standard input is closed"):
        read("-")


def test_standard_input_is_read_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(zstd.compress(OBJECTS.replace("/", "").encode()))))
    _copy_of_input.cache_clear()
    for _ in range(2):  # `tagmill tag` reads its sources twice
        assert read("-", format="jsonl") == [("a", f"{tmp_path.resolve()}/a"), ("b", f"{tmp_path.resolve()}/b")]
    assert roots_of(["-"]) == (tmp_path.resolve(),)
    _copy_of_input.cache_clear()


def test_a_format_can_be_named_for_files_of_any_name(write: Write) -> None:
    source = write("feed.dat", OBJECTS)
    assert "--format" in error_of(source)
    assert [key for key, _ in read(source, format="jsonl")] == ["a", "b"]
