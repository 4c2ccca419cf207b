"""Compare the decoding of `tagmill.images` with Pillow, from a file's bytes to 224x224x3 pixels, on one thread.

`python -m benchmarks.images.decode --pairs 15 [--folder PHOTOS]` prints for each set of images the ratio of Pillow's
time to Tagmill's: the median and the range over alternating pairs of rounds. Time is the CPU time of the thread,
because wall time on a shared machine includes other work. The last two columns are for a GPU that decodes
(TAGMILL_DECODE_ON_GPU): the work that is left to the CPU, and the difference of the pixels. libjpeg's pixels stand for
the GPU's. The time of the GPU is not included.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks.support.catalogs import images_in, photo_like
from benchmarks.support.comparing import spread
from tagmill.images.decode import decode
from tagmill.images.preprocess import PreprocessSpec, fit
from worker.pipeline.gpu_jpeg_decoder import GpuJpegDecoder
from worker.pipeline.gpu_jpeg_scaling import BLOCK, DctScaler

SPEC = PreprocessSpec(224, 224)
#: images per set
COUNT = 24

Pixels = NDArray[np.uint8]


def tagmill(data: bytes) -> Pixels:
    """Read a file as training, export and worker do."""
    return fit(decode(data, SPEC.decode_side).rgb, SPEC)


def beside_a_gpu(files: Sequence[bytes]) -> Callable[[bytes], Pixels]:
    """Return how a worker reads these files after its GPU has decoded them."""
    jpegs = {data: simplejpeg.decode_jpeg(data, "RGB") for data in files if simplejpeg.is_jpeg(data)}
    scaler = DctScaler(0, place="cpu")

    @cache
    def read(data: bytes, eighths: int) -> Pixels:
        whole = jpegs[data]
        height, width = whole.shape[:2]
        return whole if eighths == BLOCK else scaler.scale(whole.ctypes.data, height, width, eighths)

    gpu = GpuJpegDecoder(read)
    for data in files:
        gpu.decode(data, SPEC.decode_side)
    return lambda data: fit(gpu.decode(data, SPEC.decode_side).rgb, SPEC)


def pillow(data: bytes) -> Pixels:
    """Read a file with Pillow as most programs do."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SPEC.width, SPEC.height), Image.Resampling.BILINEAR))


def pillow_draft(data: bytes) -> Pixels:
    """Read a file with Pillow's draft mode: JPEGs are shrunk to 1/2, 1/4 or 1/8 during decoding."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SPEC.width, SPEC.height))
    return np.asarray(image.convert("RGB").resize((SPEC.width, SPEC.height), Image.Resampling.BILINEAR))


def sets(folder: Path | None) -> dict[str, list[bytes]]:
    """Return the encoded images of each set."""

    def drawn(side: int, form: str, **options: object) -> list[bytes]:
        files = []
        for seed in range(COUNT):
            out = io.BytesIO()
            photo_like(side, seed).save(out, form, **options)
            files.append(out.getvalue())
        return files

    found = {
        "JPEG 500": drawn(500, "JPEG", quality=90),
        "JPEG 800": drawn(800, "JPEG", quality=90),
        "JPEG 1200": drawn(1200, "JPEG", quality=90),
        "JPEG 800 progressive": drawn(800, "JPEG", quality=90, progressive=True),
        "WebP 800": drawn(800, "WEBP", quality=90),
        "PNG 800": drawn(800, "PNG"),
    }
    if folder:
        paths = images_in(folder)
        found[folder.name] = [path.read_bytes() for path in paths[:: max(1, len(paths) // COUNT)][:COUNT]]
    return found


def seconds(method: Callable[[bytes], Pixels], files: Sequence[bytes]) -> float:
    """Return the CPU seconds of the thread per image."""
    start = time.thread_time()
    for data in files:
        method(data)
    return (time.thread_time() - start) / len(files)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="rounds per method")
    parser.add_argument("--folder", type=Path, help="folder of real images for one more set")
    options = parser.parse_args()
    print(
        f"Pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}, OpenCV {cv2.__version__}, "
        f"{COUNT} images a set, {options.pairs} pairs, one thread: median [range]"
    )
    print(
        "| images | KB | ms an image | x Pillow | x Pillow with draft | gray levels from Pillow | "
        "x itself beside a GPU | gray levels from the GPU's |\n|---|---|---|---|---|---|---|---|"
    )
    for name, files in sets(options.folder).items():
        gpu = beside_a_gpu(files)
        rounds = [[seconds(way, files) for way in (tagmill, pillow, pillow_draft, gpu)] for _ in range(options.pairs)]
        own = statistics.median(row[0] for row in rounds)
        plain, draft = ([row[other] / row[0] for row in rounds] for other in (1, 2))
        saved = [row[0] / row[3] for row in rounds]
        size = statistics.fmean(len(data) for data in files) / 1000
        print(
            f"| {name} | {size:.0f} | {own * 1000:.2f} | {spread(plain)} | {spread(draft)} | {apart(pillow, files)} | "
            f"{spread(saved)} | {apart(gpu, files)} |"
        )


def apart(other: Callable[[bytes], Pixels], files: Sequence[bytes]) -> str:
    """Return the mean difference to Tagmill's pixels, in gray levels."""
    return f"{statistics.fmean(np.abs(tagmill(data).astype(int) - other(data)).mean() for data in files):.2f}"


if __name__ == "__main__":
    main()
