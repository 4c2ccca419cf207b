"""The formats of `tagmill results`."""

import io
import json
from dataclasses import replace

import pytest

from producer.results.formats import WRITERS, Format
from producer.results.read import ImageResult
from tagmill.records import Mask
from tagmill.registry.models import Model

MASK = Mask(label="hat", rle="00", height=8, width=4, area_share=0.25, box=(10.0, 20.0, 40.0, 80.0), score=0.9)
MODELS = [
    ("shirts", Model(1, "1" * 64, "shirts", 1, "classify", ("red",), {}, {}, "candidate")),
    ("masks", Model(2, "2" * 64, "masks", 1, "segment", ("hat",), {}, {}, "candidate")),
]
TAGGED = ImageResult(
    *(0, "a", "/a.jpg", "tagged", None, None, "3" * 64, 60, 90), {"shirts": [("red", 0.75)]}, {"masks": [MASK]}
)
FAILED = ImageResult(1, "b", "/b.jpg", "failed", "not_found", "no file", None, None, None)


def written(form: Format) -> str:
    out = io.StringIO(newline="")
    assert WRITERS[form]([TAGGED, FAILED], MODELS, out) == 2
    return out.getvalue()


@pytest.mark.parametrize("form", list(Format))
def test_every_format_has_a_writer_that_counts_the_images(form: Format) -> None:
    assert written(form)


def test_csv_has_one_row_per_image_and_the_columns_of_each_model() -> None:
    header, tagged, failed = written(Format.CSV).splitlines()
    assert header == "image_key,uri,status,error_code,sha256,width,height,shirts.label,shirts.score,masks.masks"
    assert tagged == f"a,/a.jpg,tagged,,{'3' * 64},60,90,red,0.750000,hat:0.2500"
    assert failed == "b,/b.jpg,failed,not_found,,,,,,"


def test_jsonl_has_one_object_per_image_with_labels_and_masks() -> None:
    tagged, failed = map(json.loads, written(Format.JSONL).splitlines())
    assert tagged["models"]["shirts"] == {"labels": [{"label": "red", "score": 0.75}]}
    rle = {"size": [8, 4], "counts": "00"}
    mask = {"label": "hat", "score": 0.9, "area_share": 0.25, "bbox": [10.0, 20.0, 30.0, 60.0], "rle": rle}
    assert tagged["models"]["masks"] == {"masks": [mask]}
    assert (failed["status"], failed["error_code"], failed["models"]) == ("failed", "not_found", {})


@pytest.mark.parametrize("form", list(Format))
def test_no_format_shows_a_signature_or_a_login(form: Format) -> None:
    signed = replace(TAGGED, uri="https://anna:s3cret@cdn.example/1.jpg?w=2&X-Amz-Signature=5ig")
    out = io.StringIO(newline="")
    WRITERS[form]([signed], MODELS, out)
    assert "https://***@cdn.example/1.jpg?w=2&X-Amz-Signature=***" in out.getvalue()
    assert "s3cret" not in out.getvalue()
    assert "5ig" not in out.getvalue()
