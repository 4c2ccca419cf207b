"""Write results as tasks of Label Studio with predictions, and the labeling configuration that they fit."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from producer.output.extra_columns import titles
from producer.output.full_size_masks import runs
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import MasksAs, WriteOptions, image_location
from producer.output.writers.json_document import write_list
from producer.output.writers.label_studio.brush import encode_brush
from producer.output.writers.label_studio.outlines import Points, outlines
from tagmill.extra import parse_extra
from tagmill.images.preprocess import PreprocessSpec, source_box
from tagmill.records import Mask
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named
from tagmill.tasks.masks import decode_mask, digits_of

#: the name of the image's tag in the configuration
_IMAGE = "image"
#: fields of a task's data that are no columns of the manifest
_DATA = ("image", "image_key", "run")
#: score from which on a label is given, if its model has several labels an image and no thresholds
_LIKELY = 0.5

Item = dict[str, Any]


def write_label_studio(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions) -> int:
    """Write a list of tasks, one for each image that was tagged. Return their number."""
    controls = _controls(about)
    names = titles(about.extra_columns, _DATA)
    count = 0

    def tasks() -> Iterator[Item]:
        nonlocal count
        for found in results:
            if found.width is not None:
                count += 1
                yield _task(found, controls, names, options)

    write_list(tasks(), out)
    out.write(b"\n")
    return count


def labeling_configuration(about: ResultSet, options: WriteOptions) -> bytes:
    """Return the labeling configuration of a project for these tasks, as XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=_IMAGE, value="$image", zoom="true")
    for name, model in dict(about.models).items():
        control, task = {"name": _controls(about)[name], "toName": _IMAGE}, task_named(model.task)
        ElementTree.SubElement(view, "Header", value=name)
        if task.gives_masks:
            kind = "BrushLabels" if options.masks_as is MasksAs.BRUSH else "PolygonLabels"
            element, child = ElementTree.SubElement(view, kind, control), "Label"
        else:
            control["choice"] = "multiple" if task.multilabel else "single"
            element, child = ElementTree.SubElement(view, "Choices", control, showInline="true"), "Choice"
        for label in model.labels:
            if label != model.spec.get("background"):
                ElementTree.SubElement(element, child, value=label)
    ElementTree.indent(view)
    found: bytes = ElementTree.tostring(view, encoding="utf-8")
    return found + b"\n"


def _controls(about: ResultSet) -> dict[str, str]:
    """Return the name of each model's tag in the configuration."""
    return {name: _tag_name(name) for name in dict(about.models)}


def _tag_name(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name and name != _IMAGE else f"{plain}-{digits_of(name)}"


def _task(found: ImageResult, controls: Mapping[str, str], names: Mapping[str, str], options: WriteOptions) -> Item:
    extra = {names.get(name, name): value for name, value in parse_extra(found.extra).items()}
    place = image_location(found.uri, options)
    task: Item = {"data": {"image": place, "image_key": found.image_key, "run": found.run_id} | extra}
    items: list[Item] = []
    scores: list[float] = []
    for name, model in found.models.items():
        for item, score in _items(found, name, model, options):
            items.append({"id": f"r{len(items)}", "from_name": controls[name], "to_name": _IMAGE} | item)
            scores.append(score)
    if items:
        # Label Studio shows one prediction at a time: all models share it. By its score, the least certain come first.
        version = " ".join(model.title for model in found.models.values())
        task["predictions"] = [{"model_version": version, "score": min(scores), "result": items}]
    return task


def _items(found: ImageResult, name: str, model: Model, options: WriteOptions) -> Iterator[tuple[Item, float]]:
    """Yield the regions and choices of a model, each with its score."""
    if given := _given(found.labels.get(name, []), model):
        choices = {"type": "choices", "value": {"choices": [label for label, _ in given]}}
        yield choices, min(score for _, score in given)
    size = {"original_width": found.width, "original_height": found.height, "image_rotation": 0}
    for mask in found.masks.get(name, []):
        for kind, value in _regions(mask, model, found, options.masks_as):
            yield {"type": kind, "score": mask.score, "value": {**value, kind: [mask.label]}} | size, mask.score


def _given(labels: list[tuple[str, float]], model: Model) -> list[tuple[str, float]]:
    """Return the labels that the model gives the image."""
    if not task_named(model.task).multilabel:
        return labels[:1]
    least: Mapping[str, float] = model.spec.get("thresholds") or {}
    return [one for one in labels if one[1] >= least.get(one[0], _LIKELY)]


def _regions(mask: Mask, model: Model, found: ImageResult, masks_as: MasksAs) -> Iterator[tuple[str, Item]]:
    assert found.width is not None, "a tagged image has a size"
    assert found.height is not None, "a tagged image has a size"
    if masks_as is MasksAs.POLYGON:
        for points in outlines(decode_mask(mask.rle, mask.height, mask.width)):
            yield "polygonlabels", {"points": _percent(points, model, found.width, found.height), "closed": True}
        return
    starts, ends = runs(mask, model, found.width, found.height, by_column=False)
    if len(starts):
        yield "brushlabels", {"format": "rle", "rle": encode_brush(starts, ends, found.width * found.height)}


def _percent(points: Points, model: Model, width: int, height: int) -> list[list[float]]:
    """Return corners of the model's pixels in percent of the image."""
    spec = PreprocessSpec.from_dict(model.spec["preprocess"])
    left, top, right, bottom = source_box(width, height, spec)
    scale = np.array([(right - left) / spec.width, (bottom - top) / spec.height])
    at = (np.array([left, top]) + points * scale) / np.array([width, height]) * 100
    found: list[list[float]] = at.clip(0, 100).round(3).tolist()
    return found
