"""Write results as JSON Lines, one object per image, with everything that is known of it."""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from producer.output.full_size_masks import full_size_masks
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from tagmill.extra import parse_extra


def write_jsonl(results: Iterable[ImageResult], _about: ResultSet, out: BinaryIO, _options: WriteOptions) -> int:
    """Write one JSON object per line and image. Return the number of images."""
    count = 0
    for result in results:
        out.write(json.dumps(to_json(result)).encode("ascii") + b"\n")
        count += 1
    return count


def to_json(found: ImageResult) -> dict[str, Any]:
    """Return an image as JSON values, its masks at the size of the image."""
    facts = ("image_key", "uri", "status", "error_code", "error_detail", "sha256", "width", "height")
    values = {name: getattr(found, name) for name in facts}
    models = {name: _answer(found, name) for name in found.models}
    return values | {"run": found.run_id, "extra": parse_extra(found.extra), "models": models}


def _answer(found: ImageResult, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"version": found.models[name].version}
    if labels := found.labels.get(name):
        answer["labels"] = [{"label": label, "score": score} for label, score in labels]
    if name in found.masks:
        answer["masks"] = [mask.to_json() for mask in full_size_masks(found, name)]
    return answer
