"""Masks at the size of their image, worked out run by run: no image of pixels is made, however large the image is."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from producer.output.image_result import ImageResult
from tagmill.images.preprocess import PreprocessSpec, content_box
from tagmill.records import Mask
from tagmill.registry.models import Model
from tagmill.tasks.masks import decode_mask, image_span

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class FullSizeMask:
    """A mask at the size of its image: the pixels that `tagmill results --masks` writes."""

    label: str
    score: float
    #: 0 to 1, of the part of the image that the model saw
    area_share: float
    width: int
    height: int
    #: the smallest box around its pixels: left, top, width, height; zeros if it has none
    box: tuple[int, int, int, int]
    #: pixels
    area: int
    #: compressed counts of a COCO RLE
    rle: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values in COCO's format."""
        return {
            "label": self.label,
            "score": self.score,
            "area_share": self.area_share,
            "bbox": list(self.box),
            "rle": {"size": [self.height, self.width], "counts": self.rle},
        }


def full_size_masks(found: ImageResult, name: str) -> list[FullSizeMask]:
    """Return the masks of an image that the model of that name made."""
    if name not in found.masks:
        return []
    assert found.width is not None, "a tagged image has a size"
    assert found.height is not None, "a tagged image has a size"
    model, width, height = found.models[name], found.width, found.height
    return [full_size(mask, model, width, height) for mask in found.masks[name]]


def full_size(mask: Mask, model: Model, width: int, height: int) -> FullSizeMask:
    """Return a mask of the model at the size of its image. It may have no pixel if the image is small."""
    starts, ends = runs(mask, model, width, height, by_column=True)
    lines = starts // height
    box = (0, 0, 0, 0)
    if len(starts):
        left, right = int(lines[0]), int(lines[-1]) + 1
        top, bottom = int((starts - lines * height).min()), int((ends - lines * height).max())
        box = (left, top, right - left, bottom - top)
    area = int((ends - starts).sum())
    rle = _encode(starts, ends, width, height)
    return FullSizeMask(mask.label, mask.score, mask.area_share, width, height, box, area, rle)


def runs(mask: Mask, model: Model, width: int, height: int, *, by_column: bool) -> tuple[Positions, Positions]:
    """Return where the runs of a mask's pixels start and end in the image, int64 [N] each, in ascending order.

    A pixel's position is `x * height + y` by column, `y * width + x` by row. A run is within one column or row.
    """
    spec = _spec(tuple(model.spec["preprocess"].items()))
    left, top, right, bottom = content_box(width, height, spec)
    content = decode_mask(mask.rle, mask.height, mask.width)[top:bottom, left:right]
    x0, x1, y0, y1 = image_span(spec, width, height)
    if by_column:
        return _scaled(content.T, (x0, x1), (y0, y1), height)
    return _scaled(content, (y0, y1), (x0, x1), width)


def _scaled(
    content: NDArray[np.bool_], lines: tuple[int, int], along: tuple[int, int], length: int
) -> tuple[Positions, Positions]:
    """Scale a mask bool [lines, pixels] to a range of lines and of their pixels; a line has `length` pixels."""
    edges = np.zeros((content.shape[0], content.shape[1] + 2), dtype=np.bool_)
    edges[:, 1:-1] = content
    line, edge = np.nonzero(edges[:, 1:] != edges[:, :-1])
    # An edge before source pixel N is before the first pixel of the image that shows N or a later one.
    at = along[0] + np.searchsorted(_sources(content.shape[1], along[1] - along[0]), edge)
    line, starts, ends = line[::2], at[::2], at[1::2]
    seen = starts < ends
    line, starts, ends = line[seen], starts[seen], ends[seen]
    source = _sources(content.shape[0], lines[1] - lines[0])
    count = np.bincount(line, minlength=content.shape[0])
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    repeats = count[source]
    before = np.cumsum(repeats) - repeats
    chosen = np.arange(repeats.sum()) + np.repeat(first[source] - before, repeats)
    offset = np.repeat(np.arange(lines[0], lines[1]) * length, repeats)
    return offset + starts[chosen], offset + ends[chosen]


@lru_cache(maxsize=64)
def _spec(values: tuple[tuple[str, Any], ...]) -> PreprocessSpec:
    return PreprocessSpec.from_dict(dict(values))


@lru_cache(maxsize=512)
def _sources(pixels: int, scaled: int) -> Positions:
    """Return the source of each of `scaled` pixels among `pixels`, as Pillow's nearest neighbor chooses it."""
    ramp = Image.fromarray(np.arange(pixels, dtype=np.int32)[None])
    found: Positions = np.asarray(ramp.resize((scaled, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
    return found


def _encode(starts: Positions, ends: Positions, width: int, height: int) -> str:
    """Return the compressed counts of COCO's run-length encoding, as pycocotools writes them."""
    bounds = np.zeros(2 * len(starts) + 2, dtype=np.int64)
    bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = starts, ends, width * height
    counts = bounds[1:] - bounds[:-1]
    if not counts[1:].all():  # a run goes on in the next column, or the last one ends with the image
        kept = np.ones(len(bounds), dtype=np.bool_)
        joined = np.flatnonzero(counts[1:] == 0) + 1
        kept[joined], kept[joined + 1] = False, False
        kept[-1] |= bounds[kept][-1] != bounds[-1]
        counts = np.diff(bounds[kept])
    encoded = coco.frPyObjects([{"counts": counts.tolist(), "size": [height, width]}], height, width)
    found: bytes = encoded[0]["counts"]
    return found.decode("ascii")
