"""Measure the pictures of a batch on the inputs that were decoded for it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from tagmill.images.preprocess import PreprocessSpec
from tagmill.measuring import Measuring
from tagmill.outcomes import ImageFailure
from tagmill.records import Mask, PictureRow
from worker.inference.session import Session
from worker.pictures.measure import PIXELS, measure_picture
from worker.pictures.product import ProductMask
from worker.pictures.text_detector import TEXT_PIXELS, find_text, load_detector
from worker.pipeline.batch_image import BatchImage
from worker.timeout_pool import TimeoutPool

log = logging.getLogger(__name__)

#: returns (image sha256, model sha256) -> masks that are stored, of images with these sha256
StoredMasks = Callable[[Iterable[str]], Mapping[tuple[str, str], Sequence[Mask]]]


def specs_of(measuring: Measuring) -> dict[PreprocessSpec, int]:
    """Return the preprocessings that are measured on, each with the side that decoding it must not shrink below.

    Raise BundleError if this worker has no detector for text, before anything is decoded.
    """
    if measuring.text:
        load_detector()
    specs = (PIXELS, TEXT_PIXELS) if measuring.text else (PIXELS,)
    return {spec: spec.decode_side for spec in specs}


def measure_images(
    images: list[BatchImage],
    sessions: Sequence[Session],
    measuring: Measuring,
    pool: TimeoutPool,
    stored_masks: StoredMasks,
) -> list[BatchImage]:
    """Measure every decoded picture that lacks measures, into its `picture`.

    A picture that cannot be measured is tagged without: the next run that measures tries it again.
    """
    wanted = [image for image in images if image.measure and image.facts is not None and image.code is None]
    specs = {session.sha256: session.spec.preprocess for session in sessions if session.spec.task.name == "segment"}
    known = [image.sha256 for image in wanted if image.sha256 and len(image.missing) < len(sessions)] if specs else []
    stored = stored_masks(known) if known else {}

    def measure_one(image: BatchImage) -> PictureRow:
        return _measure(image, _masks(image, specs, stored), measuring)

    for image, found in zip(wanted, pool.run(measure_one, _unmeasured, wanted), strict=True):
        image.picture = found
        image.inputs = {}
    return images


def _measure(image: BatchImage, masks: Sequence[ProductMask], measuring: Measuring) -> PictureRow:
    assert image.facts is not None, "it was decoded"
    row = measure_picture(image.inputs[PIXELS], image.facts, masks)
    if not measuring.text:
        return row
    text = find_text(load_detector(), image.inputs[TEXT_PIXELS], image.facts)
    return replace(row, text_share=text.share, text_boxes=text.boxes)


def _masks(
    image: BatchImage, specs: Mapping[str, PreprocessSpec], stored: Mapping[tuple[str, str], Sequence[Mask]]
) -> list[ProductMask]:
    """Return the masks of an image, by segmenters of this run."""
    fresh = {answer.model_sha256: answer.masks for answer in image.answers}
    found = {sha256: fresh.get(sha256) or stored.get((image.sha256 or "", sha256), ()) for sha256 in specs}
    return [ProductMask(mask, specs[sha256]) for sha256, masks in found.items() for mask in masks]


def _unmeasured(image: BatchImage, error: Exception) -> None:
    """Return None as what was measured on a picture."""
    trace = None if isinstance(error, ImageFailure) else error
    fields = {"action": "picture_not_measured", "position": image.position}
    log.error("picture was not measured", extra=fields, exc_info=trace)
