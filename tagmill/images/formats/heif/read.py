"""AVIF with Pillow (libavif, dav1d) and HEIC with pillow-heif (libheif, libde265), from a file of the pixels alone.

The decoders see no metadata, no thumbnails and no later frames. Rotation, crop and colors are applied here.
"""

import io

from PIL import AvifImagePlugin, Image

from tagmill.images.formats.heif.colors import profile
from tagmill.images.formats.heif.parts import Parts, write_file
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
    icc = profile(stored.properties)
    box = crop(stored.properties, width, height)
    image = _decoded(parts)
    if image.size != (width, height):
        raise ImageFailure(ErrorCode.CORRUPT, f"the image is {image.width}x{image.height}, not what it announces")
    if box != (0, 0, width, height):
        image = image.crop(box)
    return Still(image, icc, orientation(stored.properties))


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
