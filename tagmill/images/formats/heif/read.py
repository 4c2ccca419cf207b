"""AVIF with Pillow (libavif, dav1d) and HEIC with pillow-heif (libheif, libde265), from a file of the pixels alone.

The decoders see no metadata, no thumbnails and no later frames. Rotation, crop and colors are applied here.
"""

from importlib.util import find_spec

from PIL import Image

from tagmill.images.formats.heif.av1 import check_av1, decode_av1
from tagmill.images.formats.heif.colors import profile
from tagmill.images.formats.heif.hevc import check_hevc, decode_hevc
from tagmill.images.formats.heif.parts import Parts
from tagmill.images.formats.heif.select import select_parts
from tagmill.images.formats.heif.transforms import crop, orientation
from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_NO_HEIC = "HEIC is not read without pillow-heif; install it on the worker: pip install 'tagmill[heif]'"


def read_heif(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the primary image, or the first frame of a sequence. Raises ImageFailure."""
    parts = select_parts(data, limits)
    stored = parts.all[0]
    width, height = stored.size
    icc = profile(parts.colors(0))
    box = crop(stored.properties, width, height)
    image = _decoded(parts, limits)
    if image.size != (width, height):
        raise ImageFailure(ErrorCode.CORRUPT, f"the image is {image.width}x{image.height}, not what it announces")
    if box != (0, 0, width, height):
        image = image.crop(box)
    return Still(image, icc, orientation(stored.properties))


def _decoded(parts: Parts, limits: DecodeLimits) -> Image.Image:
    """Return mode L, RGB or RGBA."""
    coded = [part for part in parts.all if part.kind != b"grid"]
    if parts.codec == b"av01":
        for part in coded:
            check_av1(part.data, limits)
        return decode_av1(parts)
    if find_spec("pillow_heif") is None:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, _NO_HEIC)
    for part in coded:
        check_hevc(part)
    return decode_hevc(parts)
