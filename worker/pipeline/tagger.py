"""The tagger: the stages of a batch with the sessions, thread pools and limits that they use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.machine import usable_cores
from tagmill.measuring import Measuring
from tagmill.settings import Settings
from worker.inference.session import Session
from worker.inference.session_cache import BundleFiles, SessionCache
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.decode import Decode, decode_images
from worker.pipeline.fetch import fetch_images
from worker.pipeline.infer import infer_images
from worker.pipeline.known import skip_known
from worker.pipeline.measure import measure_images, specs_of
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.host_pool import HostPool
from worker.sources.limits.grants import Grants, OwnGrants
from worker.sources.limits.limiter import HostLimiter
from worker.sources.terms import Terms
from worker.timeout_pool import TimeoutPool

#: returns the fetcher that may read these folders and those of the settings
Fetchers = Callable[[tuple[str, ...]], Fetcher]


@dataclass(frozen=True)
class Pools:
    """The thread pools of one process."""

    #: read files and decode
    decode: TimeoutPool
    #: fetch URLs: these threads wait for other machines and need no core
    fetch: HostPool
    #: fetch locations of object stores and file systems of other machines
    stores: HostPool
    #: run the inference calls of one batch in parallel, so that a last or only batch can use all cores
    infer: TimeoutPool
    #: asks what hosts with limits may be asked
    limiter: HostLimiter

    @property
    def watched(self) -> tuple[TimeoutPool, ...]:
        """The pools that the watchdog watches for stuck tasks; it watches inference calls through their sessions."""
        return (self.decode, self.fetch, self.stores)

    def shutdown(self) -> None:
        """End the threads once their queued tasks are done."""
        for pool in (self.decode, self.fetch, self.stores, self.infer):
            pool.shutdown()
        self.limiter.close()


class Tagger:
    """The stages of a batch, with the sessions, threads and limits of one process. See `build_tagger`."""

    def __init__(
        self, sessions: SessionCache, pools: Pools, decode_limits: DecodeLimits, decoder: Decode, fetcher: Fetchers
    ) -> None:
        self.sessions = sessions
        self.pools = pools
        self.decode_limits = decode_limits
        self.decoder = decoder
        #: the fetcher that may read the folders of a run
        self.fetcher = fetcher

    def tag(
        self,
        images: list[BatchImage],
        sessions: Sequence[Session],
        roots: tuple[str, ...],
        terms: Terms | None = None,
    ) -> list[BatchImage]:
        """Fetch, decode and infer images without known results. `terms` count and limit their requests."""
        terms = terms or Terms()
        source, pools = self.fetcher(roots), self.pools
        images = fetch_images(images, source, pools.decode, pools.fetch, pools.stores, terms)
        fetch = partial(source.fetch, terms=terms)
        images = skip_known(images, sessions)
        images = decode_images(images, fetch, self.decode_limits, self.pools.decode, self.decoder)
        return infer_images(images, sessions, self.pools.infer)

    def measure(self, images: list[BatchImage], roots: tuple[str, ...], measuring: Measuring) -> list[BatchImage]:
        """Fetch, decode and measure images, without any model."""
        source, pools, terms = self.fetcher(roots), self.pools, Terms()
        images = fetch_images(images, source, pools.decode, pools.fetch, pools.stores, terms)
        images = skip_known(images, [], measured_images=lambda shas: ())
        fetch = partial(source.fetch, terms=terms)
        images = decode_images(images, fetch, self.decode_limits, pools.decode, self.decoder, specs_of(measuring))
        return measure_images(images, [], measuring, pools.decode, lambda shas: {})

    def close(self) -> None:
        """End the threads."""
        self.pools.shutdown()


def build_tagger(settings: Settings, files: BundleFiles) -> Tagger:
    """Return a tagger for this process: a worker, `tag`, `predict` or a quarantine process.

    `files` finds the bundles, each of which is loaded on its first use. The process must not fork after that.
    """
    limits = FetchLimits(
        settings.max_image_bytes,
        settings.fetch_timeout,
        settings.allow_private_hosts,
        settings.fetch_threads,
        settings.user_agent,
    )
    allowed: list[Path | str] = [*settings.allowed_roots, *settings.allowed_locations]
    http = limits.http_reader(HostLimiter(_grants(settings)))
    cores = usable_cores()
    pools = Pools(
        TimeoutPool(settings.decode_threads or cores),
        HostPool(settings.fetch_threads, http.paces),
        HostPool(settings.store_requests, http.paces),
        TimeoutPool(cores, "infer"),
        http.paces.limiter,
    )
    return Tagger(
        SessionCache(settings, files),
        pools,
        DecodeLimits(settings.max_image_pixels, settings.max_image_frames),
        _decoder(settings),
        lru_cache(maxsize=16)(lambda roots: Fetcher([*allowed, *roots], limits, http)),
    )


def _grants(settings: Settings) -> Grants:
    if settings.broker_url.startswith("memory:"):
        return OwnGrants()
    from worker.sources.limits.redis_grants import RedisGrants  # loads redis-py, which a local run does not need

    return RedisGrants(settings.broker_url, settings.queue)


def _decoder(settings: Settings) -> Decode:
    if not settings.decode_on_gpu:
        return decode
    from worker.pipeline.gpu_jpeg_decoder import gpu_jpeg_decoder  # loads ONNX Runtime, which does not survive a fork

    return gpu_jpeg_decoder(settings.device, settings.gpu_memory).decode
