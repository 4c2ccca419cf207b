"""kombu's transport for Sentinel, which asks all sentinels of TAGMILL_BROKER_URL, and says why there is no master."""

from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, redis

from tagmill.broker.sentinel import MasterFinder
from tagmill.broker_url import SentinelUrl


class Channel(redis.SentinelChannel):  # type: ignore[misc]  # kombu is partly typed
    """A channel to the master, whichever it is when a connection is opened."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, "sentinel_url")
    sentinel_url: SentinelUrl

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        options = self._connparams(asynchronous)
        for name in ("host", "port"):
            options.pop(name, None)
        finder = MasterFinder(self.sentinel_url, **options)
        # kombu closes the finder of these names with the channel.
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", finder)
        return finder.master_for(self.sentinel_url.master, redis.redis.Redis).connection_pool


class Transport(redis.SentinelTransport):  # type: ignore[misc]
    """Connections to the master that Sentinel knows."""

    Channel: ClassVar[type] = Channel


def install() -> None:
    """Use this transport for every URL of sentinels of this process."""
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:Transport"
