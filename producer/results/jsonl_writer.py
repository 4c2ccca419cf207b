"""Write results as JSON Lines."""

import json
from collections.abc import Iterable
from typing import TextIO

from producer.results.read import ImageResult


def write_jsonl(results: Iterable[ImageResult], out: TextIO) -> int:
    """Write one JSON object a line, one line an image; return how many."""
    count = 0
    for result in results:
        out.write(json.dumps(result.to_json()) + "\n")
        count += 1
    return count
