"""`tagmill bench`: find the batch size and the threads that a bundle runs fastest with on this machine.

Other work on a machine makes it faster and slower by the minute. So the candidates take turns for several rounds, and
each one's figure is its median.
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
from worker.devices.resolve import resolve
from worker.inference.session import Session
from worker.inference.tuned_settings import TunedSettings

#: images of one call that are tried on CPUs
BATCHES = (1, 4, 8, 16, 32, 64)
#: and on a GPU, each in a session of its own
GPU_BATCHES = (16, 32, 64, 128, 256)
#: times that each candidate is measured
ROUNDS = 5
#: share of the best median of two rounds below which a candidate is not measured again
PRUNE_BELOW = 0.5
#: share of the best speed that is as good as the best: the smaller batch waits and holds less
TIE_WITHIN = 0.97

Report = Callable[[str], None]


@dataclass
class Candidate:
    """One way to run the bundle, with what was measured of it."""

    session: Session
    batch: int
    #: images per second of each round
    rates: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.batch} images x {self.session.threads} threads x {self.session.parallel} calls"

    @property
    def rate(self) -> float:
        """Return the median, images per second; 0 where it was left out."""
        return statistics.median(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Bench:
    """What was measured."""

    provider: str
    device: Device
    sha256: str
    pictures: int
    seconds: float
    #: images per second of reading and decoding on all cores
    decode_rate: float
    candidates: tuple[Candidate, ...]
    best: Candidate

    @property
    def tuned(self) -> TunedSettings:
        """Return what is kept of it."""
        session = self.best.session
        return TunedSettings(self.best.batch, session.threads, session.parallel, round(self.best.rate, 1))

    @property
    def decode_share(self) -> float:
        """Return the share of an image's time that it is read and decoded, where both stages are on the same cores."""
        return self.best.rate / (self.best.rate + self.decode_rate)

    @property
    def both_rate(self) -> float:
        """Return the images per second of both stages, which share the cores but run side by side with a GPU."""
        if self.device.on_gpu:
            return min(self.decode_rate, self.best.rate)
        return self.best.rate * self.decode_rate / (self.best.rate + self.decode_rate)


def measure(bundle: Path, device: str, files: Sequence[Path], seconds: float, card: GpuOptions, say: Report) -> Bench:
    """Measure for about `seconds`. Raises NothingToDo where no image can be read, and what Session raises."""
    where = resolve(device)
    started = time.monotonic()
    candidates = _on_gpu(bundle, where, card, say) if where.on_gpu else _on_cpu(bundle, where, say)
    session = candidates[0].session
    pictures = readable(files, session.spec.preprocess)
    decode_rates = _rounds(candidates, pictures, started + seconds, say)
    return Bench(
        session.provider,
        where,
        session.sha256,
        len(pictures),
        time.monotonic() - started,
        statistics.median(decode_rates),
        tuple(candidates),
        choose_best(candidates),
    )


def _on_cpu(bundle: Path, device: Device, say: Report) -> list[Candidate]:
    sessions = []
    for threads in thread_counts(usable_cores()):
        say(f"loading {bundle.name} on {device} with {threads} threads a call")
        sessions.append(Session(bundle, str(device), threads))
    return [Candidate(session, batch) for session in sessions for batch in BATCHES]


def _on_gpu(bundle: Path, device: Device, card: GpuOptions, say: Report) -> list[Candidate]:
    """Return the batches that fit the GPU beside the smaller ones, at least one."""
    found: list[Candidate] = []
    for batch in GPU_BATCHES:
        say(f"loading {bundle.name} on {device} with {batch} images a call")
        session = Session(bundle, str(device), batch=batch, card=card)
        if session.best_batch == batch or not found:
            found.append(Candidate(session, session.best_batch))
        if session.best_batch < batch:
            break
    return found


def thread_counts(cores: int) -> list[int]:
    """Return the threads of one call that are tried: powers of two and all cores."""
    return sorted({min(2**power, cores) for power in range(cores.bit_length() + 1)})


def choose_best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the smallest batch, and of these the fastest, among those that are as good as the best."""
    enough = TIE_WITHIN * max(candidate.rate for candidate in candidates)
    good = [candidate for candidate in candidates if candidate.rate >= enough]
    return min(good, key=lambda candidate: (candidate.batch, -candidate.rate))


def readable(files: Sequence[Path], spec: PreprocessSpec) -> list[tuple[Path, NDArray[np.uint8]]]:
    """Return the files that can be decoded, each with its pixels. Raises NothingToDo where none can."""
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
    pictures: Sequence[tuple[Path, NDArray[np.uint8]]],
    deadline: float,
    say: Report,
) -> list[float]:
    """Measure the candidates in turns, and decoding between them; return its images per second."""
    spec = candidates[0].session.spec.preprocess
    files = [file for file, _ in pictures]
    pixels = np.stack([image for _, image in pictures])
    slot = max(0.05, (deadline - time.monotonic()) / (ROUNDS * (len(candidates) + 1)))
    left = list(candidates)
    decoding = []
    for number in range(ROUNDS):
        decoding.append(_decode_rate(files, spec, slot))
        # Back and forth: what drifts within a round favors neither end.
        for candidate in left[:: 1 if number % 2 == 0 else -1]:
            late = time.monotonic() >= deadline
            if late and (number or any(other.rates for other in candidates)):
                return decoding
            if number == 0 and _too_long(candidate, candidates, slot):
                left.remove(candidate)
                continue
            say(f"round {number + 1} of {ROUNDS}: {candidate.name}, fastest {max(c.rate for c in candidates):.0f}/s")
            candidate.rates.append(_infer_rate(candidate, pixels, slot))
        if number:
            fastest = max(candidate.rate for candidate in left)
            left = [candidate for candidate in left if candidate.rate >= PRUNE_BELOW * fastest]
    return decoding


def _too_long(candidate: Candidate, candidates: Sequence[Candidate], slot: float) -> bool:
    """Return whether one round of it takes far longer than a round may, by what the fastest one so far did."""
    fastest = max(other.rate for other in candidates)
    return fastest > 0 and candidate.batch * candidate.session.parallel / fastest > 4 * slot


def _infer_rate(candidate: Candidate, pixels: NDArray[np.uint8], seconds: float) -> float:
    """Return images per second of as many callers as may call at the same time."""
    session, size = candidate.session, candidate.batch
    images = np.resize(pixels, (size, *pixels.shape[1:]))
    if session.fixed_batch or not candidate.rates:
        session.run(images, best_only=True)  # a first call sets memory aside, and wakes a GPU

    def call(_: int) -> int:
        done = 0
        for _ in _until(seconds):
            session.run(images, best_only=True)
            done += size
        return done

    return _together(call, session.parallel)


def _decode_rate(files: Sequence[Path], spec: PreprocessSpec, seconds: float) -> float:
    """Return images per second of reading and decoding on all cores."""
    cores = usable_cores()

    def read(first: int) -> int:
        done = 0
        for number in _until(seconds):
            _read(files[(first + number * cores) % len(files)], spec)
            done += 1
        return done

    return _together(read, cores)


def _together(work: Callable[[int], int], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        images = sum(pool.map(work, range(threads)))
        return images / (time.perf_counter() - started)


def _until(seconds: float) -> Iterator[int]:
    """Count from 0, at least once, until the time is over."""
    end = time.perf_counter() + seconds
    number = 0
    while number == 0 or time.perf_counter() < end:
        yield number
        number += 1


def _read(file: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return fit(decode(file.read_bytes(), spec.decode_side).rgb, spec)
