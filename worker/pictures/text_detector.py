"""Find text on a picture with the detector that the package rapidocr ships, PP-OCR's, as an ONNX file.

The network says of each pixel how likely it belongs to text (Liao et al., Real-Time Scene Text Detection with
Differentiable Binarization, 2020). What is found are its connected areas above a threshold.
"""

import hashlib
import importlib.util
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.errors import BundleError, ConfigurationError
from tagmill.images.image import Pixels
from tagmill.images.preprocess import Geometry, PreprocessSpec, content_box
from tagmill.measuring import Measuring
from tagmill.records import ImageRow

if TYPE_CHECKING:
    import onnxruntime as ort

#: what the detector sees: the network takes multiples of 32
TEXT_PIXELS = PreprocessSpec(640, 640, Geometry.LETTERBOX)
#: stands for the detector where other workers are told what one lacks, as the sha256 of a bundle does
DETECTOR = hashlib.sha256(b"rapidocr").hexdigest()

_INSTALL = "text is found with rapidocr, which is not installed; run: pip install 'tagmill[picture-text]'"
#: least probability of a pixel of text, and least mean of a piece of it; chosen on other photos than those that
#: `python -m benchmarks.images.picture_text` measured
_PIXEL, _MEAN = 0.2, 0.5
#: least and most height of a piece of text, and least length, in pixels: what is higher is a product that the network
#: takes for a letter
_LEAST, _MOST, _LENGTH = 4, 48, 12
#: the network marks the inner part of text, which is smaller on each side by this share of its height
_SHRUNK = 0.35
_lock = threading.Lock()


class Text(NamedTuple):
    """The text on a picture."""

    #: of the picture, what the bounding boxes take
    share: float
    boxes: int


def require_measuring(measuring: Measuring) -> None:
    """Raise ConfigurationError if this process cannot measure what is asked for."""
    if measuring.text and _model() is None:
        raise ConfigurationError(_INSTALL)


def load_detector() -> "ort.InferenceSession":
    """Return the detector. Raise BundleError if it is not installed: another worker may have it."""
    with _lock:
        return _session()


def is_loaded() -> bool:
    """Return whether this process has the detector."""
    return _session.cache_info().currsize > 0


def find_text(detector: "ort.InferenceSession", pixels: Pixels, facts: ImageRow) -> Text:
    """Return the text on a picture that `fit` fitted to `TEXT_PIXELS`."""
    left, top, right, bottom = content_box(facts.width, facts.height, TEXT_PIXELS)
    # The network was trained on BGR of -1 to 1.
    tensor = pixels[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    (found,) = detector.run(None, {detector.get_inputs()[0].name: tensor})
    return _text_in(found[0, 0, top:bottom, left:right])


def _text_in(likely: NDArray[np.float32]) -> Text:
    """Return the text in a map of probabilities, float32 [H, W]."""
    parts, _ = cv2.findContours((likely > _PIXEL).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes, taken = 0, np.zeros(likely.shape, np.bool_)
    for part in parts:
        high, long = sorted(side + 1 for side in cv2.minAreaRect(part)[1])
        if not _LEAST <= high <= _MOST or long < _LENGTH:
            continue
        x, y, width, height = cv2.boundingRect(part)
        inside = np.zeros((height, width), np.uint8)
        cv2.drawContours(inside, [part - np.array([x, y])], -1, 1, cv2.FILLED)
        if cv2.mean(likely[y : y + height, x : x + width], inside)[0] < _MEAN:
            continue
        margin = round(_SHRUNK * high)
        taken[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = True
        boxes += 1
    return Text(float(taken.mean()), boxes)


def _model() -> Path | None:
    """Return the detector's file; None if its package is not installed."""
    package = importlib.util.find_spec("rapidocr")
    folders = package.submodule_search_locations if package else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("models/*_det_*.onnx"))), None)


@lru_cache(maxsize=1)
def _session() -> "ort.InferenceSession":
    import onnxruntime as ort

    path = _model()
    if path is None:
        error = BundleError(_INSTALL)
        error.sha256 = DETECTOR
        raise error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # pictures are measured on all cores at once
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
