"""One image file as a source."""

from pathlib import Path

from support.sources import make_files

from producer.sources.open import open_sources
from tagmill.records import Entry


def test_a_single_image_is_a_source(tmp_path: Path) -> None:
    make_files(tmp_path, "Red Shoe.JPG")
    path = tmp_path / "Red Shoe.JPG"
    assert list(open_sources([str(path)])) == [Entry("Red Shoe.JPG", str(path.resolve()))]
