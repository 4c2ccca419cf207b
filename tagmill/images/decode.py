"""Decode the bytes of an image file to upright sRGB pixels, with the decoder of its format."""

from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure


def decode(data: bytes, side: int, limits: DecodeLimits | None = None) -> DecodedImage:
    """Decode to upright sRGB, alpha on white. Large images are shrunk while decoding, no side below `side` pixels.

    Raises ImageFailure with the code of what is wrong with the bytes.
    """
    # Imported here, as in `fit`: a producer reads specs but no pixels, and is installed without the decoders.
    from tagmill.images.formats import jpeg, raster

    limits = limits or DecodeLimits()
    if not data:
        raise ImageFailure(ErrorCode.EMPTY, "0 bytes")
    if data.startswith(jpeg.START):
        return jpeg.read_jpeg(data, side, limits)
    return raster.read_raster(data, side, limits)
