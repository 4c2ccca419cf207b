"""Decode the images of a batch, once for all models that lack a result."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from tagmill.images.decode import decode
from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.images.preprocess import PreprocessSpec, fit
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.records import ImageRow
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.fetch import Fetch
from worker.timeout_pool import TimeoutPool

#: the signature of `tagmill.images.decode.decode` and of `GpuJpegDecoder.decode`
Decode = Callable[[bytes, int, DecodeLimits], DecodedImage]
#: nothing is measured
NO_SPECS: Mapping[PreprocessSpec, int] = MappingProxyType({})


def decode_images(
    images: list[BatchImage],
    fetch: Fetch,
    limits: DecodeLimits,
    pool: TimeoutPool,
    decoder: Decode = decode,
    measured: Mapping[PreprocessSpec, int] = NO_SPECS,
) -> list[BatchImage]:
    """Decode every image for which a session lacks a result, or that is to be measured, into its `inputs`.

    Measures are made on the preprocessings in `measured`, each with the side that decoding it must not shrink below.
    These hold uint8 [height, width, 3] per distinct preprocessing. The inputs of one preprocessing are the rows of one
    array, in the order of `images`, so that an inference call needs no copy. An image that cannot be decoded fails;
    nothing is raised for it. One that cannot be decoded with what shadows and canaries need is decoded without that.
    """

    def sides_of(image: BatchImage) -> dict[PreprocessSpec, int]:
        sides = {session.spec.preprocess: session.decode_side for session in (*image.missing, *image.tried)}
        return {**sides, **measured} if image.measure else sides

    # It only returns what it found: a thread that was abandoned, and goes on later, must change no image.
    def decode_one(image: BatchImage) -> ImageRow | Exception:
        data = image.data if image.data is not None else fetch(image.uri).data
        if image.data is None and hashlib.sha256(data).hexdigest() != image.sha256:
            raise ImageFailure(ErrorCode.FETCH_FAILED, "the file changed while it was read")
        sides = sides_of(image)
        for side in sorted({*sides.values()}):
            decoded = decoder(data, side, limits)
            for spec, pixels in image.inputs.items():
                if sides[spec] == side:
                    fit(decoded.rgb, spec, pixels)
        assert image.sha256 is not None, "it was fetched"
        return ImageRow(image.sha256, decoded.width, decoded.height, decoded.format, len(data))

    def failed(image: BatchImage, error: Exception) -> Exception:
        return error

    wanted = [image for image in images if _is_wanted(image) and image.code is None]
    specs = [sides_of(image).keys() for image in wanted]
    counts = Counter(spec for each in specs for spec in each)
    rows = {spec: iter(np.empty((n, spec.height, spec.width, 3), np.uint8)) for spec, n in counts.items()}
    for image, each in zip(wanted, specs, strict=True):
        image.inputs = {spec: next(rows[spec]) for spec in each}
    again: list[BatchImage] = []
    for image, result in zip(wanted, pool.run(decode_one, failed, wanted), strict=True):
        if isinstance(result, Exception) and image.tried:
            again.append(image)
        elif isinstance(result, Exception):
            image.fail_with(result, ErrorCode.CORRUPT)
        else:
            image.facts, image.data = result, None
    if again:  # as if nothing were tried on them
        for image in again:
            image.tried = ()
        decode_images(again, fetch, limits, pool, decoder, measured)
    return images


def _is_wanted(image: BatchImage) -> bool:
    return bool(image.missing or image.tried or image.measure)
