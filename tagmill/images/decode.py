"""From the bytes of an image file to upright sRGB pixels: pick the decoder of its format."""

from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure


def decode(data: bytes, side: int, limits: DecodeLimits | None = None) -> DecodedImage:
    """Decode to upright sRGB, alpha on white; large images are shrunk on the way, no side below `side` pixels.

    Raises ImageFailure with the code of what is wrong with the bytes.
    """
    # here and in `fit`, because those who queue work read specs and never pixels: they need none of the decoders
    from tagmill.images import jpeg, pillow_formats

    limits = limits or DecodeLimits()
    if not data:
        raise ImageFailure(ErrorCode.EMPTY, "0 bytes")
    if data.startswith(jpeg.START):
        return jpeg.read_jpeg(data, side, limits)
    return pillow_formats.read_raster(data, side, limits)
