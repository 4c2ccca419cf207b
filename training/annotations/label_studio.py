"""Read labeled images from a JSON export of Label Studio, with the choices of its annotators (labelstud.io, Export)."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from tagmill.errors import InputError, NothingToDo
from tagmill.text import is_utf8, legible, normalize, trim
from training.annotations.image_files import ImageFinder, LabeledImage, LabeledImages, merge_labels
from training.annotations.json_fields import LeftOut, field
from training.annotations.types import Labels

#: prefix that Label Studio adds to the name of an uploaded file
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
#: the file in the query of a URL of local storage
_LOCAL_FILE = re.compile(r"(?:^|&)d=([^&]*)")


def read_label_studio(path: Path, tasks: list[Any]) -> LabeledImages:
    """Return the image and the choices of each finished task; the newest of several annotations counts.

    Tasks without an annotation, skipped tasks and wrong tasks are left out and counted. Raise InputError with the
    number of the first task if all are wrong.
    """
    finder = ImageFinder([path.parent, path.parent / "images"])
    images, unfinished, left_out = [], 0, LeftOut(path, "tasks")
    for number, task in enumerate(tasks):
        place = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        try:
            done = [entry for entry in _annotations(task, place) if not entry.get("was_cancelled")]
            if not done:
                unfinished += 1
                continue
            image = finder.locate(_names(task, field(task, "data", dict, place), place), place)
            newest = max(done, key=lambda entry: str(entry.get("updated_at") or ""))
            images.append(LabeledImage(image, _choices(newest, place), place))
        except InputError as error:
            left_out.add(error)
    if not images:
        left_out.raise_first()
        raise NothingToDo(f"{path}: none of its {len(tasks)} tasks is annotated")
    notes = (f"{path}: {unfinished} tasks that nobody finished are left out",) if unfinished else ()
    return LabeledImages(merge_labels(images, path), notes=(*notes, *left_out.notes()))


def _annotations(task: Any, place: str) -> list[dict[str, Any]]:
    annotations = field(task, "annotations", list, place)
    if not all(isinstance(entry, dict) for entry in annotations):
        raise InputError(f"{place}: an annotation is not an object")
    return annotations


def _choices(annotation: dict[str, Any], place: str) -> Labels:
    labels: list[str] = []
    for result in field(annotation, "result", list, place):
        if not isinstance(result, dict):
            raise InputError(f"{place}: a result is not an object")
        if result.get("type") == "choices":
            choices = field(field(result, "value", dict, place), "choices", list, place)
            if not all(isinstance(choice, str) for choice in choices):
                raise InputError(f"{place}: a choice is not text; this kind of choices is not read")
            labels += map(normalize, choices)
    return tuple(dict.fromkeys(label for label in labels if label))


def _names(task: dict[str, Any], data: dict[str, Any], place: str) -> list[str]:
    """Return the names that the image file of a task may have, best first.

    They are in the field `image` of its data, or in its only text, and in the task's `file_upload`.
    """
    texts = {name: trim(value) for name, value in data.items() if isinstance(value, str)}
    uri = texts.get("image") or (next(iter(texts.values())) if len(texts) == 1 else None)
    if not uri:
        raise InputError(f"{place}: its data has no image")
    if not is_utf8(uri):
        raise InputError(f"{place}: {legible(uri)} cannot be the name of a file")
    uploaded = task.get("file_upload")
    try:
        names = _names_of(uri) + (
            _uploaded(uploaded) if isinstance(uploaded, str) and uploaded and is_utf8(uploaded) else []
        )
    except ValueError as error:
        raise InputError(f"{place}: {legible(uri)} is not a URL: {error}") from error
    return list(dict.fromkeys(names))


def _names_of(uri: str) -> list[str]:
    """Return the names that a URI may stand for. Label Studio has its own URLs for local storage and for uploads."""
    parts = urlsplit(uri)
    if parts.path == "/data/local-files/" and (local := _LOCAL_FILE.search(parts.query)):
        names = (*_forms(local[1]), unquote_plus(local[1]))
        return [form for name in names for form in (name, f"/{name}")]
    if parts.path.startswith("/data/upload/"):
        return _uploaded(parts.path.rpartition("/")[2])
    return _forms(uri)


def _uploaded(name: str) -> list[str]:
    return [form for known in _forms(name) for form in (known, UPLOAD_PREFIX.sub("", known))]


def _forms(name: str) -> list[str]:
    """Return a name as it is, percent-decoded and percent-encoded: the disk may have any of them."""
    return [name, unquote(name), quote(name)]
