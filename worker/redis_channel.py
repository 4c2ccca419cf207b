"""A channel to Redis that closes whole when Redis is away."""

from queue import Empty

from kombu.transport import redis


class Channel(redis.Channel):
    """kombu's channel, closed in one go even where the answer that it waits for never comes.

    kombu 5.7 leaves such a channel half open, and the next attempt to close it, after the connection has forgotten its
    address, ends the worker with "'NoneType' object has no attribute 'hostname'".
    """

    def close(self) -> None:
        """Give back what was not acknowledged, and close. Raises the connection's errors where Redis is away."""
        if self._in_poll:
            try:
                self._brpop_read()  # type: ignore[no-untyped-call]  # kombu is partly typed
            except (Empty, *self.connection_errors):
                pass  # no message; what Redis may have sent is in its list of unacknowledged ones, or gone with it
        super().close()  # type: ignore[no-untyped-call]


def install() -> None:
    """Let every connection to Redis of this process have such channels."""
    redis.Transport.Channel = Channel
