"""Read labeled images from a JSON export of Label Studio, with the choices of its annotators (labelstud.io, Export)."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tagmill.errors import InputError, NothingToDo
from training.annotations.image_files import LabeledImage, LabeledImages, locate, merge_labels
from training.annotations.json_fields import field
from training.annotations.types import Labels

#: prefix that Label Studio adds to the name of an uploaded file
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def read_label_studio(path: Path, tasks: list[Any]) -> LabeledImages:
    """Return the image and the choices of each finished task; the newest of several annotations counts.

    Tasks without an annotation and skipped tasks are left out. Raise InputError with the number of the task.
    """
    images, unfinished = [], 0
    for number, task in enumerate(tasks):
        place = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        done = [entry for entry in field(task, "annotations", list, place) if not _skipped(entry)]
        if not done:
            unfinished += 1
            continue
        image = _image_file(path, field(task, "data", dict, place), place)
        newest = max(done, key=lambda entry: str(entry.get("updated_at") or ""))
        images.append(LabeledImage(image, _choices(newest, place), place))
    if not images:
        raise NothingToDo(f"{path}: none of its {len(tasks)} tasks is annotated")
    notes = (f"{path}: {unfinished} tasks that nobody finished are left out",) if unfinished else ()
    return LabeledImages(merge_labels(images, path), notes=notes)


def _skipped(annotation: Any) -> bool:
    return not isinstance(annotation, dict) or bool(annotation.get("was_cancelled"))


def _choices(annotation: dict[str, Any], place: str) -> Labels:
    labels: list[str] = []
    for result in field(annotation, "result", list, place):
        if isinstance(result, dict) and result.get("type") == "choices":
            choices = field(field(result, "value", dict, place), "choices", list, place)
            if not all(isinstance(choice, str) for choice in choices):
                raise InputError(f"{place}: a choice is not text; this kind of choices is not read")
            labels += choices
    return tuple(dict.fromkeys(labels))


def _image_file(path: Path, data: dict[str, Any], place: str) -> Path:
    """Return the image file of a task: its `image` field, or the only text field of its data."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    uri = texts.get("image") or (next(iter(texts.values())) if len(texts) == 1 else None)
    if not uri:
        raise InputError(f"{place}: its data has no image")
    return locate(_names(uri), [path.parent, path.parent / "images"], place)


def _names(uri: str) -> list[str]:
    """Return the names that the file may have. Label Studio has its own URLs for local storage and for uploads."""
    parts = urlsplit(uri)
    if parts.path == "/data/local-files/" and (local := parse_qs(parts.query).get("d")):
        return [local[0], f"/{local[0]}"]
    if parts.path.startswith("/data/upload/"):
        name = parts.path.rpartition("/")[2]
        return [name, UPLOAD_PREFIX.sub("", name)]
    return [uri]
