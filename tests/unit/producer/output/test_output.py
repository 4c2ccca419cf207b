"""Where results are written: folders of shards, and that nothing is left of what was not written as a whole."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, FileFormat, Format
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from tagmill.errors import InputError

CSV = WRITERS[Format.CSV]


def images(count: int) -> Iterator[ImageResult]:
    return (ImageResult(at, f"key-{at}", f"/{at}.jpg", "pending", *(None,) * 5) for at in range(count))


def shards(folder: Path, count: int, each: int | None) -> int:
    return write_results(ResultSet((), lambda: images(count)), CSV, f"{folder}/", WriteOptions(), each)


def rows(folder: Path) -> list[list[str]]:
    """Return the keys in each file, and check that all have the header."""
    found = [path.read_text().splitlines() for path in sorted(folder.glob("*.csv"))]
    assert all(lines[0].startswith("image_key,uri") for lines in found)
    return [[line.split(",")[0] for line in lines[1:]] for lines in found]


@pytest.mark.parametrize(("count", "each", "sizes"), [(5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, None, [3]), (0, 2, [0])])
def test_shards_have_at_most_so_many_images_in_their_order(
    tmp_path: Path, count: int, each: int | None, sizes: list[int]
) -> None:
    folder = tmp_path / "new" / "tags"
    assert shards(folder, count, each) == count
    assert [len(keys) for keys in rows(folder)] == sizes
    assert list(chain.from_iterable(rows(folder))) == [f"key-{at}" for at in range(count)]
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{at:05}.csv" for at in range(len(sizes))]


def test_shards_of_an_earlier_export_are_replaced_and_other_files_stay(tmp_path: Path) -> None:
    shards(tmp_path, 9, 2)
    (tmp_path / "notes.txt").write_text("mine")
    shards(tmp_path, 3, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "part-00000.csv", "part-00001.csv"]


def test_a_folder_stays_as_it_was_if_the_writing_fails(tmp_path: Path) -> None:
    shards(tmp_path, 5, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail() -> Iterator[ImageResult]:
        yield from images(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_results(ResultSet((), fail), CSV, str(tmp_path), WriteOptions(), 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/tags: Not a directory; name another folder"):
        shards(tmp_path / "file" / "tags", 1, None)


def test_a_writer_leaves_its_file_open(tmp_path: Path) -> None:
    for form in WRITERS.values():
        if isinstance(form, FileFormat):
            out = io.BytesIO()
            about = ResultSet((), lambda: images(1))
            form.write(about, about, out, WriteOptions())
            assert out.getvalue()
