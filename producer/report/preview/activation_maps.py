"""Activation maps as the page gets them: few cells as text, and where they are in the image."""

import base64

import cv2
import numpy as np

from producer.report.preview.outlines import Detail
from tagmill.images.preprocess import PreprocessSpec, source_box
from tagmill.records import ActivationMap

#: most cells along a side: a page must not grow too large
MOST_CELLS = 16


def shown_map(found: ActivationMap, spec: PreprocessSpec, width: int, height: int, detail: Detail) -> list[str | int]:
    """Return the map of a width x height image: its levels in Base64, its columns and rows, and its box in units.

    The box (left, top, width, height) is that of the model's input, in the units of `view_box`. That of a letterbox is
    larger than the image.
    """
    levels = np.frombuffer(found.levels, np.uint8).reshape(found.height, found.width)
    most = min(MOST_CELLS, detail.units // 16)
    rows, columns = min(found.height, most), min(found.width, most)
    if (rows, columns) != levels.shape:
        levels = np.asarray(cv2.resize(levels, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    left, top, right, bottom = (value * detail.units / max(width, height) for value in source_box(width, height, spec))
    box = [round(value) for value in (left, top, right - left, bottom - top)]
    return [base64.b64encode(levels.tobytes()).decode(), columns, rows, *box]
