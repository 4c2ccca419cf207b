"""Resize pixels."""

import cv2

from tagmill.images.image import Pixels

#: shrinking by this factor or more averages areas
_AREA_FROM = 2.0

# Images are small and already decoded on many threads.
cv2.setNumThreads(1)


def resize(source: Pixels, target: Pixels) -> None:
    """Fill `target` with `source`, both uint8 [H, W, 3]. Shrinking by 2 or more averages areas, else bilinear."""
    height, width = target.shape[:2]
    shrinks = max(source.shape[0] / height, source.shape[1] / width)
    method = cv2.INTER_AREA if shrinks >= _AREA_FROM else cv2.INTER_LINEAR
    if target.flags.c_contiguous:
        cv2.resize(source, (width, height), dst=target, interpolation=method)
    else:
        target[:] = cv2.resize(source, (width, height), interpolation=method)
