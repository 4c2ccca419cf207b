"""Parquet manifests: types, lists of images, images inside the file, mistakes, memory."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sources import error_of

from producer.sources.manifests.parquet_file.embedded import file_name
from producer.sources.open import check, open_sources, roots_of
from producer.sources.options import ReadOptions
from tagmill.errors import ConfigurationError, InputError
from tagmill.records import Entry
from tagmill.where import Where

JPEG = b"\xff\xd8\xffrest"


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(tmp_path / "shop.parquet")


def write(source: str, columns: dict[str, object], **options: Any) -> None:
    """Write a table of these columns."""
    pq.write_table(pa.table(columns), source, **options)


def read(source: str, **options: Any) -> list[Entry]:
    return list(open_sources([source], options=ReadOptions(**options)))


def test_keys_locations_and_further_columns_are_read_over_several_row_groups(source: str) -> None:
    write(source, {"id": range(5), "price": [1.5] * 5, "url": [f"/{n}" for n in range(5)]}, row_group_size=2)
    assert read(source) == [Entry(str(n), f"/{n}", '{"price":1.5}') for n in range(5)]
    assert read(source, keep_extra=False, where=Where.parse(["price>1", "image_key=3"])) == [Entry("3", "/3")]


def test_rows_without_any_further_value_are_rows(source: str) -> None:
    write(source, {"id": ["a", "b", "c"], "uri": ["/a", "/b", "/c"], "brand": [None, "Nike", None]})
    assert read(source) == [Entry("a", "/a"), Entry("b", "/b", '{"brand":"Nike"}'), Entry("c", "/c")]


def test_values_keep_their_types(source: str) -> None:
    texts = pa.array(['say "hi"\n\\', "plain", None])
    when = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
    columns = {
        "id": ["a", "b", "c"],
        "uri": ["/a", "/b", "/c"],
        "text": texts,
        "word": texts.dictionary_encode(),
        "count": pa.array([1, 2, None], pa.int16()),
        "share": [0.1, float("nan"), float("inf")],
        "single": pa.array([0.1, None, 1e20], pa.float32()),
        "flag": [True, False, None],
        "price": [Decimal("12.50"), Decimal("-0.01"), None],
        "day": [date(2026, 1, 2), None, None],
        "naive": [when.replace(tzinfo=None), None, None],
        "zoned": pa.array([when, None, None], pa.timestamp("ms", "Asia/Seoul")),
        "took": [timedelta(seconds=90), None, None],
        "tags": [["a", "b"], [], None],
        "box": [{"x": 1, "y": None}, None, None],
        "thumbnail": [b"x", b"y", b"z"],
        "nothing": pa.nulls(3),
        "nanoseconds": pa.array([1_000_000_001, None, None], pa.duration("ns")),
        '"odd": \x07': [1, None, None],
    }
    write(source, columns)
    first, second, third = (json.loads(entry.extra or "{}") for entry in read(source))
    assert first == {
        "text": 'say "hi"\n\\',
        "word": 'say "hi"\n\\',
        "count": 1,
        "share": 0.1,
        "single": 0.1,
        "flag": True,
        "price": 12.5,
        "day": "2026-01-02",
        "naive": "2026-01-02T03:04:05.600000",
        "zoned": "2026-01-02T12:04:05.600+09:00",
        "took": 90.0,
        "tags": ["a", "b"],
        "box": {"x": 1, "y": None},
        "nanoseconds": 1.0,
        '"odd": \x07': 1,
    }
    assert second == {"text": "plain", "word": "plain", "count": 2, "flag": False, "price": -0.01, "tags": []}
    assert third == {"single": 1e20}


def test_keys_that_pandas_made_floating_point_numbers_are_whole_numbers(source: str) -> None:
    write(source, {"id": [1.0, 2.0, None], "uri": ["/a", "/b", "/c"]})
    report = check([source])
    assert [str(problem) for problem in report.problems] == [f"{source}:3: image_key is empty"]
    assert report.entries == 2


def test_a_key_may_be_a_decimal_without_a_fraction(source: str) -> None:
    write(source, {"id": pa.array([Decimal(7)], pa.decimal128(38, 0)), "uri": ["/a"]})
    assert read(source) == [Entry("7", "/a")]


def test_a_list_column_is_several_images(source: str) -> None:
    write(source, {"id": ["a", "b"], "image": [["/1", None, "/2"], ["/3"]]})
    assert [(entry.image_key, entry.uri) for entry in read(source)] == [("a", "/1"), ("a#2", "/2"), ("b", "/3")]


def test_text_that_is_not_utf8_is_cleaned_in_further_columns_and_a_problem_in_others(source: str) -> None:
    def broken(text: bytes) -> pa.Array:
        return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(text)])

    write(source, {"id": ["a"], "uri": ["/a"], "note": broken(b"caf\xe9")})
    assert json.loads(read(source)[0].extra or "") == {"note": "caf\ufffd"}
    write(source, {"id": ["a"], "uri": broken(b"/c\xe9/")})
    assert ":1: the file name is not UTF-8" in error_of(source)
    write(source, {"id": broken(b"caf\xe9"), "uri": ["/a"]})
    assert ":1: image_key is not UTF-8" in error_of(source)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"sku": ["a"], "link": ["/a"]},
            "has no column uri, url, path, image, image_link or file_name; found 'sku', 'link'",
        ),
        ({"sku": ["a"], "uri": ["/a"]}, "has no column image_key, id or key; found 'sku', 'uri'"),
        ({"id": [True], "uri": ["/a"]}, "its column of keys holds bool"),
        ({"id": [1.5], "uri": ["/a"]}, "1.5"),
        ({"id": ["a"], "uri": [1]}, "its column 'uri' holds int64, not locations"),
        (
            {"id": ["a"], "uri": ["/a"], "x": pa.array([[1]], pa.list_(pa.timestamp("ns")))},
            "a column holds list<element: timestamp[ns]>, with values that cannot be kept: add --no-extra",
        ),
        ({"id": ["a"], "uri": ["/a"], "text": ["x" * 20_000]}, ":1: its other columns have 20011 bytes"),
    ],
)
def test_a_mistake_names_the_file_and_the_column_or_row(source: str, columns: dict[str, object], message: str) -> None:
    write(source, columns)
    assert message in error_of(source)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"no parquet", lambda data: b""])
def test_a_damaged_file_is_an_error(source: str, damage: Callable[[bytes], bytes]) -> None:
    write(source, {"id": ["a"], "uri": ["/a"]})
    path = Path(source)
    path.write_bytes(damage(path.read_bytes()))
    assert "is no Parquet file, or damaged" in error_of(source)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_changed_byte_gives_entries_or_problems_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.parquet"
    write(str(path), {"id": [f"k{n}" for n in range(90)], "uri": ["/a"] * 90, "brand": ["Größe", "Nike", None] * 30})
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    report = check([str(path)])
    assert report.problem_count >= len(report.problems)


def test_without_pyarrow_the_error_names_the_extra(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(source).touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "producer.sources.manifests.parquet_file.read", raising=False)
    monkeypatch.delitem(sys.modules, "producer.sources.manifests.parquet_file.arrow_json", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'tagmill\[parquet\]'"):
        read(source)


def test_images_inside_the_file_are_written_as_files_named_by_their_keys(source: str, tmp_path: Path) -> None:
    image = pa.array(
        [{"bytes": JPEG, "path": "a.jpg"}, {"bytes": b"\x89PNG", "path": None}, {"bytes": None, "path": "b.jpg"}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    write(source, {"id": ["shop/1", "../2", "3"], "image": image, "label": [0, 1, 2]})
    folder = tmp_path / "images"
    with pytest.raises(InputError, match="name a folder with --extract"):
        read(source)
    assert check([source], ReadOptions(extract=folder)).entries == 3
    assert not folder.exists()  # a dry run writes nothing
    found = read(source, extract=folder)
    assert [Path(entry.uri).relative_to(tmp_path.resolve()).as_posix() for entry in found] == [
        "images/shop%2F1.jpg",
        "images/%2E.%2F2.png",
        "b.jpg",
    ]
    assert Path(found[0].uri).read_bytes() == JPEG
    assert found[0].extra == '{"label":0}'
    assert roots_of([source], ReadOptions(extract=folder)) == (tmp_path.resolve(), folder.resolve())
    # What is left out is not written.
    read(source, extract=tmp_path / "one", where=Where.parse(["label=1"]))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["%2E.%2F2.png"]
    # Workers know a file that has not changed by its times.
    before = Path(found[0].uri).stat()
    read(source, extract=folder)
    assert Path(found[0].uri).stat() == before


def test_images_inside_a_file_without_keys_are_named_by_their_paths_or_rows(source: str, tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": JPEG, "path": "a.jpg"}, {"bytes": JPEG, "path": None}], kind)
    write(source, {"image": image})
    assert [entry.image_key for entry in read(source, extract=tmp_path / "images")] == ["a.jpg", "shop/2"]


@pytest.mark.parametrize(
    ("key", "name"),
    [("a.jpg", "a.jpg"), ("a", "a.jpg"), ("..", "%2E..jpg"), ("", ".jpg"), ("né/\0", "n%C3%A9%2F%00.jpg")],
)
def test_a_key_as_a_file_name_stays_in_its_folder(key: str, name: str) -> None:
    assert file_name(key, 0, JPEG) == name
    assert len(file_name("é" * 512, 1, JPEG)) < 100


def test_memory_does_not_grow_with_the_rows(source: str) -> None:
    count = 100_000
    columns = {
        "id": [f"key-{n:08d}" for n in range(count)],
        "uri": [f"https://a.example/{n:08d}.jpg" for n in range(count)],
        "text": [f"{n}" * 30 for n in range(count)],
    }
    write(source, columns, compression="none", use_dictionary=False)
    del columns
    held = 0
    before = pa.total_allocated_bytes()
    for number, _ in enumerate(open_sources([source])):
        if not number % 1_000:
            held = max(held, pa.total_allocated_bytes() - before)
    # The file has 25 MB in one row group.
    assert number == count - 1
    assert held < 12 * 2**20
