"""Read the names of the labels of a graph: a text file, JSON, or the configuration of a Hugging Face model."""

import ast
import json
from pathlib import Path
from typing import Any

from tagmill.errors import InputError
from tagmill.text import normalize


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the labels of a file in the order of the graph's outputs, each in its one spelling.

    It holds a label a line, a JSON list, a JSON object from number to label, or such an object under `id2label` or
    `label_names`, as Hugging Face's config.json does. Raise InputError for anything else, and for a label that is
    there twice.
    """
    found = tuple(map(normalize, _read(path)))
    if not found:
        raise InputError(f"--labels {path}: is empty; write a label a line, in the order of the graph's outputs")
    places: dict[str, int] = {}
    for number, label in enumerate(found):
        if label in places:
            raise InputError(
                f"--labels {path}: label {label!r} is there twice, as number {places[label]} and {number} from 0; each "
                "may be there only once, so give one another name"
            )
        places[label] = number
    return found


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise InputError(f"--labels {path}: {reason}; name a file with a label a line") from error
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in {"[", "{"}:
        try:
            return labels_of(json.loads(text))
        except ValueError as error:
            raise InputError(f"--labels {path}: {error}") from error
    found = [line.strip() for line in text.splitlines()]
    return tuple(line for line in found if line)


def labels_of(value: Any) -> tuple[str, ...]:
    """Return the labels of parsed JSON. Raise ValueError if it holds none."""
    if isinstance(value, dict):
        for key in ("id2label", "label_names"):
            if key in value:
                return labels_of(value[key])
        try:
            numbered = {int(number): str(label) for number, label in value.items()}
        except ValueError as error:
            raise ValueError("its keys are not the numbers of labels") from error
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(f"its numbers are not 0 to {len(numbered) - 1}")
        return tuple(numbered[number] for number in range(len(numbered)))
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return tuple(value)
    raise ValueError("it is neither a list of labels nor an object from number to label")


def names_in_metadata(metadata: dict[str, str]) -> tuple[str, ...]:
    """Return the labels in the `names` of Ultralytics' metadata, a printed dict of Python; () if there are none.

    It is parsed as a literal, never run (docs.ultralytics.com, modes/export).
    """
    try:
        return labels_of(ast.literal_eval(metadata["names"]))
    except (KeyError, ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
