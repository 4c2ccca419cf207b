"""A file is told by its first bytes: an image that is not read is named, and other files are no images."""

import pytest

from tagmill.images.decode import decode
from tagmill.images.formats.signatures import read_format
from tagmill.outcomes import ErrorCode, ImageFailure

XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- drawn -->\n'
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd" [ <!ENTITY a "b"> ]>\n'


def refusal(data: bytes) -> ImageFailure:
    with pytest.raises(ImageFailure) as caught:
        decode(data.ljust(64, b" "), 256)
    return caught.value


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        (b"II\xbc\x01", "JPEG XR"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (XML + DOCTYPE + b"<svg>", "SVG"),
        (b"\xef\xbb\xbf\n" + XML + b"<svg:svg >", "SVG"),
        (b"8BPS\0\1", "PSD"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"\0\0\2\0\1\0\x10\x10", "CUR"),
        (b"icns\0\0", "ICNS"),
        (b"DDS \x7c", "DDS"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"#?RADIANCE\n", "HDR"),
        (b"qoif\0", "QOI"),
        (b"P6\n640 480\n255\n", "PPM"),
        (b"P4 # drawn\n", "PBM"),
        (b"gimp xcf file", "XCF"),
        (b"FUJIFILMCCD-RAW ", "RAF"),
        (b"IIU\0\x18", "RW2"),
        (b"\x8aMNG\r\n\x1a\n", "MNG"),
        (b"\1\0\0\0".ljust(40, b"\0") + b" EMF", "EMF"),
        (b"\0\0\x0a".ljust(60, b"\0") + b"TRUEVISION-XFILE.\0", "TGA"),
    ],
)
def test_an_image_that_is_not_read_is_named(data: bytes, name: str) -> None:
    failure = refusal(data if name == "TGA" else data.ljust(64, b" "))
    assert failure.code == ErrorCode.UNSUPPORTED_FORMAT
    assert name in failure.detail


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x1cftypavis\0\0\0\0avis", "AVIF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0heicmif1", "HEIC"),
        (b"\0\0\0\x20ftypmp42\0\0\0\0mp41heicisom", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "HEIC"),
    ],
)
def test_brands_name_the_format_of_a_file_whatever_their_order(data: bytes, name: str) -> None:
    assert read_format(data) == name
    assert refusal(data.ljust(int.from_bytes(data[:4]), b" ")).code == ErrorCode.TRUNCATED


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body><svg></svg></body></html>",
        b"<html><head><title>404</title></head></html>",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        b'{"error": "not found"}',
        b"this is no image",
        b"P6 is a code, and this a text",
        b"Please log in",
        b"PK\3\4",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\x1f\x8b\x08\0",
        b"\xff\xd8",
        b"\0" * 64,
        b"GIF88a",
        b"\x89PNG\n\x1a\n",
    ],
)
def test_other_files_are_no_images(data: bytes) -> None:
    assert refusal(data).code == ErrorCode.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "text", [b" " * 5000, b"<!--" * 2000, b"<? ?>" * 1000, b"<!DOCTYPE svg []>" * 400, b"<" + b"a" * 9000]
)
def test_a_text_takes_no_time(text: bytes) -> None:
    assert refusal(text).code == ErrorCode.NOT_AN_IMAGE
