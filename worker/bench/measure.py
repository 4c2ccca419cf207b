"""Measure with which batch size and threads a bundle is fastest on this machine, for `tagmill bench`.

Other work on a machine changes its speed by the minute. So the candidates take turns for several rounds, and the result
of each is its median.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.device import Device
from tagmill.errors import NothingToDo
from tagmill.images.decode import decode
from tagmill.images.preprocess import PreprocessSpec, fit
from tagmill.machine import usable_cores
from tagmill.outcomes import ImageFailure
from worker.devices.provider_options import GpuOptions
from worker.devices.resolve import resolve_device
from worker.inference.session import Session
from worker.inference.tuned_settings import TunedSettings

#: batch sizes that are tried on CPUs
BATCHES = (1, 4, 8, 16, 32, 64)
#: batch sizes that are tried on a GPU, each in its own session
GPU_BATCHES = (16, 32, 64, 128, 256)
#: how often each candidate is measured
ROUNDS = 5
#: a candidate whose median after two rounds is below this share of the best is not measured again
PRUNE_BELOW = 0.5
#: share of the best speed that counts as equal to it: then the smaller batch wins, with less latency and memory
TIE_WITHIN = 0.97

Report = Callable[[str], None]


@dataclass
class Candidate:
    """One way to run the bundle, with its measured speeds."""

    session: Session
    batch: int
    #: images per second of each round
    rates: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.batch} images x {self.session.threads} threads x {self.session.parallel} calls"

    @property
    def rate(self) -> float:
        """The median of its rounds, images per second; 0 if it was not measured."""
        return statistics.median(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Bench:
    """The measurements of one bundle on one machine."""

    provider: str
    device: Device
    sha256: str
    #: images that were measured with
    images: int
    seconds: float
    #: images per second of reading and decoding on all cores
    decode_rate: float
    candidates: tuple[Candidate, ...]
    best: Candidate

    @property
    def tuned(self) -> TunedSettings:
        """The settings that are kept."""
        session = self.best.session
        return TunedSettings(self.best.batch, session.threads, session.parallel, round(self.best.rate, 1))

    @property
    def decode_share(self) -> float:
        """The share of an image's time for reading and decoding, if both stages run on the same cores."""
        return self.best.rate / (self.best.rate + self.decode_rate)

    @property
    def both_rate(self) -> float:
        """Images per second of both stages. They share the cores on a CPU; with a GPU they run at the same time."""
        if self.device.on_gpu:
            return min(self.decode_rate, self.best.rate)
        return self.best.rate * self.decode_rate / (self.best.rate + self.decode_rate)


def measure(bundle: Path, device: str, files: Sequence[Path], seconds: float, gpu: GpuOptions, report: Report) -> Bench:
    """Measure for about `seconds`. Raise NothingToDo if no image can be read, and what Session raises."""
    resolved = resolve_device(device)
    started = time.monotonic()
    candidates = _on_gpu(bundle, resolved, gpu, report) if resolved.on_gpu else _on_cpu(bundle, resolved, report)
    session = candidates[0].session
    images = readable(files, session.spec.preprocess)
    decode_rates = _rounds(candidates, images, started + seconds, report)
    return Bench(
        session.provider,
        resolved,
        session.sha256,
        len(images),
        time.monotonic() - started,
        statistics.median(decode_rates),
        tuple(candidates),
        choose_best(candidates),
    )


def _on_cpu(bundle: Path, device: Device, report: Report) -> list[Candidate]:
    sessions = []
    for threads in thread_counts(usable_cores()):
        report(f"loading {bundle.name} on {device} with {threads} threads a call")
        sessions.append(Session(bundle, str(device), threads))
    return [Candidate(session, batch) for session in sessions for batch in BATCHES]


def _on_gpu(bundle: Path, device: Device, gpu: GpuOptions, report: Report) -> list[Candidate]:
    """Return a candidate for each batch size that fits in GPU memory, at least one."""
    found: list[Candidate] = []
    for batch in GPU_BATCHES:
        report(f"loading {bundle.name} on {device} with {batch} images a call")
        session = Session(bundle, str(device), batch=batch, gpu=gpu)
        if session.best_batch == batch or not found:
            found.append(Candidate(session, session.best_batch))
        if session.best_batch < batch:
            break
    return found


def thread_counts(cores: int) -> list[int]:
    """Return the numbers of threads per call to try: powers of two and all cores."""
    return sorted({min(2**power, cores) for power in range(cores.bit_length() + 1)})


def choose_best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the smallest batch, then the fastest, among those within `TIE_WITHIN` of the best."""
    enough = TIE_WITHIN * max(candidate.rate for candidate in candidates)
    good = [candidate for candidate in candidates if candidate.rate >= enough]
    return min(good, key=lambda candidate: (candidate.batch, -candidate.rate))


def readable(files: Sequence[Path], spec: PreprocessSpec) -> list[tuple[Path, NDArray[np.uint8]]]:
    """Return the files that can be decoded, each with its pixels. Raise NothingToDo if there is none."""
    found = []
    for file in files:
        try:
            found.append((file, _read(file, spec)))
        except (ImageFailure, OSError):
            continue
    if not found:
        raise NothingToDo(f"none of {len(files)} images can be read; name another folder with --data")
    return found


def _rounds(
    candidates: Sequence[Candidate],
    images: Sequence[tuple[Path, NDArray[np.uint8]]],
    deadline: float,
    report: Report,
) -> list[float]:
    """Measure the candidates in turns, and decoding in each round; return the decoding speeds in images per second."""
    spec = candidates[0].session.spec.preprocess
    files = [file for file, _ in images]
    pixels = np.stack([image for _, image in images])
    slot = max(0.05, (deadline - time.monotonic()) / (ROUNDS * (len(candidates) + 1)))
    remaining = list(candidates)
    decoding = []
    for number in range(ROUNDS):
        decoding.append(_decode_rate(files, spec, slot))
        # Back and forth, so that a drift within a round favors neither end.
        for candidate in remaining[:: 1 if number % 2 == 0 else -1]:
            late = time.monotonic() >= deadline
            if late and (number or any(other.rates for other in candidates)):
                return decoding
            if number == 0 and _too_long(candidate, candidates, slot):
                remaining.remove(candidate)
                continue
            report(f"round {number + 1} of {ROUNDS}: {candidate.name}, fastest {max(c.rate for c in candidates):.0f}/s")
            candidate.rates.append(_infer_rate(candidate, pixels, slot))
        if number:
            fastest = max(candidate.rate for candidate in remaining)
            remaining = [candidate for candidate in remaining if candidate.rate >= PRUNE_BELOW * fastest]
    return decoding


def _too_long(candidate: Candidate, candidates: Sequence[Candidate], slot: float) -> bool:
    """Return whether one call of it would take far longer than its slot, at the speed of the fastest so far."""
    fastest = max(other.rate for other in candidates)
    return fastest > 0 and candidate.batch * candidate.session.parallel / fastest > 4 * slot


def _infer_rate(candidate: Candidate, pixels: NDArray[np.uint8], seconds: float) -> float:
    """Return images per second of `session.parallel` callers."""
    session, size = candidate.session, candidate.batch
    images = np.resize(pixels, (size, *pixels.shape[1:]))
    if session.fixed_batch or not candidate.rates:
        session.run(images, best_only=True)  # the first call allocates memory and wakes a GPU

    def call(_: int) -> int:
        done = 0
        for _ in _until(seconds):
            session.run(images, best_only=True)
            done += size
        return done

    return _throughput(call, session.parallel)


def _decode_rate(files: Sequence[Path], spec: PreprocessSpec, seconds: float) -> float:
    """Return images per second of reading and decoding on all cores."""
    cores = usable_cores()

    def read(first: int) -> int:
        done = 0
        for number in _until(seconds):
            _read(files[(first + number * cores) % len(files)], spec)
            done += 1
        return done

    return _throughput(read, cores)


def _throughput(work: Callable[[int], int], threads: int) -> float:
    """Return images per second of `threads` threads that run `work`, which returns its images."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        images = sum(pool.map(work, range(threads)))
        return images / (time.perf_counter() - started)


def _until(seconds: float) -> Iterator[int]:
    """Count from 0, at least once, until `seconds` have passed."""
    end = time.perf_counter() + seconds
    number = 0
    while number == 0 or time.perf_counter() < end:
        yield number
        number += 1


def _read(file: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return fit(decode(file.read_bytes(), spec.decode_side).rgb, spec)
