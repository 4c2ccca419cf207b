"""Small WebP images of a bounded number of bytes."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits

#: bytes of all thumbnails of a page together, before they become text
TOTAL_BYTES = 14_000_000
#: (least bytes that an image may take, pixels of its longer side)
SIDES = ((16_000, 400), (8_000, 288), (4_000, 208), (2_400, 160), (0, 112))
#: qualities that are tried, the best first
QUALITIES = (80, 65, 50, 35, 20, 8)
#: WebP's effort, 0 to 6
EFFORT = 3


@dataclass(frozen=True)
class ThumbnailSize:
    """How large the thumbnails of a page may be."""

    #: pixels of the longer side
    side: int
    #: bytes of a thumbnail
    most: int

    @classmethod
    def for_images(cls, images: int) -> "ThumbnailSize":
        """Return the size with which the thumbnails of so many images take no more than `TOTAL_BYTES`."""
        most = min(24_000, TOTAL_BYTES // max(1, images))
        return cls(next(side for least, side in SIDES if most >= least), most)


def thumbnail(data: bytes, size: ThumbnailSize, limits: DecodeLimits) -> bytes:
    """Return a WebP of an image file, upright and in sRGB. Raise ImageFailure if it cannot be decoded."""
    image = Image.fromarray(np.ascontiguousarray(decode(data, size.side, limits).rgb))
    image.thumbnail((size.side, size.side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    for quality in QUALITIES:
        out = io.BytesIO()
        image.save(out, "WEBP", quality=quality, method=EFFORT)
        if out.tell() <= size.most:
            break
    return out.getvalue()
