"""Golden samples: a few images inside a bundle, with the scores and masks that it gave for them at export.

A worker compares its own results with them: another machine, provider or version of ONNX Runtime must give the same.
"""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.bundles.metadata import BundleSpec
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction

#: decimals of a stored score: a tenth of the tightest tolerance
DIGITS = 5
#: colors of a palette PNG, which stores one byte per pixel
PALETTE = 256


@dataclass(frozen=True)
class GoldenSamples:
    """Images as the graph takes them, and its outputs for them."""

    #: uint8 [N, height, width, 3]
    images: NDArray[np.uint8]
    #: float32 [N, labels]
    scores: NDArray[np.float32]
    #: uint8 [N, height, width] for a segmenter, else None
    mask: NDArray[np.uint8] | None
    #: float16 [N, D] of a bundle that gives an embedding, else None
    embedding: NDArray[np.float16] | None = None

    @property
    def expected(self) -> Prediction:
        """The outputs of the graph when the bundle was made."""
        embedding = None if self.embedding is None else self.embedding.astype(np.float32)
        return Prediction(self.scores, self.mask, embedding=embedding)

    def to_text(self) -> str:
        """Return JSON with the images as PNG, which is lossless: every bit stays the same."""
        masks = self.mask if self.mask is not None else [None] * len(self.images)
        embeddings = self.embedding if self.embedding is not None else [None] * len(self.images)
        return json.dumps(
            [
                {"image": _encode_png(image), "scores": [round(float(score), DIGITS) for score in scores]}
                | ({} if mask is None else {"mask": _encode_png(mask)})
                | ({} if embedding is None else {"embedding": _encode_halves(embedding)})
                for image, scores, mask, embedding in zip(self.images, self.scores, masks, embeddings, strict=True)
            ],
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str, spec: BundleSpec) -> Self:
        """Parse the JSON of `to_text`. Raise BundleError if it is not understood or does not fit the bundle."""
        try:
            samples = json.loads(text)
            images = np.stack([_decode_png(sample["image"], "RGB") for sample in samples])
            scores = np.array([sample["scores"] for sample in samples], dtype=np.float32)
            masks = spec.task.gives_masks
            mask = np.stack([_decode_png(sample["mask"], "L") for sample in samples]) if masks else None
            width = spec.embedding
            embedding = np.stack([_decode_halves(sample["embedding"], width) for sample in samples]) if width else None
            size = (len(samples), spec.preprocess.height, spec.preprocess.width)
            if images.shape != (*size, 3) or scores.shape != (len(samples), len(spec.labels)):
                raise ValueError(f"images {images.shape}, scores {scores.shape}")
            if mask is not None and mask.shape != size:
                raise ValueError(f"masks {mask.shape}")
        except (KeyError, IndexError, TypeError, ValueError, OSError, SyntaxError) as error:
            raise BundleError(f"its golden samples are not understood: {error!r}") from error
        return cls(images, scores, mask, embedding)


def _encode_png(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    if pixels.ndim == 3:
        colors, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
        if len(colors) <= PALETTE:
            image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
            image.putpalette(colors.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _encode_halves(values: NDArray[np.float16]) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode("ascii")


def _decode_halves(text: Any, width: int) -> NDArray[np.float16]:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    if values.shape != (width,):
        raise ValueError(f"an embedding of {values.size} numbers")
    return values


def _decode_png(text: Any, mode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
        return np.asarray(image.convert(mode))
