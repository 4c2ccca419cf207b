"""The page: the figures as tables and charts, and pictures that the models do not agree on."""

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from producer.model_diff.figures import Example, ModelDiff
from producer.model_diff.tables import index, truth_line
from producer.report.preview.image_bytes import ImageReader
from producer.report.preview.thumbnails import ThumbnailSize, thumbnail
from producer.report.preview.unreadable import UnreadableError
from tagmill.errors import InputError
from tagmill.files import open_atomic
from tagmill.images.image import DecodeLimits
from tagmill.locations.redact import shown_uri
from tagmill.outcomes import ImageFailure
from tagmill.pages.templating import render
from tagmill.settings import Settings
from tagmill.tasks.base import Headline

#: threads that read pictures: more than cores, because servers are waited for
_THREADS = 16
_FOLDER = Path(__file__).parent / "templates"
#: labels of a picture that are shown
_LABELS = 3


@dataclass(frozen=True)
class Written:
    """A page that was written."""

    #: examples, and those of them that could be read
    examples: int
    pictures: int


@dataclass(frozen=True)
class Picture:
    """An example as the page shows it."""

    example: Example
    uri: str
    #: a WebP as a data: URL; empty if it could not be read, for which `note` says why
    source: str
    note: str


def write_page(found: ModelDiff, out: Path, settings: Settings) -> Written:
    """Write the page. Raise InputError if it cannot be written."""
    pictures = list(_pictures(found, settings))
    values: dict[str, Any] = {
        "diff": found,
        "tiles": list(_tiles(found)),
        "said_truth": truth_line(found) if found.truth else "",
        "pairs": list(_pairs(pictures)),
        "most_of_bins": max((*found.scores.bins_a, *found.scores.bins_b, 1)),
        "index": index,
        "most": _LABELS,
        "version": version("tagmill"),
    }
    style = render(_FOLDER / "diff.css", {})
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = render(_FOLDER / "diff.html.j2", {**values, "policy": policy, "style": style})
    try:
        with open_atomic(out) as file:
            file.write(page.encode())
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}") from error
    return Written(len(pictures), sum(bool(one.source) for one in pictures))


def _pictures(found: ModelDiff, settings: Settings) -> Iterator[Picture]:
    reader = ImageReader(settings, _THREADS)
    limits = DecodeLimits(settings.max_image_pixels, settings.max_image_frames)
    size = ThumbnailSize.for_images(max(1, len(found.examples)))

    def make(example: Example) -> Picture:
        source, note = "", ""
        try:
            data = thumbnail(reader.read(example.uri, example.sha256), size, limits)
            source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        except UnreadableError as error:
            note = str(error)
        except ImageFailure as failure:
            note = f"cannot be decoded here: {failure.code}"
        return Picture(example, shown_uri(example.uri), source, note)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="thumbnail") as pool:
        yield from pool.map(make, found.examples)


def _tiles(found: ModelDiff) -> Iterator[Headline]:
    whole, scores = found.agreement, found.scores
    low, high = whole.interval
    yield Headline("agreement", f"{whole.share:.1%}", f"{low:.1%} to {high:.1%} with 95% certainty")
    yield Headline("images", f"{whole.images:,}", "that both have a result of")
    yield Headline("different", f"{whole.images - whole.same:,}", f"by {found.compared}")
    if scores.difference is not None and scores.interval is not None:
        said = f"{scores.interval[0]:+.3f} to {scores.interval[1]:+.3f} with 95% certainty"
        yield Headline("mean score", f"{scores.difference:+.3f}", said)
    if found.truth is not None and found.truth.figures.images:
        figures = found.truth.figures
        low, high = figures.interval
        said = f"points, {100 * low:+.1f} to {100 * high:+.1f} with 95% certainty"
        yield Headline("accuracy", f"{100 * figures.difference:+.1f}", said)


def _pairs(pictures: list[Picture]) -> Iterator[tuple[str, str, list[Picture]]]:
    """Yield what A and B say, and the pictures of which they say it, in their order."""

    def answers(one: Picture) -> tuple[str, str]:
        return _words(one.example.a), _words(one.example.b)

    for (a, b), of_pair in groupby(pictures, answers):
        yield a, b, list(of_pair)


def _words(given: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(sorted(label for label, _ in given)) or "nothing"
