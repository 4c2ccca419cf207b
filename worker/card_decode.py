"""JPEG files decoded on a graphics card by nvImageCodec, for machines whose CPUs cannot feed the card.

https://docs.nvidia.com/cuda/nvimagecodec/. The card decodes whole pictures; they are shrunk here to the size that
libjpeg shrinks them to while it decodes. The card says nothing of damage, so whatever is not plain and complete is left
to the CPU, whose decoder is strict: see docs/pictures.md.
"""

import os
import threading
from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from tagmill import jpeg, preprocess
from tagmill.colour import needs_conversion
from tagmill.errors import ConfigurationError
from tagmill.exif import SIDEWAYS, turned
from tagmill.outcome import ImageFailure
from tagmill.picture import DecodeLimits, Picture, Pixels

#: grey levels by which the card's pixels may differ from the CPU's on average
TOLERANCE = 2.0
#: the bytes of a whole JPEG -> uint8 [H, W, 3] as they are stored, or None where the card does not read it
ReadWhole = Callable[[bytes], Pixels | None]


class CardDecoder:
    """Decodes what `tagmill.preprocess.decode` does, plain JPEGs on the card. One instance serves all threads."""

    def __init__(self, read_whole: ReadWhole) -> None:
        self._read_whole = read_whole

    def decode(self, data: bytes, side: int, limits: DecodeLimits | None = None) -> Picture:
        """Return the picture as `tagmill.preprocess.decode` does. Raises ImageFailure."""
        limits = limits or DecodeLimits()
        header = _plain_header(data)
        if header is not None:
            limits.check_size(header.width, header.height)
            pixels = self._read_whole(data)
            if pixels is not None and pixels.shape == (header.height, header.width, 3):
                size = header.width, header.height
                upright = size[::-1] if header.orientation in SIDEWAYS else size
                return Picture(turned(_shrunk(pixels, side), header.orientation), *upright, "JPEG")
        return preprocess.decode(data, side, limits)

    def check(self) -> None:
        """Raise ConfigurationError where the card does not give the CPU's pixels."""
        rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
        drawn = np.stack([columns / 639, rows / 479, (np.sin(columns / 40) + 1) / 2], axis=2)
        file = BytesIO()
        Image.fromarray(np.uint8(drawn * 255)).save(file, "JPEG", quality=90)
        found = self._read_whole(file.getvalue())
        if found is None:
            raise ConfigurationError("TAGMILL_DECODE_ON_CARD: nvImageCodec reads no JPEG here; set it to false")
        expected = np.asarray(Image.open(file).convert("RGB"), np.float32)
        if found.shape != expected.shape or np.abs(found - expected).mean() > TOLERANCE:
            raise ConfigurationError("TAGMILL_DECODE_ON_CARD: the card's pixels are not the CPU's; set it to false")


def decoder_on_card(device: str) -> CardDecoder:
    """Return the decoder of the card that `device` means. Raises ConfigurationError where there is none."""
    from worker.session import resolve

    card = resolve(device)
    if not card.on_card:
        raise ConfigurationError(f"TAGMILL_DECODE_ON_CARD: device {card} is no card; set it to false, or name a card")
    return CardDecoder(card_reader(card.index))


def card_reader(index: int) -> ReadWhole:
    """Return a function that decodes on card `index`, with a decoder for each thread.

    Raises ConfigurationError where nvImageCodec or the card is missing.
    """
    # It names the libraries of other formats that are not there, on every start.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    try:
        from nvidia import nvimgcodec
    except ImportError as error:
        raise ConfigurationError(
            "TAGMILL_DECODE_ON_CARD: nvImageCodec is not installed; pip install 'tagmill[gpu,gpu-decode]'"
        ) from error
    kinds = (nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU)
    as_stored = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.SRGB)
    of_thread = threading.local()

    def decoder() -> nvimgcodec.Decoder:
        if not hasattr(of_thread, "decoder"):
            of_thread.decoder = nvimgcodec.Decoder(index, 1, [nvimgcodec.Backend(kind) for kind in kinds])
        return of_thread.decoder

    def read_whole(data: bytes) -> Pixels | None:
        decoded = decoder().decode(data, params=as_stored)
        on_host = None if decoded is None else decoded.cpu()
        return None if on_host is None else np.asarray(on_host)

    try:
        decoder()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"TAGMILL_DECODE_ON_CARD: no decoder on card {index}: {reason}") from error
    return read_whole


def _plain_header(data: bytes) -> jpeg.JpegHeader | None:
    """Return the header of a complete JPEG of three channels in sRGB; None for anything else, damage among it."""
    if not data.startswith(jpeg.START) or not data.endswith(jpeg.END):
        return None
    try:
        header = jpeg.read_header(data)
    except ImageFailure:
        return None
    plain = header.luminance_first and header.single_scan and not needs_conversion(header.icc)
    return header if plain else None


def _shrunk(pixels: Pixels, side: int) -> Pixels:
    """Average areas to the least k/8 of the size, rounded up, that leaves no side below `side`: libjpeg's scaling."""
    height, width = pixels.shape[:2]
    for eighths in range(1, 8):
        small = -(-width * eighths // 8), -(-height * eighths // 8)
        if small[0] >= min(side, width) and small[1] >= min(side, height):
            return np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels
