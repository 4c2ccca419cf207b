"""Trace a submit, if TAGMILL_TRACES is set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tagmill.settings import Settings


@contextmanager
def traced_submit(settings: Settings) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Trace what happens inside the block as one span. Yield the function that adds attributes to it.

    The run that is written inside remembers the span, so that its batches link to it.
    """
    if not settings.traces:
        yield lambda attributes: None
        return
    from tagmill.tracing import Tracing, describe

    tracing = Tracing("tagmill-producer")
    try:
        with tracing.submit() as span:
            yield lambda attributes: describe(span, attributes)
    finally:
        tracing.close()
