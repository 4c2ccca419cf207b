"""Write results as JSON Lines, one object per image."""

import json
from collections.abc import Iterable, Sequence
from typing import TextIO

from producer.results.read import ImageResult
from tagmill.registry.models import Model


def write_jsonl(results: Iterable[ImageResult], _names: Sequence[tuple[str, Model]], out: TextIO) -> int:
    """Write one JSON object per line and image. Return the number of images.

    The names of the models are keys of each object already.
    """
    count = 0
    for result in results:
        out.write(json.dumps(result.to_json()) + "\n")
        count += 1
    return count
