"""Write results as datasets of FiftyOne, one folder per model: its classification format, or COCO for masks."""

from collections.abc import Iterable
from typing import Any, BinaryIO

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import Folder, WriteOptions, image_location
from producer.output.writers.coco_writer import write_coco
from producer.output.writers.json_document import compact
from producer.output.writers.mask_png_writer import safe_folder
from producer.output.writers.one_model import of_one_model
from tagmill.extra import parse_extra
from tagmill.tasks.base import task_named


def write_fiftyone(about: ResultSet, folder: Folder, options: WriteOptions) -> int:
    """Write MODEL/labels.json for each model. Return the number of images, each as often as a model tagged it."""
    count = 0
    for name, model in dict(about.models).items():
        chosen = of_one_model(about, name)
        with folder.open(f"{safe_folder(name)}/labels.json") as out:
            write = write_coco if task_named(model.task).gives_masks else _write_classification
            count += write(chosen, chosen, out, options)
    return count


def _write_classification(
    results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions
) -> int:
    ((_, model), *_) = about.models
    several = task_named(model.task).multilabel
    out.write(b'{"classes":' + compact(model.labels) + b',\n"labels":{')
    count = 0
    for found in results:
        place = compact(image_location(found.uri, options))
        out.write((b",\n" if count else b"\n") + place + b":" + compact(_target(found, several)))
        count += 1
    out.write(b"\n}}\n")
    return count


def _target(found: ImageResult, several: bool) -> Any:
    attributes = {"image_key": found.image_key, "run": found.run_id, **parse_extra(found.extra)}
    targets = [
        {"label": label, "confidence": score, "attributes": attributes}
        for best in found.labels.values()
        for label, score in best
    ]
    if several:
        return targets
    return targets[0] if targets else None
