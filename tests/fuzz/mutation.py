"""Images of every format, and mutations that damage them. The same seed gives the same files."""

import io
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from support.heif_writer import coded, grid, sequence
from support.image_fixtures import encoded, gray_tiff, interlaced_png, png_chunks, swapped_profile
from support.jpeg_writer import flat_blocks_jpeg
from support.png_writer import chunk, png

#: edge values of lengths, counts and sizes
_EDGES = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\x01",
    b"\x00\x00",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
)
#: compressions of a TIFF
_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


def originals() -> list[bytes]:
    """Return undamaged files: every variant of every format."""
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8))
    image = noisy.resize((72, 56), Image.Resampling.BICUBIC)
    clear = image.convert("RGBA")
    clear.putalpha(image.convert("L"))
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    tagged = {"exif": exif, "icc_profile": swapped_profile()}
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return [
        encoded(image, "JPEG"),
        encoded(image, "JPEG", progressive=True, **tagged),
        encoded(image, "JPEG", subsampling=0, restart_marker_blocks=3),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image.convert("L"), "JPEG", optimize=True),
        encoded(image, "PNG", **tagged),
        encoded(clear, "PNG"),
        encoded(image.quantize(16), "PNG", transparency=3),
        encoded(deep, "PNG"),
        encoded(image, "PNG", **frames),
        interlaced_png(image),
        encoded(image, "WEBP", **tagged),
        encoded(clear, "WEBP", lossless=True),
        encoded(image, "WEBP", **frames),
        encoded(image, "GIF"),
        encoded(image.quantize(8), "GIF", transparency=2, interlace=True),
        encoded(image, "GIF", **frames),
        encoded(image, "BMP"),
        encoded(image.quantize(16), "BMP"),
        encoded(clear, "BMP"),
        encoded(image, "TIFF", **tagged),
        *(encoded(image, "TIFF", compression=name) for name in _COMPRESSIONS),
        encoded(image.convert("1"), "TIFF", compression="group4"),
        encoded(deep, "TIFF", **frames | {"append_images": [deep]}),
        encoded(image.convert("CMYK"), "TIFF"),
        gray_tiff(bytes(range(96)), 64, 12),
        *_written(np.asarray(clear), np.asarray(deep)),
        encoded(image, "AVIF", **tagged),
        encoded(clear, "AVIF", subsampling="4:4:4"),
        _without_times(encoded(image, "AVIF", **frames)),
        imagecodecs.avif_encode(np.asarray(deep) >> 6, level=80, bitspersample=10, pixelformat="400"),
        encoded(image, "HEIF", **tagged),
        encoded(clear, "HEIF", chroma=444),
        encoded(image, "HEIF", tile_size=64, **frames),
        encoded(deep, "HEIF"),
        *_boxed(image, clear),
    ]


def _without_times(data: bytes) -> bytes:
    """Return an animation that does not tell when it was written, so that the same seed gives the same files."""
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        place = data.index(kind) + 8  # behind version 1 and flags: when it was created and modified
        data = data[:place] + bytes(16) + data[place + 16 :]
    return data


def _boxed(image: Image.Image, clear: Image.Image) -> Iterator[bytes]:
    """Yield tiles and sequences, with colors, rotation and crop."""
    extra = [
        (b"colr", b"nclx" + struct.pack(">HHHB", 9, 13, 9, 0), False),
        (b"clap", struct.pack(">8i", 40, 1, 30, 1, 5, 2, -3, 1), True),
        (b"irot", b"\3", True),
        (b"imir", b"\1", True),
    ]
    for form in ("AVIF", "HEIF"):
        tile, alpha = coded(encoded(image.resize((64, 64)), form)), coded(encoded(clear.getchannel("A"), form))
        yield grid([tile] * 2, 2, (100, 60), *extra)
        yield sequence([coded(encoded(image, form))] * 3, [alpha] * 3)


