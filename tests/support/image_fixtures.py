"""Test images: files that Pillow does not write, ICC profiles built byte by byte, and small data sets."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

#: struct formats of a TIFF's types: 99, which is none, BYTE, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, LONG8, SLONG8
_TIFF_FORMS = {99: "B", 1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 16: "Q", 17: "q"}
#: tag, type, values; a tag may occur more than once
TiffTag = tuple[int, int, list[int]]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """Return the bytes of the file that Pillow writes; `HEIF` is written by pillow-heif."""
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
        if "exif" in options:  # pillow-heif rotates by bytes alone
            options["exif"] = options["exif"].tobytes()
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def gray_tiff(
    samples: bytes, width: int, bits: int, order: str = "<", photometric: int = 1, sample_format: int = 1
) -> bytes:
    """Return an uncompressed TIFF of one row. `photometric` 0: zero is white; `sample_format` 1: unsigned, 3: float."""
    shorts = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 1, 339: sample_format}
    longs = {273: 8, 279: len(samples)}
    samples += b"\0" * (len(samples) % 2)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(samples))
    directory = struct.pack(f"{order}H", len(shorts) + len(longs))
    for tag in sorted(shorts | longs):
        if tag in shorts:
            directory += struct.pack(f"{order}HHIHH", tag, 3, 1, shorts[tag], 0)
        else:
            directory += struct.pack(f"{order}HHII", tag, 4, 1, longs[tag])
    return head + samples + directory + bytes(4)


def tiff_file(tags: list[TiffTag], data: bytes, order: str = "<", big: bool = False) -> bytes:
    """Return a TIFF or BigTIFF with `data` at offset 16 and its one directory at the end."""
    entry, count, following, room = ("HHQ", "Q", "Q", 8) if big else ("HHI", "H", "I", 4)
    body = bytearray(data + b"\0" * (len(data) % 2))
    entries = b""
    for tag, kind, values in tags:
        form = _TIFF_FORMS[kind]
        packed = struct.pack(f"{order}{len(values) * len(form)}{form[0]}", *(values * len(form)))
        entries += struct.pack(order + entry, tag, kind, len(values))
        if len(packed) > room:
            entries += struct.pack(order + following, 16 + len(body))
            body += packed + b"\0" * (len(packed) % 2)
        else:
            entries += packed.ljust(room, b"\0")
    start = 16 + len(body)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(order + count, len(tags)) + entries + bytes(room)
    return (mark + head).ljust(16, b"\0") + bytes(body) + directory


def interlaced_png(image: Image.Image) -> bytes:
    """Return an interlaced PNG of seven passes (Adam7; PNG specification, section 8.2)."""
    pixels = np.asarray(image.convert("RGB"))
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = (row for top, left, down, across in passes for row in pixels[top::down, left::across])
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    file = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        file += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return file


def png_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return type, start and end of each chunk of a PNG; length and checksum are part of the chunk."""
    found, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], place, place + 12 + length))
        place += 12 + length
    return found


def swapped_profile() -> bytes:
    """Return an RGB profile with sRGB's red and blue swapped."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the creation time
    return profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)


def dark_gray_profile() -> bytes:
    """Return a gray profile with gamma 4, whose middle grays are much darker than sRGB's."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 4 << 8) + bytes(2)
    return _profile(b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": curve})


def inverted_ink_profile() -> bytes:
    """Return a CMYK profile in which full ink is white and no ink is black."""
    nodes = b"".join(bytes([255 if node == 15 else 0, 128, 128]) for node in range(16))
    line = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if number % 4 == 0 else 0 for number in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + line * 4 + nodes + line * 3
    return _profile(b"CMYK", b"Lab ", {b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"A2B0": table})


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC version 2 profile (ICC.1:2001-04, section 6)."""
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", place + len(body), len(value))
        body += value
    rest = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), b"test", 0x02400000, b"prtr", space, connection)
    head += bytes(12) + b"acsp"
    head += bytes(68 - len(head)) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + rest


RGB = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


def write_image(path: Path, color: str, size: tuple[int, int] = (60, 40), shade: int = 0) -> Path:
    """Write an image of one color; another `shade` gives different bytes of the same color."""
    red, green, blue = RGB[color]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, green + shade % 12, blue + shade // 12 % 12)).save(path, quality=95)
    return path


def write_folder(folder: Path, images: int) -> dict[str, str]:
    """Write distinct images, in turn red, green and blue; return the color by image_key."""
    truth = {}
    for number in range(images):
        color = list(RGB)[number % 3]
        key = f"{number:05d}.png"
        write_image(folder / key, color, size=(20 + number // 432, 20), shade=number // 3)
        truth[key] = color
    return truth


LABELS = ("background", "square", "stripe")


def square(top: int, left: int, bottom: int, right: int, value: int = 1, size: int = 64) -> np.ndarray:
    """Return an index mask, uint8 [size, size]: `value` in a rectangle, elsewhere 0."""
    index = np.zeros((size, size), dtype=np.uint8)
    index[top:bottom, left:right] = value
    return index


def draw_noisy(folder: Path, categories: tuple[str, ...] = tuple(RGB), each: int = 12, seed: int = 0) -> Path:
    """Write noisy images whose category is their strongest color."""
    random = np.random.default_rng(seed)
    for category in categories:
        (folder / category).mkdir(parents=True)
        for number in range(each):
            noise = random.integers(0, 60, (40, 36, 3)) + np.array(RGB[category]) * 0.5
            Image.fromarray(noise.astype(np.uint8)).save(folder / category / f"{number:03d}.png")
    return folder


def draw_shapes(folder: Path, images: int = 24, seed: int = 0, labels: tuple[str, ...] = LABELS) -> Path:
    """Write images of a red square and a blue stripe with palette masks, in nested folders."""
    random = np.random.default_rng(seed)
    for number in range(images):
        pixels = random.integers(150, 255, (64, 80, 3))
        mask = np.zeros((64, 80), dtype=np.uint8)
        top, left = random.integers(2, 30, 2)
        mask[top : top + 26, left : left + 26] = 1
        mask[:, 62:74] = 2
        pixels[mask == 1] = random.integers(0, 60, 3) + np.array([180, 0, 0])
        pixels[mask == 2] = random.integers(0, 60, 3) + np.array([0, 0, 180])
        stem = f"{'ab'[number % 2]}/{number:03d}"
        for name in ("images", "masks"):
            (folder / name / stem).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{stem}.jpg", quality=95)
        stored = Image.fromarray(mask)
        stored.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        stored.save(folder / "masks" / f"{stem}.png")
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder
