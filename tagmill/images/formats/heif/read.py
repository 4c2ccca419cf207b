"""AVIF with Pillow (libavif, dav1d) and HEIC with pillow-heif (libheif, libde265), from a file of the pixels alone.

The decoders see no metadata, no thumbnails and no later frames. Rotation, crop and colors are applied here.
"""

import io

from PIL import AvifImagePlugin, Image

from tagmill.images.formats.heif.av1 import check_av1
from tagmill.images.formats.heif.colors import profile
from tagmill.images.formats.heif.hevc import check_hevc
from tagmill.images.formats.heif.parts import Part, Parts, write_file
from tagmill.images.formats.heif.select import select_parts, size
from tagmill.images.formats.heif.transforms import crop, orientation
from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

# Images are decoded on many threads already.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def read_heif(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the primary image, or the first frame of a sequence. Raises ImageFailure."""
    parts = select_parts(data, limits)
    stored = parts.all[0]
    width, height = size(stored)
    icc = profile(parts.colors)
    box = crop(stored.properties, width, height)
    for part in parts.all:
        _check_coded(part, limits)
    image = _decoded(parts)
    if image.size != (width, height):
        raise ImageFailure(ErrorCode.CORRUPT, f"the image is {image.width}x{image.height}, not what it announces")
    if box != (0, 0, width, height):
        image = image.crop(box)
    return Still(image, icc, orientation(stored.properties))


def _check_coded(part: Part, limits: DecodeLimits) -> None:
    if part.kind == b"av01":
        check_av1(part.data, limits)
    elif part.kind == b"hvc1":
        check_hevc(part.data, next((found.body for found in part.properties if found.kind == b"hvcC"), memoryview(b"")))


def _decoded(parts: Parts) -> Image.Image:
    """Return mode L, LA, RGB or RGBA."""
    if parts.codec == b"av01":
        with Image.open(io.BytesIO(write_file(parts)), formats=("AVIF",)) as image:
            image.load()
        return image
    try:
        import pillow_heif
    except ImportError as error:
        advice = "install pillow-heif on the worker: pip install 'tagmill[heif]'"
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"HEIC is not read without pillow-heif; {advice}") from error
    # 0 is this thread, 1 would be another. The security limits of libheif are on unless they are switched off.
    pillow_heif.options.DECODE_THREADS = 0
    image = pillow_heif.open_heif(write_file(parts)).to_pillow()
    return image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode))
