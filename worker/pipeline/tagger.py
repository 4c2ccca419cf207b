"""The machine that tags images: sessions, thread pools, limits, and the stages of a batch over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.machine import usable_cores
from tagmill.settings import Settings
from worker.inference.dynamic_batching import DynamicBatcher
from worker.inference.session import Session
from worker.inference.session_cache import BundleFiles, SessionCache
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.decode import Decode, decode_images
from worker.pipeline.fetch import fetch_images
from worker.pipeline.infer import Call, infer_images
from worker.pipeline.known import find_missing
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.timeout_pool import TimeoutPool

#: returns the fetcher that may read these folders, and those of the settings
Fetchers = Callable[[tuple[str, ...]], Fetcher]


@dataclass(frozen=True)
class Pools:
    """The threads of one process."""

    #: read files and decode
    decode: TimeoutPool
    #: fetch URLs: these threads wait for other machines, and need no core
    fetch: TimeoutPool
    #: make the inference calls of one batch in parallel: a last or only batch has the machine to itself
    infer: TimeoutPool

    @property
    def watched(self) -> tuple[TimeoutPool, ...]:
        """The pools whose tasks may get stuck; inference calls are watched through their sessions."""
        return (self.decode, self.fetch)

    def shutdown(self) -> None:
        """End the threads after what is queued."""
        for pool in (self.decode, self.fetch, self.infer):
            pool.shutdown()


class Tagger:
    """The stages of a batch over the sessions, threads and limits of one process. See `build_tagger`."""

    def __init__(
        self, sessions: SessionCache, pools: Pools, decode_limits: DecodeLimits, decoder: Decode, fetcher: Fetchers
    ) -> None:
        self.sessions = sessions
        self.pools = pools
        self.decode_limits = decode_limits
        self.decoder = decoder
        #: the fetcher that may read the folders of a run
        self.fetcher = fetcher
        self._batchers: dict[str, DynamicBatcher] = {}

    def tag(self, images: list[BatchImage], sessions: Sequence[Session], roots: tuple[str, ...]) -> list[BatchImage]:
        """Fetch, decode and infer images of which no result is known."""
        fetch = self.fetcher(roots).fetch
        images = fetch_images(images, fetch, self.pools.decode, self.pools.fetch)
        images = find_missing(images, sessions, known=())
        images = decode_images(images, fetch, self.decode_limits, self.pools.decode, self.decoder)
        return infer_images(images, sessions, self.call_of, self.pools.infer)

    def call_of(self, session: Session) -> Call:
        """Return what makes the calls of a session, shared by all batches of this process."""
        batcher = self._batchers.get(session.sha256)
        if batcher is None:
            new = DynamicBatcher(partial(session.run, best_only=True), session.parallel)
            batcher = self._batchers.setdefault(session.sha256, new)
        return batcher.run

    def close(self) -> None:
        """End the threads."""
        self.pools.shutdown()


def build_tagger(settings: Settings, files: BundleFiles) -> Tagger:
    """Return the tagger of this process: the same for workers, `tag`, `predict` and quarantine processes.

    `files` finds the bundles; each is loaded when it is first used. Nothing of it may pass a fork.
    """
    limits = FetchLimits(
        settings.max_image_bytes, settings.fetch_timeout, settings.allow_private_hosts, settings.fetch_threads
    )
    cores = usable_cores()
    pools = Pools(
        TimeoutPool(settings.decode_threads or cores),
        TimeoutPool(settings.fetch_threads, "fetch"),
        TimeoutPool(cores, "infer"),
    )
    return Tagger(
        SessionCache(settings, files),
        pools,
        DecodeLimits(settings.max_image_pixels, settings.max_image_frames),
        _decoder(settings),
        lru_cache(maxsize=16)(lambda roots: Fetcher([*settings.allowed_roots, *map(Path, roots)], limits)),
    )


def _decoder(settings: Settings) -> Decode:
    if not settings.decode_on_gpu:
        return decode
    from worker.pipeline.gpu_jpeg_decoder import gpu_jpeg_decoder  # loads ONNX Runtime, which must not pass a fork

    return gpu_jpeg_decoder(settings.device, settings.gpu_memory).decode
