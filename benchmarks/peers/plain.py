"""Decode and infer without Tagmill."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def new_session(bundle: str, threads: int = 1) -> Any:
    """Return an ONNX Runtime session on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(bundle, options, providers=["CPUExecutionProvider"])


def input_side(session: Any) -> int:
    """Return the pixels per side that the graph takes."""
    return int(session.get_inputs()[0].shape[1])


def best(session: Any, images: Pixels) -> NDArray[np.int64]:
    """Return the best five labels, int64 [N, 5], for uint8 [N, H, W, 3]."""
    scores = session.run(["scores"], {"images": images})[0]
    return np.argsort(-scores, axis=1)[:, :5]


def read_pillow(file: str, side: int) -> Pixels:
    """Decode and resize with Pillow; return uint8 [side, side, 3]."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def read_area(file: str, side: int) -> Pixels:
    """Decode a JPEG scaled with simplejpeg and resize it with OpenCV; read other formats with Pillow."""
    data = Path(file).read_bytes()
    if not data.startswith(b"\xff\xd8"):
        return read_pillow(file, side)
    pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, min_factor=1)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
