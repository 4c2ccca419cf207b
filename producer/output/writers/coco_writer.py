"""Write results as one COCO document: masks as annotations, labels of classifiers beside the images."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from producer.output.full_size_masks import full_size_masks
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions, image_location
from producer.output.writers.json_document import compact, write_list
from tagmill.extra import parse_extra
from tagmill.tasks.base import task_named

#: bytes of annotations that are kept in memory; more are in a temporary file until all images are written
_IN_MEMORY = 16 * 2**20
#: model name and label -> id of the category
Categories = dict[tuple[str, str], int]


def write_coco(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions) -> int:
    """Write the images that were tagged, and their masks at the size of each image. Return the number of images."""
    categories = categories_of(about)
    count = 0
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as annotations:

        def images() -> Iterator[dict[str, Any]]:
            nonlocal count
            written = 0
            for found in results:
                if found.width is None:
                    continue
                count += 1
                yield _image(found, count, options)
                for annotation in _annotations(found, count, categories):
                    written += 1
                    annotations.write((b",\n" if written > 1 else b"\n") + compact({"id": written, **annotation}))

        out.write(b'{"info":' + compact({"description": f"Tagmill results, {about.title}"}) + b',\n"licenses":[]')
        named = ({"id": at, "name": label, "supercategory": name} for (name, label), at in categories.items())
        out.write(b',\n"categories":')
        write_list(named, out)
        out.write(b',\n"images":')
        write_list(images(), out)
        out.write(b',\n"annotations":[')
        annotations.seek(0)
        shutil.copyfileobj(annotations, out)
        out.write(b"\n]}\n")
    return count


def categories_of(about: ResultSet) -> Categories:
    """Return the categories: the labels of each segmenter but its background, in their order, from 1."""
    pairs = [
        (name, label)
        for name, model in dict(about.models).items()
        if task_named(model.task).gives_masks
        for label in model.labels
        if label != model.spec.get("background")
    ]
    return {pair: number for number, pair in enumerate(pairs, 1)}


def _image(found: ImageResult, number: int, options: WriteOptions) -> dict[str, Any]:
    place = image_location(found.uri, options)
    url = {"coco_url": place} if "://" in place else {}
    return {
        "id": number,
        "file_name": place,
        "width": found.width,
        "height": found.height,
        **url,
        "image_key": found.image_key,
        "run": found.run_id,
        "sha256": found.sha256,
        "extra": parse_extra(found.extra),
        "labels": {
            name: [{"label": label, "score": score} for label, score in best] for name, best in found.labels.items()
        },
    }


def _annotations(found: ImageResult, image: int, categories: Categories) -> Iterator[dict[str, Any]]:
    for name in found.masks:
        for mask in full_size_masks(found, name):
            if mask.area:  # a mask may vanish in an image that is smaller than the model's input
                yield {
                    "image_id": image,
                    "category_id": categories[name, mask.label],
                    "bbox": mask.box,
                    "area": mask.area,
                    "iscrowd": 0,
                    "score": mask.score,
                    "segmentation": {"size": [mask.height, mask.width], "counts": mask.rle},
                }
