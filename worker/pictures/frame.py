"""The edge of a picture: whether it is white, and whether a frame or bars are drawn around the picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.images.image import Pixels
from worker.pictures.product import edge_of

#: least value of each of R, G and B of what counts as white: JPEG changes pure white by a few levels
WHITE = 250
#: widest frame that is looked for, as a share of the side
_WIDEST = 0.2
#: most standard deviation of the luma along a line of a frame, in levels
_UNIFORM = 6.0
#: least difference of luma across the edge of a frame, in levels, and the share of the line that has it
_STEP, _ALONG = 20.0, 0.9


def white_border(rgb: Pixels) -> float:
    """Return the share of the pixels along the edge that are white."""
    return float((rgb[edge_of(rgb.shape)].min(axis=1) >= WHITE).mean())


def frame_width(rgb: Pixels) -> float:
    """Return the width of the widest frame, or pair of bars, as a share of the shorter side; 0 without one.

    A frame is of one color, and ends in a straight edge along the whole picture. White around a product is its
    background and no frame.
    """
    if white_border(rgb) >= _ALONG:
        return 0.0
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    short = min(luma.shape)
    pairs = ((luma, luma[::-1]), (luma.T, luma.T[::-1]))
    return float(max(min(_bar(one), _bar(other)) for one, other in pairs) / short)


def _bar(lines: NDArray[np.float32]) -> int:
    """Return how many of the first lines, float32 [N, M], are a bar."""
    most = max(2, round(_WIDEST * len(lines)))
    bar = 0
    while bar < most and lines[bar].std() < _UNIFORM and abs(lines[bar].mean() - lines[0].mean()) < _UNIFORM:
        bar += 1
    if not 0 < bar < most:
        return 0
    beyond = lines[min(bar + 1, len(lines) - 1)]  # resizing mixes one line
    inner = beyond[bar + 1 : -bar - 1]  # of a frame, the other two sides are at the ends
    outer = np.concatenate([beyond[: bar - 1], beyond[len(beyond) - bar + 1 :]])
    changed = np.abs(inner - lines[0].mean()) > _STEP
    if changed.mean() < _ALONG:
        return 0
    ends = np.abs(outer - lines[0].mean()) > _STEP
    return bar if not len(ends) or ends.mean() >= _ALONG or ends.mean() <= 1 - _ALONG else 0
