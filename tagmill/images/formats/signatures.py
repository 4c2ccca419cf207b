"""Recognize the format of a file by its first bytes: those that are read, and those that are named when refused."""

import re
from importlib.util import find_spec

from tagmill.outcomes import ErrorCode, ImageFailure

#: first bytes of the formats that are read, beside JPEG
_READ = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
#: media types of the formats that are always read
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff", "image/avif")
_HEIC_TYPES = ("image/heic", "image/heif")
#: first bytes of image formats that are not read
_UNREAD = {
    b"8BPS": "Photoshop (PSD)",
    b"%PDF-": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"II\xbc\0": "JPEG XR",
    b"\0\0\1\0": "ICO",
    b"\0\0\2\0": "CUR or TGA",
    b"icns": "ICNS",
    b"\x8aMNG\r\n\x1a\n": "MNG",
    b"\x8bJNG\r\n\x1a\n": "JNG",
    b"DDS ": "DDS",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"qoif": "QOI",
    b"gimp xcf ": "GIMP (XCF)",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"FORM": "IFF",
    b"AT&TFORM": "DjVu",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"SIMPLE  =": "FITS",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"\x01\xda\0\1": "SGI",
    b"\x01\xda\1\1": "SGI",
    b"II\x1a\0\0\0HEAPCCDR": "CRW raw",
    b"IIRO": "ORF raw",
    b"IIRS": "ORF raw",
    b"MMOR": "ORF raw",
    b"IIU\0": "RW2 raw",
    b"FUJIFILMCCD-RAW": "RAF raw",
    b"\0MRM": "MRW raw",
    b"FOVb": "X3F raw",
}
#: brands of the ISO base media file format that hold images and are read; others hold films
_READ_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
}
#: brands of images of any codec, which is HEVC in nearly all files that name no other brand
_GENERAL_BRANDS = dict.fromkeys((b"mif1", b"mif2", b"msf1"), "HEIC")
_UNREAD_BRANDS = {b"crx ": "CR3 raw", b"jxl ": "JPEG XL", b"jp2 ": "JPEG 2000"}
#: bytes of a text in which its first element is looked for
_TEXT = 4096
#: The first element of an SVG, and what may stand before it: a byte order mark, white space, declarations, comments.
#: With possessive quantifiers nothing is tried twice, so no text takes long.
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s++|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+svg[^\[>]*+(?>\[.*?\]\s*+)?>)*+<(?:\w++:)?svg[\s>]",
    re.DOTALL,
)
_PORTABLE = re.compile(rb"P[1-7Ff][\s#]+[\d#W-]")


def media_types() -> tuple[str, ...]:
    """Return the media types of the formats that are read here, in the order in which servers are asked for them."""
    # The formats that cost most to decode come last: of a server that has several, they are not wanted.
    return (*_MEDIA_TYPES, *(_HEIC_TYPES if find_spec("pillow_heif") else ()))


def begins_as_image(data: bytes) -> bool:
    """Return whether bytes begin as those of an image of any known format, read or not."""
    if data.startswith(b"\xff\xd8\xff"):
        return True
    try:
        read_format(data)
    except ImageFailure as failure:
        return failure.code == ErrorCode.UNSUPPORTED_FORMAT
    return True


def read_format(data: bytes) -> str:
    """Return the name of the format, one that is read and is not JPEG. Raises ImageFailure for all others."""
    for name, starts in _READ.items():
        if data.startswith(starts):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if branded := _named_by(_READ_BRANDS, data) or _named_by(_GENERAL_BRANDS, data):
        return branded
    if unread := _unread(data):
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"{unread} is not read")
    raise ImageFailure(ErrorCode.NOT_AN_IMAGE, "its bytes are of no image format")


def _unread(data: bytes) -> str | None:
    """Return the name of a known format that is not read."""
    if name := _named_by(_UNREAD_BRANDS, data):
        return name
    for start, name in _UNREAD.items():
        if data.startswith(start):
            return name
    if data[:4] == b"\1\0\0\0" and data[40:44] == b" EMF":
        return "EMF"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        return "TGA"
    if _SVG.match(data[:_TEXT]):
        return "SVG"
    return "PBM, PGM or PPM" if _PORTABLE.match(data[:64]) else None


def _named_by(brands: dict[bytes, str], data: bytes) -> str | None:
    """Return the format of a file that names one of the brands."""
    if data[4:8] != b"ftyp":
        return None
    # The major brand decides; files of iPhones and of some tools name a general one and list the others.
    named = [data[place : place + 4] for place in (8, *range(16, min(int.from_bytes(data[:4]), 256), 4))]
    return next((brands[brand] for brand in named if brand in brands), None)
