"""Rows and thumbnails of the images that a page shows, made by several threads, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from producer.output.image_result import ImageResult
from producer.report.preview.image_bytes import ImageReader
from producer.report.preview.thumbnails import ThumbnailSize, thumbnail
from producer.report.preview.unreadable import UnreadableError
from producer.report.rows import RowWriter
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ImageFailure
from tagmill.settings import Settings

#: threads that read and shrink images: more than cores, because servers are waited for
THREADS = 16
#: images in work, so that memory does not grow with the page
AHEAD = 64


class Preview(NamedTuple):
    """One image of the page."""

    #: its row of data
    row: list[Any]
    #: a WebP; empty if there is none
    thumbnail: bytes
    #: whether it was tagged, and could not be read again
    unreadable: bool


def previews_of(
    results: Iterable[ImageResult],
    rows: RowWriter,
    size: ThumbnailSize,
    settings: Settings,
    advance: Callable[[], None],
) -> Iterator[Preview]:
    """Yield the row and the WebP of each image, b"" where it has none. `advance` is called for each."""
    reader = ImageReader(settings, THREADS)
    limits = DecodeLimits(settings.max_image_pixels, settings.max_image_frames)

    def make(result: ImageResult) -> Preview:
        data, note = b"", ""
        if result.sha256 is not None:
            try:
                data = thumbnail(reader.read(result.uri, result.sha256), size, limits)
            except UnreadableError as error:
                note = str(error)
            except ImageFailure as failure:
                note = f"cannot be decoded here: {failure.code}"
        return Preview(rows.row(result, note), data, note != "")

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="thumbnail")
    waiting: deque[Future[Preview]] = deque()
    try:
        for result in results:
            waiting.append(pool.submit(make, result))
            if len(waiting) >= AHEAD:
                yield waiting.popleft().result()
                advance()
        while waiting:
            yield waiting.popleft().result()
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