def _written(clear: NDArray[np.uint8], deep: NDArray[np.uint16]) -> Iterator[bytes]:
    """Yield variants that Pillow does not write: of PNG, TIFF, BMP, GIF and JPEG."""
    rgb = np.repeat(deep[:, :, None], 3, axis=2)
    key = chunk(b"tRNS", rgb[9, 9].astype(">u2").tobytes())
    yield png(rgb, 2, 16, interlaced=True, before=[key, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(9999)))])
    yield png(clear[:, :, :1] >> 6, 0, 2, before=[chunk(b"tRNS", b"\0\1")])
    palette = chunk(b"PLTE", bytes(range(48)))
    yield png(clear[:, :, :1] >> 4, 3, 4, before=[palette, chunk(b"tRNS", bytes(range(0, 250, 25)))])
    planes = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"], "metadata": None}
    for options in (
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"bigtiff": True},
    ):
        out = io.BytesIO()
        tifffile.imwrite(out, np.ascontiguousarray(clear.transpose(2, 0, 1)), **planes, **options)
        yield out.getvalue()
    out = io.BytesIO()
    inks = np.concatenate([clear, clear[:, :, 3:]], axis=2)
    tifffile.imwrite(out, inks, photometric="separated", extrasamples=["assocalpha"], metadata=None, byteorder=">")
    yield out.getvalue()
    size = clear.shape[1::-1]
    masks = struct.pack("<4I", 0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)
    head = struct.pack("<IiiHHIIiiII", 56, *size, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    yield b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + np.ascontiguousarray(clear).tobytes()
    runs = (
        b"".join(bytes([value % 40 + 1, value, 0, 3, 1, 2, 3, 0, 0, 2, 1, 0, 0, 0]) for value in range(size[1]))
        + b"\0\1"
    )
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, 0, 0, 0, 256, 0)
    yield b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + bytes(range(256)) * 4 + runs
    part = Image.fromarray(clear[:20, :30, 0])
    frame = encoded(part, "GIF")
    yield frame[:6] + struct.pack("<HH", *size) + frame[10:]
    yield flat_blocks_jpeg(((2, 2), (1, 2), (1, 2)), (5, 4))


def mutated(seed: int) -> Iterator[bytes]:
    """Yield damaged files endlessly, from each original in turn."""
    files = originals()
    number = 0
    while True:
        rng = random.Random(f"{seed}-{number}")
        data = files[number % len(files)]
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = rng.choice(_MUTATIONS)(rng, data, files)
        if data.startswith(b"\x89PNG") and rng.random() < 0.5:
            data = _with_correct_checksums(data)
        yield data
        number += 1


def _flip_bits(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 32)) if data else 0):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _edit_header(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    place, value = rng.randrange(min(len(data), 160) or 1), rng.choice(_EDGES)
    return data[:place] + value + data[place + len(value) :]


def _overwrite(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    start, end = _range(rng, data)
    return data[:start] + rng.choice((bytes, rng.randbytes))(end - start) + data[end:]


def _truncate(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    start, end = _range(rng, data)
    return data[:start] + data[end:]


def _insert(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 2, 4, 100))) + data[place:]


def _repeat(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    start, end = _range(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def _swap(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    first, second, third, fourth = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    return data[:first] + data[third:fourth] + data[second:third] + data[first:second] + data[fourth:]


def _swap_parts(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    """Swap two chunks of a PNG or WebP, two segments of a JPEG's header, or two boxes of an AVIF or HEIC."""
    places = _parts(data)
    if len(places) < 3:
        return data
    first, second = sorted(rng.sample(range(len(places) - 1), 2))
    parts = [data[start:end] for start, end in itertools.pairwise(places)]
    parts[first], parts[second] = parts[second], parts[first]
    return data[: places[0]] + b"".join(parts) + data[places[-1] :]


def _splice(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    other = rng.choice(files)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


_MUTATIONS: tuple[Callable[[random.Random, bytes, list[bytes]], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _edit_header,
    _edit_header,
    _overwrite,
    _truncate,
    _delete,
    _insert,
    _repeat,
    _swap,
    _swap_parts,
    _splice,
)


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 512)))


def _parts(data: bytes) -> list[int]:
    """Return the start of each part of a file, and the end of the last one."""
    if data.startswith(b"\xff\xd8"):
        place, head, order, more = 2, 2, ">H", 2
    elif data.startswith(b"RIFF"):
        place, head, order, more = 12, 4, "<I", 8
    elif data.startswith(b"\x89PNG"):
        place, head, order, more = 8, 0, ">I", 12
    elif data[4:8] == b"ftyp":
        # the boxes inside meta, or of a file without it
        place, head, order, more = data.find(b"meta") + 8 if b"meta" in data else 0, 0, ">I", 0
    else:
        return []
    places = [place]
    while place + 8 <= len(data) and data[place : place + 2] != b"\xff\xda":
        length = struct.unpack_from(order, data, place + head)[0] + more
        place += length
        if length == 0 or place > len(data):
            break
        places.append(place)
    return places


def _with_correct_checksums(data: bytes) -> bytes:
    """Return a PNG with correct checksums, so that only its contents are damaged; stops at an unreadable chunk."""
    repaired = io.BytesIO(data)
    try:
        for _, start, end in png_chunks(data):
            if end > len(data):
                break
            repaired.seek(end - 4)
            repaired.write(struct.pack(">I", zlib.crc32(data[start + 4 : end - 4])))
    except struct.error:  # cut inside a chunk's header
        pass
    return repaired.getvalue()
