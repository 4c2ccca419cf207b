"""Which layouts of a TIFF are read: a closed list. Whatever is not in it is refused by name, never guessed."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from tagmill.images.formats.tiff.directory import Directory
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure


class Photometric(IntEnum):
    """What the samples of a pixel mean (tag 262)."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6


#: samples of a pixel that are color; those behind them are extra samples
_COLORS = {
    Photometric.WHITE_IS_ZERO: 1,
    Photometric.BLACK_IS_ZERO: 1,
    Photometric.RGB: 3,
    Photometric.PALETTE: 1,
    Photometric.CMYK: 4,
    Photometric.YCBCR: 3,
}
_UNREAD_PHOTOMETRICS = {
    4: "a transparency mask",
    8: "Lab colors",
    9: "Lab colors",
    10: "Lab colors",
    32803: "a color filter array",
    32844: "logarithmic luminance",
    32845: "logarithmic colors",
    34892: "linear raw samples",
}
NONE, JPEG = 1, 7
#: compressions of bytes: LZW, deflate (two numbers), PackBits, LZMA, zstd
DEFLATE = frozenset({8, 32946})
_PREDICTED = DEFLATE | {5, 34925, 50000}
_OF_BYTES = _PREDICTED | {NONE, 32773}
#: fax: Huffman, group 3, group 4
FAX = frozenset({2, 3, 4})
_UNREAD_COMPRESSIONS = {
    6: "old JPEG",
    32809: "ThunderScan",
    32908: "PixarFilm",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGILog",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_SAMPLE_FORMATS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}
#: values of SampleFormat: unsigned, and undefined, which readers take for unsigned
_UNSIGNED = frozenset({1, 4})
#: values of ExtraSamples: colors were multiplied by alpha, or were not
_ASSOCIATED, _UNASSOCIATED = 1, 2
#: Pixels of a tile that any image may have. Writers use one tile size for all images: 256x256, 512x512, rarely more.
_USUAL_TILE = 2048 * 2048
#: pixels that a larger tile may have, as a multiple of the image's: sides are rounded up to powers of two
_MAX_TILE_RATIO = 4


@dataclass(frozen=True)
class Layout:
    """How the samples of the first page lie in the file. Every combination that `read_layout` returns is read."""

    width: int
    height: int
    photometric: Photometric
    compression: int
    #: of each sample, 1 to 16
    bits: int
    #: of a pixel, with extra samples
    samples: int
    #: each sample has strips or tiles of its own
    separate: bool
    #: struct's sign for the byte order of 16-bit samples
    order: str
    #: a sample is stored as its difference from the one to its left
    predictor: bool
    #: number of the sample that is alpha
    alpha: int | None
    #: colors were multiplied by alpha
    associated: bool
    #: the lowest bit of a byte comes first
    reversed_bits: bool
    #: width and height of a tile, or None for strips
    tile: tuple[int, int] | None
    rows_per_strip: int
    #: of each strip or tile: all of the first plane, then those of the next
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def planes(self) -> int:
        """Images that are stored one after the other."""
        return self.samples if self.separate else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of one plane."""
        return -(-self.width * self.bits * self.samples // self.planes // 8)


def read_layout(directory: Directory, limits: DecodeLimits) -> Layout:
    """Return the layout of the first page. Raises ImageFailure: unsupported_format for one that is not read."""
    width, height = directory.number(256, 0), directory.number(257, 0)
    limits.check_size(width, height)
    _check_raw_photo(directory)
    samples = directory.number(277, 1)
    photometric = _photometric(directory, samples)
    compression = directory.number(259, NONE)
    bits = _bits(directory, samples)
    separate = samples > 1 and _choice(directory, 284, {1: False, 2: True})
    extra = directory.numbers(338)[: samples - _COLORS[photometric]]
    alpha = next((place for place, kind in enumerate(extra) if kind in {_ASSOCIATED, _UNASSOCIATED}), None)
    _check_compression(compression, photometric, bits, samples, separate)
    tile = _tile(directory, width, height, limits)
    rows = min(height, directory.number(278, height))
    if rows < 1:
        raise ImageFailure(ErrorCode.CORRUPT, "the TIFF has strips of 0 rows")
    number = -(-width // tile[0]) * -(-height // tile[1]) if tile else -(-height // rows)
    offsets, lengths = _places(directory, number * (samples if separate else 1), tile is not None)
    return Layout(
        width=width,
        height=height,
        photometric=photometric,
        compression=compression,
        bits=bits,
        samples=samples,
        separate=separate,
        order=directory.order,
        predictor=_predictor(directory, compression, bits),
        alpha=None if alpha is None else _COLORS[photometric] + alpha,
        associated=alpha is not None and extra[alpha] == _ASSOCIATED,
        reversed_bits=_choice(directory, 266, {1: False, 2: True}),
        tile=tile,
        rows_per_strip=rows,
        offsets=offsets,
        lengths=lengths,
    )


def _unsupported(what: str) -> NoReturn:
    raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"a TIFF with {what} is not read")


def _choice(directory: Directory, tag: int, values: dict[int, bool]) -> bool:
    value = directory.number(tag, 1)
    if value not in values:
        raise ImageFailure(ErrorCode.CORRUPT, f"tag {tag} of the TIFF is {value}")
    return values[value]


def _check_raw_photo(directory: Directory) -> None:
    """Raise ImageFailure for the raw photo of a camera: its first page is a thumbnail."""
    if 50706 in directory or directory.data[8:10] == b"CR":
        _unsupported("a camera's raw data (DNG, CR2)")
    if directory.number(254, 0) & 1 and 330 in directory:
        _unsupported("a thumbnail as its first page, such as a camera's raw data,")


def _photometric(directory: Directory, samples: int) -> Photometric:
    if 262 not in directory:
        _unsupported("no photometric interpretation")
    value = directory.number(262, 0)
    if value not in _COLORS:
        _unsupported(_UNREAD_PHOTOMETRICS.get(value, f"the photometric interpretation {value}"))
    photometric = Photometric(value)
    if photometric is Photometric.CMYK and (directory.number(332, 1) != 1 or directory.number(334, 4) != 4):
        _unsupported("inks other than CMYK")
    if samples < _COLORS[photometric]:
        _unsupported(f"{samples} samples in {photometric.name}")
    return photometric


def _bits(directory: Directory, samples: int) -> int:
    bits, formats = directory.numbers(258, (1,)), directory.numbers(339, (1,))
    for value in formats[:samples]:
        if value not in _UNSIGNED:
            _unsupported(f"{_SAMPLE_FORMATS.get(value, 'unknown')} samples")
    if len(set(bits[:samples])) != 1 or (len(bits) < samples and len(bits) != 1):
        _unsupported("samples of different depths")
    if bits[0] == 0:
        raise ImageFailure(ErrorCode.CORRUPT, "the TIFF has samples of 0 bits")
    if bits[0] > 16:
        _unsupported(f"{bits[0]}-bit samples")
    return bits[0]


def _check_compression(compression: int, photometric: Photometric, bits: int, samples: int, separate: bool) -> None:
    depth = f"{bits}-bit {photometric.name} in {samples} samples"
    if compression in _OF_BYTES:
        if photometric is Photometric.YCBCR:
            _unsupported("YCbCr colors outside of JPEG")
        if photometric is Photometric.PALETTE and bits > 8:
            _unsupported(f"a palette of {bits} bits")
    elif compression in FAX:
        if bits != 1 or samples != 1 or photometric > Photometric.BLACK_IS_ZERO:
            _unsupported(f"fax compression of {depth}")
    elif compression == JPEG:
        if bits != 8 or separate or samples != _COLORS[photometric] or photometric is Photometric.PALETTE:
            _unsupported(f"JPEG compression of {depth}{' in separate planes' if separate else ''}")
    else:
        _unsupported(f"{_UNREAD_COMPRESSIONS.get(compression, f'the compression {compression}')}")


def _predictor(directory: Directory, compression: int, bits: int) -> bool:
    predictor = directory.number(317, 1)
    if predictor == 1:
        return False
    if predictor != 2 or compression not in _PREDICTED or bits not in {8, 16}:
        _unsupported(f"the predictor {predictor} of {bits}-bit samples")
    return True


def _tile(directory: Directory, width: int, height: int, limits: DecodeLimits) -> tuple[int, int] | None:
    """Return width and height of a tile, or None for strips. Raises ImageFailure for tiles far larger than the image.

    libtiff allocates a whole tile. A strip ends at the last row of the image.
    """
    if 322 not in directory and 323 not in directory:
        return None
    wide, long = directory.number(322, 0), directory.number(323, 0)
    if wide * long > min(limits.max_pixels, max(_USUAL_TILE, _MAX_TILE_RATIO * width * height)):
        detail = f"tiles of {wide}x{long} pixels for an image of {width}x{height}"
        raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, detail)
    if wide % 16 or long % 16 or not wide or not long:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF has tiles of {wide}x{long} pixels")
    return wide, long


def _places(directory: Directory, number: int, tiled: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return offset and length of each of `number` strips or tiles."""
    starts, lengths = (324, 325) if tiled and 324 in directory else (273, 279)
    offsets = directory.numbers(starts)[:number]
    # Only a file with one strip may leave out its length.
    ends = directory.numbers(lengths, [len(directory.data) - start for start in offsets] if number == 1 else ())
    if min(len(offsets), len(ends)) < number:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF lacks some of its {number} strips or tiles")
    return offsets, tuple(max(0, length) for length in ends[:number])
