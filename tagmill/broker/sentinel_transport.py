"""kombu's transport for Sentinel, which asks all sentinels of TAGMILL_BROKER_URL, and says why there is no master."""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from tagmill.broker.sentinel import MasterFinder, client_of
from tagmill.broker_url import SentinelUrl


class Channel(redis.SentinelChannel):
    """A channel to the master, whichever it is when a connection is opened."""

    from_transport_options = (  # type: ignore[assignment]  # kombu has a tuple of this length only
        *redis.SentinelChannel.from_transport_options,
        "sentinel_url",
    )
    sentinel_url: SentinelUrl

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        options = self._connparams(asynchronous)  # type: ignore[no-untyped-call]  # kombu is partly typed
        options = {name: value for name, value in options.items() if name not in {"host", "port"}}
        finder = MasterFinder(self.sentinel_url, **options)
        # kombu closes the finder of these names with the channel.
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", finder)
        return client_of(finder, self.sentinel_url).connection_pool


class Transport(redis.SentinelTransport):
    """Connections to the master that Sentinel knows."""

    Channel = Channel


def install() -> None:
    """Use this transport for every URL of sentinels of this process."""
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:Transport"
