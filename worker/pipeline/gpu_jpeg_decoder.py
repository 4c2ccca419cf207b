"""Decode JPEG files on a GPU with nvImageCodec, for machines whose CPUs cannot feed the GPU.

https://docs.nvidia.com/cuda/nvimagecodec/. The GPU decodes and shrinks; except for rounding, the pixels are those of
libjpeg. The GPU does not report damage, so an image that is not plain and complete is left to the CPU, whose decoder is
strict: see docs/images.md.
"""

import logging
import os
import threading
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from tagmill.errors import ConfigurationError, first_line
from tagmill.images import decode, jpeg
from tagmill.images.color import needs_conversion
from tagmill.images.exif import SIDEWAYS, apply_orientation
from tagmill.images.image import DecodedImage, DecodeLimits, Pixels
from tagmill.outcomes import ImageFailure
from worker.devices.resolve import resolve
from worker.pipeline.gpu_jpeg_scaling import BLOCK, Shrinker, shrunk

#: mean difference allowed between the pixels of GPU and CPU, in gray levels
TOLERANCE = 2.0
#: takes the bytes of a JPEG and k; returns uint8 [H, W, 3] at k/8 of its size, not rotated, or None if the GPU cannot
#: read it; raises RuntimeError if the GPU fails
Read = Callable[[bytes, int], Pixels | None]

log = logging.getLogger(__name__)


class GpuJpegDecoder:
    """A decoder like `tagmill.images.decode.decode`, for plain JPEGs on the GPU. One instance serves all threads."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._warned = False

    def decode(self, data: bytes, side: int, limits: DecodeLimits | None = None) -> DecodedImage:
        """Return the image as `tagmill.images.decode.decode` does. Raise ImageFailure if it cannot be decoded."""
        limits = limits or DecodeLimits()
        header = _plain_header(data)
        if header is not None:
            limits.check_size(header.width, header.height)
            eighths = _eighths(header.width, header.height, side)
            pixels = self._try(data, eighths)
            if pixels is not None and pixels.shape == (*shrunk(header.height, header.width, eighths), 3):
                size = header.width, header.height
                upright = size[::-1] if header.orientation in SIDEWAYS else size
                return DecodedImage(apply_orientation(pixels, header.orientation), *upright, "JPEG")
        return decode.decode(data, side, limits)

    def check(self) -> None:
        """Raise ConfigurationError if the GPU's pixels differ from the CPU's."""
        rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
        drawn = np.stack([columns / 639, rows / 479, (np.sin(columns / 40) + 1) / 2], axis=2)
        file = BytesIO()
        Image.fromarray(np.uint8(drawn * 255)).save(file, "JPEG", quality=90)
        for side in (480, 240):  # at full size, and shrunk
            expected = decode.decode(file.getvalue(), side).rgb
            try:
                found = self._read(file.getvalue(), _eighths(640, 480, side))
            except RuntimeError as error:
                raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: the GPU fails: {first_line(error)}") from error
            if found is None:
                raise ConfigurationError("TAGMILL_DECODE_ON_GPU: nvImageCodec reads no JPEG here; set it to false")
            if found.shape != expected.shape or np.abs(found.astype(float) - expected).mean() > TOLERANCE:
                raise ConfigurationError("TAGMILL_DECODE_ON_GPU: the GPU's pixels are not the CPU's; set it to false")

    def _try(self, data: bytes, eighths: int) -> Pixels | None:
        """Return the pixels, or None if the GPU cannot read the image or fails; log a warning the first time."""
        pixels, reason = None, "no reason given"
        try:
            pixels = self._read(data, eighths)
        except RuntimeError as error:
            reason = str(error)
        if pixels is None and not self._warned:
            self._warned = True
            extra = {"action": "gpu_decode_failed", "reason": reason}
            log.warning("the GPU leaves images to the CPU", extra=extra)
        return pixels


def gpu_jpeg_decoder(device: str, memory: int = 0) -> GpuJpegDecoder:
    """Return the decoder on the GPU that `device` names. Raise ConfigurationError if it names none.

    `memory` is the GPU memory that shrinking may use, in bytes; 0 means all.
    """
    gpu = resolve(device)
    if not gpu.on_gpu:
        raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: device {gpu} is no GPU; set it to false, or name a GPU")
    return GpuJpegDecoder(gpu_reader(gpu.index, memory))


def gpu_reader(index: int, memory: int = 0, *, cpu: bool = False) -> Read:
    """Return a function that decodes and shrinks on GPU `index`, with one decoder per thread.

    Raise ConfigurationError if nvImageCodec is missing. With `cpu`, do the same without a GPU, for tests.
    """
    # By default it prints a warning for each image that it cannot read.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    try:
        import onnx  # noqa: F401  # part of the same extra
        from nvidia import nvimgcodec
    except ImportError as error:
        raise ConfigurationError(
            f"TAGMILL_DECODE_ON_GPU: {error.name} is not installed; pip install 'tagmill[gpu,gpu-decode]'"
        ) from error
    kinds = [nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU]
    device, place, interface = index, "cuda", "__cuda_array_interface__"
    if cpu:
        device, kinds = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, [nvimgcodec.CPU_ONLY]
        place, interface = "cpu", "__array_interface__"
    as_stored = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.SRGB)
    of_thread = threading.local()
    shrinker = Shrinker(index, memory, place)

    def read(data: bytes, eighths: int) -> Pixels | None:
        if not hasattr(of_thread, "decoder"):
            of_thread.decoder = nvimgcodec.Decoder(device, 1, [nvimgcodec.Backend(kind) for kind in kinds])
        decoded = of_thread.decoder.decode(data, params=as_stored)
        if decoded is None:
            return None
        if eighths == BLOCK:
            return np.asarray(decoded.cpu())
        array = getattr(decoded, interface)
        height, width, channels = array["shape"]
        if channels != 3 or array.get("strides") not in {None, (3 * width, 3, 1)}:
            return None
        return shrinker.shrink(array["data"][0], height, width, eighths)

    return read


def _plain_header(data: bytes) -> jpeg.JpegHeader | None:
    """Return the header of a complete three-channel JPEG in sRGB; None for anything else, such as a damaged file."""
    if not data.startswith(jpeg.START) or not data.endswith(jpeg.END):
        return None
    try:
        header = jpeg.read_header(data)
    except ImageFailure:
        return None
    plain = header.luminance_first and header.single_scan and not needs_conversion(header.icc)
    return header if plain else None


def _eighths(width: int, height: int, side: int) -> int:
    """Return the least k with which k/8 of the size, rounded as by libjpeg, has no side below `side`."""

    def suffices(eighths: int) -> bool:
        rows, columns = shrunk(height, width, eighths)
        return rows >= min(side, height) and columns >= min(side, width)

    return next(eighths for eighths in range(1, BLOCK + 1) if suffices(eighths))
