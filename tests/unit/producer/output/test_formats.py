"""What each format of `tagmill results` holds of tagged and failed images."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from support.results import EXTRA, FAILED, MASK, MASKS, MODELS, TAGGED

from producer.output.formats import WRITERS, FileFormat, Format
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from producer.output.writers.mask_png_writer import index_map
from tagmill.tasks.masks import decode_mask


def written(form: Format, images: Sequence[ImageResult] = (TAGGED, FAILED), **options: Any) -> str:
    about = ResultSet(MODELS, lambda: iter(images), runs=[7], find_columns=lambda: EXTRA)
    out, writer = io.BytesIO(), WRITERS[form]
    assert isinstance(writer, FileFormat)
    assert writer.write(about, about, out, WriteOptions(**options)) == len(images)
    return out.getvalue().decode()


def test_csv_has_one_row_per_image_with_the_columns_of_each_model_and_of_the_manifest() -> None:
    header, tagged, failed = written(Format.CSV).splitlines()
    facts = "image_key,uri,status,error_code,error_detail,sha256,width,height,run"
    assert header == f"{facts},shirts.label,shirts.score,masks.masks,brand,price,extra.label"
    assert tagged == f"a,/a.jpg,tagged,,,{'3' * 64},60,90,7,red,0.750000,hat:0.1250,\uc0c1\uc810,9.5,'=1"
    assert failed == "b,/b.jpg,failed,not_found,'-no file,,,,7,,,,,,"


def test_a_long_csv_has_one_row_per_label_and_mask_and_one_for_a_failed_image() -> None:
    rows = list(csv.DictReader(io.StringIO(written(Format.CSV, long=True))))
    chosen = ("image_key", "model", "version", "rank", "label", "score", "area_share", "price")
    assert [tuple(row[name] for name in chosen) for row in rows] == [
        ("a", "shirts", "3", "1", "red", "0.750000", "", "9.5"),
        ("a", "shirts", "3", "2", "blue", "0.250000", "", "9.5"),
        ("a", "masks", "1", "1", "hat", "0.750000", "0.1250", "9.5"),
        ("b", "", "", "", "", "", "", ""),
    ]
    assert (rows[3]["status"], rows[3]["error_code"]) == ("failed", "not_found")


def test_jsonl_has_one_object_per_image_with_labels_columns_and_masks_at_its_size() -> None:
    tagged, failed = map(json.loads, written(Format.JSONL).splitlines())
    best = [{"label": "red", "score": 0.75}, {"label": "blue", "score": 0.25}]
    assert tagged["models"]["shirts"] == {"version": 3, "labels": best}
    (mask,) = tagged["models"]["masks"]["masks"]
    assert (mask["label"], mask["score"], mask["area_share"]) == ("hat", 0.75, 0.125)
    pixels = decode_mask(mask["rle"]["counts"], *mask["rle"]["size"])
    assert np.array_equal(pixels, index_map([MASK], MASKS, 60, 90) == 1)
    rows, columns = np.nonzero(pixels)
    assert mask["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert tagged["extra"] == {"brand": "\uc0c1\uc810", "price": 9.5, "label": "=1"}
    assert (failed["status"], failed["error_code"], failed["models"]) == ("failed", "not_found", {})
    assert (failed["run"], failed["extra"]) == (7, {})


def test_a_model_that_found_nothing_is_named_in_jsonl() -> None:
    (found,) = map(json.loads, written(Format.JSONL, [replace(TAGGED, masks={})]).splitlines())
    assert found["models"]["masks"] == {"version": 1}
