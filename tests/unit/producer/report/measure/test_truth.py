"""What is true of images, from CSV and JSON lines."""

from pathlib import Path

import pytest

from producer.report.measure.truth import read_truth
from tagmill.errors import InputError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "image_key,label\nx,hat\ny,\n", {"x": ("hat",)}),
        ("a.csv", "\ufeffcategory,key\nhat | shoe,x\nshoe,x2\n", {"x": ("hat", "shoe"), "x2": ("shoe",)}),
        ("a.jsonl", '{"id": 7, "label": "hat"}\n\n{"id": 8, "label": ["a", "b"]}\n', {"7": ("hat",), "8": ("a", "b")}),
        ("a.csv", "image_key,label,status,error_code,sha256\n'=x,'=hat,,,\n", {"=x": ("=hat",)}),
    ],
    ids=["csv", "several labels", "json lines", "a file of tagmill results"],
)
def test_labels_are_read_by_key(tmp_path: Path, name: str, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_truth(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"name,label\nx,hat\n", "has no column image_key or key or id; it has name, label"),
        ("a.csv", b"image_key,label\nx,hat\nx,shoe\n", ":3: 'x' has another label above"),
        ("a.csv", b"image_key,label\nx,\n", "no image has a label"),
        ("a.csv", b"image_key,label\nx,caf\xe9\n", "is not UTF-8"),
        ("a.jsonl", b"[1]\n", ":1: is not a JSON object"),
        ("a.jsonl", b"x\n", ":1: is not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_truth(tmp_path / name)
