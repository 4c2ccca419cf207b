"""The options that say how the images of a run are fetched, the same for `submit` and `tag`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from tagmill.cli.param_types import Finite
from tagmill.fetch_options import FetchOptions, HostLimits

_OPTIONS = (
    click.option(
        "--per-host",
        type=click.IntRange(1, 10_000),
        metavar="N",
        help="Requests to one host under way at the same time, of all workers together.",
    ),
    click.option(
        "--per-host-rate",
        type=Finite(0, 100_000, min_open=True),
        metavar="RATE",
        help="Requests to one host per second, of all workers together.",
    ),
    click.option("--refetch", is_flag=True, help="Read files and URLs again that have not changed."),
)


def fetch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one `FetchOptions` in its argument `fetching`."""

    @wraps(command)
    def with_options(per_host: int | None, per_host_rate: float | None, refetch: bool, **arguments: Any) -> Any:
        return command(fetching=FetchOptions(refetch, HostLimits.of(per_host, per_host_rate)), **arguments)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
