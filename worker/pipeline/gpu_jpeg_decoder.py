"""Decode JPEG files on a GPU with nvImageCodec, for machines whose CPUs cannot keep the GPU busy.

https://docs.nvidia.com/cuda/nvimagecodec/. The GPU decodes and scales; the pixels equal libjpeg's except for rounding.
The GPU does not report damage, so every file that is not a plain, complete JPEG is decoded on the CPU, whose decoder is
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
from tagmill.images import decode
from tagmill.images.color import needs_conversion
from tagmill.images.exif import SIDEWAYS, apply_orientation
from tagmill.images.formats import jpeg
from tagmill.images.formats.jpeg_scans import END
from tagmill.images.image import DecodedImage, DecodeLimits, Pixels
from tagmill.outcomes import ImageFailure
from worker.devices.resolve import resolve_device
from worker.pipeline.gpu_jpeg_scaling import BLOCK, DctScaler, scaled_size

#: mean difference allowed between the pixels of GPU and CPU, in gray levels
TOLERANCE = 2.0
#: (bytes of a JPEG, k) -> uint8 [H, W, 3] at k/8 of the stored size, or None if the GPU cannot decode it; raises
#: RuntimeError if the GPU fails
Read = Callable[[bytes, int], Pixels | None]

log = logging.getLogger(__name__)


class GpuJpegDecoder:
    """Decodes like `tagmill.images.decode.decode`, but plain JPEGs on the GPU. One instance serves all threads."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._warned = False

    def decode(self, data: bytes, side: int, limits: DecodeLimits | None = None) -> DecodedImage:
        """Return the image as `tagmill.images.decode.decode` does. Raise ImageFailure."""
        limits = limits or DecodeLimits()
        header = _plain_header(data)
        if header is not None:
            limits.check_size(header.width, header.height)
            eighths = _eighths(header.width, header.height, side)
            pixels = self._read_on_gpu(data, eighths)
            if pixels is not None and pixels.shape == (*scaled_size(header.height, header.width, eighths), 3):
                size = header.width, header.height
                upright = size[::-1] if header.orientation in SIDEWAYS else size
                return DecodedImage(apply_orientation(pixels, header.orientation), *upright, "JPEG")
        return decode.decode(data, side, limits)

    def check(self) -> None:
        """Raise ConfigurationError if the GPU's pixels are not the CPU's."""
        rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
        drawn = np.stack([columns / 639, rows / 479, (np.sin(columns / 40) + 1) / 2], axis=2)
        file = BytesIO()
        Image.fromarray(np.uint8(drawn * 255)).save(file, "JPEG", quality=90)
        for side in (480, 240):  # at its own size, and scaled
            expected = decode.decode(file.getvalue(), side).rgb
            try:
                found = self._read(file.getvalue(), _eighths(640, 480, side))
            except RuntimeError as error:
                raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: the GPU fails: {first_line(error)}") from error
            if found is None:
                raise ConfigurationError("TAGMILL_DECODE_ON_GPU: nvImageCodec reads no JPEG here; set it to false")
            if found.shape != expected.shape or np.abs(found.astype(float) - expected).mean() > TOLERANCE:
                raise ConfigurationError("TAGMILL_DECODE_ON_GPU: the GPU's pixels are not the CPU's; set it to false")

    def _read_on_gpu(self, data: bytes, eighths: int) -> Pixels | None:
        """Return the pixels, or None if the GPU does not decode the image; log the first such failure of a process."""
        pixels, reason = None, "no reason given"
        try:
            pixels = self._read(data, eighths)
        except RuntimeError as error:
            reason = str(error)
        if pixels is None and not self._warned:
            self._warned = True
            extra = {"action": "gpu_decode_failed", "reason": reason}
            log.warning("the GPU cannot decode an image; the CPU does", extra=extra)
        return pixels


def gpu_jpeg_decoder(device: str, memory: int = 0) -> GpuJpegDecoder:
    """Return the decoder of the GPU that `device` names. Raise ConfigurationError if it is not a GPU.

    `memory` is how many bytes of GPU memory scaling may use; 0 means all.
    """
    gpu = resolve_device(device)
    if not gpu.on_gpu:
        raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: device {gpu} is no GPU; set it to false, or name a GPU")
    return GpuJpegDecoder(gpu_reader(gpu.index, memory))


def gpu_reader(index: int, memory: int = 0, *, cpu: bool = False) -> Read:
    """Return a function that decodes and scales on GPU `index`, with one decoder per thread.

    Raise ConfigurationError if nvImageCodec is not installed. With `cpu` it does the same without a GPU, for tests.
    """
    # Otherwise nvImageCodec prints a warning for each image that it cannot decode.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    try:
        import onnx  # noqa: F401  # installed by the same extra
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
    local = threading.local()
    scaler = DctScaler(index, memory, place)

    def read(data: bytes, eighths: int) -> Pixels | None:
        if not hasattr(local, "decoder"):
            local.decoder = nvimgcodec.Decoder(device, 1, [nvimgcodec.Backend(kind) for kind in kinds])
        decoded = local.decoder.decode(data, params=as_stored)
        if decoded is None:
            return None
        if eighths == BLOCK:
            return np.asarray(decoded.cpu())
        layout = getattr(decoded, interface)
        height, width, channels = layout["shape"]
        if channels != 3 or layout.get("strides") not in {None, (3 * width, 3, 1)}:
            return None
        return scaler.scale(layout["data"][0], height, width, eighths)

    return read


def _plain_header(data: bytes) -> jpeg.JpegHeader | None:
    """Return the header of a complete sRGB JPEG of three channels; None for any other or a damaged file."""
    if not data.startswith(jpeg.START) or not data.endswith(END):
        return None
    try:
        header = jpeg.read_header(data)
    except ImageFailure:
        return None
    plain = header.luminance_first and header.single_scan and not needs_conversion(header.icc)
    return header if plain else None


def _eighths(width: int, height: int, side: int) -> int:
    """Return the least k for which k/8 of the size, as libjpeg scales it, has no side below `side`."""

    def is_enough(eighths: int) -> bool:
        rows, columns = scaled_size(height, width, eighths)
        return rows >= min(side, height) and columns >= min(side, width)

    return next(eighths for eighths in range(1, BLOCK + 1) if is_enough(eighths))
