"""Labeled images as the JSON that Label Studio exports, with what people chose for each (labelstud.io, Export)."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tagmill.errors import InputError, NothingToDo
from training.annotations.image_files import Found, Tagged, locate, merged
from training.annotations.json_fields import field
from training.annotations.types import Labels

#: what Label Studio puts before the name of an uploaded file
UPLOAD = re.compile(r"^[0-9a-f]{8}-")


def read_label_studio(path: Path, tasks: list[Any]) -> Found:
    """Return the image and the choices of each task that a person finished; of several annotations the newest.

    Tasks that nobody annotated, and skipped ones, are left out. Raises InputError with the task's number.
    """
    pictures, waiting = [], 0
    for number, task in enumerate(tasks):
        place = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        done = [entry for entry in field(task, "annotations", list, place) if not _skipped(entry)]
        if not done:
            waiting += 1
            continue
        picture = _picture(path, field(task, "data", dict, place), place)
        newest = max(done, key=lambda entry: str(entry.get("updated_at") or ""))
        pictures.append(Tagged(picture, _choices(newest, place), place))
    if not pictures:
        raise NothingToDo(f"{path}: none of its {len(tasks)} tasks is annotated")
    remarks = (f"{path}: {waiting} tasks that nobody finished are left out",) if waiting else ()
    return Found(merged(pictures, path), remarks=remarks)


def _skipped(annotation: Any) -> bool:
    return not isinstance(annotation, dict) or bool(annotation.get("was_cancelled"))


def _choices(annotation: dict[str, Any], place: str) -> Labels:
    found: list[str] = []
    for result in field(annotation, "result", list, place):
        if isinstance(result, dict) and result.get("type") == "choices":
            choices = field(field(result, "value", dict, place), "choices", list, place)
            if not all(isinstance(choice, str) for choice in choices):
                raise InputError(f"{place}: a choice is not text; this kind of choices is not read")
            found += choices
    return tuple(dict.fromkeys(found))


def _picture(path: Path, data: dict[str, Any], place: str) -> Path:
    """Return the file of the task's image: what `image` names, or the only text of its data."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    uri = texts.get("image") or (next(iter(texts.values())) if len(texts) == 1 else None)
    if not uri:
        raise InputError(f"{place}: its data has no image")
    return locate(_names(uri), [path.parent, path.parent / "images"], place)


def _names(uri: str) -> list[str]:
    """Return where the file may be. Label Studio serves local storage and uploads below addresses of its own."""
    parts = urlsplit(uri)
    if parts.path == "/data/local-files/" and (local := parse_qs(parts.query).get("d")):
        return [local[0], f"/{local[0]}"]
    if parts.path.startswith("/data/upload/"):
        name = parts.path.rpartition("/")[2]
        return [name, UPLOAD.sub("", name)]
    return [uri]
