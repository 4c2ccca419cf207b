"""Tasks of Label Studio: their shape, and what Label Studio's own SDK says of them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from support.image_fixtures import square
from support.label_studio_sdk import sdk_folder
from support.results import EXTRA, FAILED, MASK, MASKS, MODELS, SHIRTS, TAGGED

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import Named, ResultSet
from producer.output.writers.base import MasksAs, WriteOptions
from producer.output.writers.label_studio.brush import encode_brush
from producer.output.writers.label_studio.label_studio_writer import labeling_configuration, write_label_studio
from producer.output.writers.label_studio.outlines import outlines
from producer.output.writers.mask_png_writer import index_map

MANY = replace(SHIRTS, id=9, name="many tags", task="multilabel", spec={"thresholds": {"blue": 0.2}})

#: run by the SDK's environment: validates the tasks, and decodes the first brush stroke
CHECK = """
import json, sys
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
given = json.load(sys.stdin)
problems = []
for configuration, tasks in given["projects"]:
    interface = LabelInterface(configuration)
    for task in tasks:
        if not interface.validate_task({"data": task["data"]}):
            problems.append("data")
        for found in task["predictions"]:
            problems += map(str, interface.validate_prediction(found, return_errors=True))
decoded = [decode_rle(rle).tolist() for rle in given["strokes"]]
print(json.dumps([problems, decoded]))
"""


def tasks(images: Sequence[ImageResult], models: Named = MODELS, **options: Any) -> list[dict[str, Any]]:
    about, out = ResultSet(models, lambda: iter(images), find_columns=lambda: EXTRA), io.BytesIO()
    count = write_label_studio(about, about, out, WriteOptions(**options))
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    assert len(found) == count
    return found


def configuration(models: Named = MODELS, masks_as: MasksAs = MasksAs.BRUSH) -> str:
    return labeling_configuration(ResultSet(models, lambda: iter(())), WriteOptions(masks_as=masks_as)).decode()


def decoded(stroke: Sequence[int]) -> list[int]:
    """Return the values of a brush stroke, as the format is described."""
    bits, at = "".join(f"{byte:08b}" for byte in stroke), 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    count, word = read(32), read(5) + 1
    sizes, values = [read(4) + 1 for _ in range(4)], []
    while len(values) < count:
        assert read(1) == 1
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length
    assert at <= len(bits) < at + 8
    return values


@given(st.lists(st.integers(0, 40), min_size=2, max_size=30).filter(any), st.sampled_from([1, 7, 20_000]))
def test_brush_strokes_hold_runs_of_any_length(lengths: list[int], scale: int) -> None:
    bounds = np.cumsum(np.array(lengths) * (scale if len(lengths) < 4 else 1))
    starts, ends = bounds[:-1:2], bounds[1::2]
    pixels = int(bounds[-1])
    expected = np.zeros((pixels, 4), dtype=np.uint8)
    for start, end in zip(starts, ends, strict=False):
        expected[start:end] = 255
    if pixels:
        assert decoded(encode_brush(starts[: len(ends)], ends, pixels)) == expected.ravel().tolist()


def test_a_task_has_the_data_of_the_image_and_one_prediction_of_all_models() -> None:
    (task,) = tasks([FAILED, TAGGED])
    assert task["data"] == {
        "image": "/a.jpg",
        "image_key": "a",
        "run": 7,
        "brand": "\uc0c1\uc810",
        "price": 9.5,
        "label": "=1",
    }
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("shirts@3 masks@1", 0.75)
    choice, stroke = prediction["result"]
    assert (choice["from_name"], choice["to_name"], choice["type"]) == ("shirts", "image", "choices")
    assert choice["value"] == {"choices": ["red"]}
    assert (stroke["type"], stroke["original_width"], stroke["original_height"]) == ("brushlabels", 60, 90)
    assert stroke["value"]["brushlabels"] == ["hat"]
    pixels = np.array(decoded(stroke["value"]["rle"])).reshape(90, 60, 4)[:, :, 3] == 255
    assert np.array_equal(pixels, index_map([MASK], MASKS, 60, 90) == 1)


def test_a_model_with_several_labels_an_image_gives_those_that_reach_their_thresholds() -> None:
    labels = [("red", 0.45), ("blue", 0.25)]
    image = replace(TAGGED, labels={"many tags": labels}, masks={}, models={"many tags": MANY})
    (task,) = tasks([image], (("many tags", MANY),))
    (item,) = task["predictions"][0]["result"]
    assert item["value"] == {"choices": ["blue"]}
    (task,) = tasks([replace(image, labels={"many tags": labels[:1]})], (("many tags", MANY),))
    assert "predictions" not in task


def test_polygons_show_the_mask_within_a_pixel_of_the_model() -> None:
    (task,) = tasks([TAGGED], masks_as=MasksAs.POLYGON)
    (region,) = [one for one in task["predictions"][0]["result"] if one["type"] == "polygonlabels"]
    assert region["value"]["closed"]
    canvas = Image.new("1", (60, 90))
    corners = [(x * 60 / 100, y * 90 / 100) for x, y in region["value"]["points"]]
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    pixels = index_map([MASK], MASKS, 60, 90) == 1
    assert (np.asarray(canvas) != pixels).mean() < 0.03
    assert len(corners) == 4


def test_outlines_are_the_parts_of_a_mask_without_its_holes() -> None:
    shape = (square(2, 2, 20, 30) | square(40, 40, 60, 60)) & ~square(5, 5, 10, 10)
    shape[20, 30] = shape[63, 63] = 1  # one touches a part at its corner, the other is alone
    found = outlines(shape.astype(bool))
    assert [len(points) for points in found] == [4, 4]
    assert found[0].tolist() == [[2, 2], [30, 2], [30, 20], [2, 20]]
    assert outlines(np.zeros((4, 4), dtype=bool)) == []
    (alone,) = outlines(np.ones((1, 1), dtype=bool))
    assert sorted(alone.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_slanted_edge_has_few_points() -> None:
    rows, columns = np.mgrid[:64, :64]
    (points,) = outlines(columns <= rows)
    assert len(points) <= 6


def test_the_sdk_of_label_studio_accepts_tasks_and_configurations_and_decodes_strokes() -> None:
    projects, strokes = [], []
    several = (*MODELS, ("many tags", MANY))
    labels = {**TAGGED.labels, "many tags": [("red", 0.9), ("blue", 0.4)]}
    image = replace(TAGGED, labels=labels, models={**TAGGED.models, "many tags": MANY})
    for masks_as in MasksAs:
        made = tasks([image], several, masks_as=masks_as)
        projects.append((configuration(several, masks_as), made))
        strokes += [one["value"]["rle"] for one in made[0]["predictions"][0]["result"] if "rle" in one["value"]]
    wrong = tasks([replace(image, labels={"shirts": [("green", 0.9)]})], several)
    projects.append((configuration(several), wrong))
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps({"projects": projects, "strokes": strokes}),
        env={**os.environ, "PYTHONPATH": str(sdk_folder())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems, values = json.loads(done.stdout.splitlines()[-1])  # the SDK prints which packages it misses
    assert len(problems) == 1
    assert "green" in problems[0]
    assert len(strokes) == 1
    pixels = np.array(values[0]).reshape(90, 60, 4)[:, :, 3] == 255
    assert np.array_equal(pixels, index_map([MASK], MASKS, 60, 90) == 1)
