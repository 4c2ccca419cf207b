"""Measure the limit of the machine: decode and infer on all cores, without queue and database, keeping no result.

`python -m benchmarks.support.raw JOB [decode|infer|plain]` times decoding and inference together. `decode` and `infer`
time one of them alone. `plain` times both without Tagmill's code: simplejpeg's scaled decoding, OpenCV's INTER_AREA and
plain ONNX Runtime.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.plain import new_session, read_area
from benchmarks.support.job import Job, Timed, main
from tagmill.images.decode import decode
from tagmill.images.preprocess import PreprocessSpec, fit
from worker.inference.session import Session

#: images per inference call
BATCH = 16
PARTS = ("both", "decode", "infer", "plain")

Pixels = NDArray[np.uint8]
#: the input batch of each model
Inputs = dict[PreprocessSpec, Pixels]


def measure(job: Job, part: str = "both") -> Timed:
    """Time the images after loading the sessions and one warm-up call. Raise ValueError for an unknown part."""
    if part not in PARTS:
        raise ValueError(f"unknown part {part}")
    sessions = [Session(Path(bundle), job.device, threads=1) for bundle in job.bundles]
    specs = list(dict.fromkeys(session.spec.preprocess for session in sessions))
    decoding = plain_read if part == "plain" else read
    calls = [_call(session, part == "plain") for session in sessions]

    def infer(room: Inputs, count: int) -> None:
        for spec, call in calls:
            call(room[spec][:count])

    def work(files: list[list[str]]) -> None:
        room = _room(specs)
        for chunk in files:
            if part != "infer":
                decoding(chunk, room)
            if part != "decode":
                infer(room, len(chunk))

    first = _room(specs)
    decoding(job.files[:BATCH], first)
    infer(first, BATCH)
    chunks = [job.files[start : start + BATCH] for start in range(0, len(job.files), BATCH)]
    with ThreadPoolExecutor(job.threads) as pool:
        started = time.perf_counter()
        list(pool.map(work, (chunks[number :: job.threads] for number in range(job.threads))))
        return Timed(len(job.files), time.perf_counter() - started)


def read(files: list[str], room: Inputs) -> None:
    """Decode with Tagmill into `room`."""
    for place, file in enumerate(files):
        image = decode(Path(file).read_bytes(), max(spec.decode_side for spec in room)).rgb
        for spec, batch in room.items():
            fit(image, spec, out=batch[place])


def plain_read(files: list[str], room: Inputs) -> None:
    """Decode with simplejpeg and scale with OpenCV into `room`."""
    for place, file in enumerate(files):
        for spec, batch in room.items():
            batch[place] = read_area(file, spec.width)


def _room(specs: list[PreprocessSpec]) -> Inputs:
    return {spec: np.zeros((BATCH, spec.height, spec.width, 3), np.uint8) for spec in specs}


def _call(session: Session, plain: bool) -> tuple[PreprocessSpec, Callable[[Pixels], object]]:
    if plain:
        own = new_session(str(session.path))
        return session.spec.preprocess, lambda images: own.run(None, {"images": images})
    return session.spec.preprocess, lambda images: session.run(images, best_only=True)


if __name__ == "__main__":
    main(lambda job: measure(job, *sys.argv[2:]))
